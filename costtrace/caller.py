"""Where a warning points: at the line of the user's own code, not at one of ours or of an SDK."""

from __future__ import annotations

import sys
from types import FrameType

_NOT_THE_USERS = frozenset(
    ("costtrace", "openai", "anthropic", "wrapt", "asyncio", "concurrent", "threading")
)


def stack_level() -> int:
    """Return the `stacklevel` at which whoever calls this warns of the user's line.

    Where no such line is on the stack, in a thread of our own, it is beyond the stack: then the
    warning shows no line at all.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and _package(frame) in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]

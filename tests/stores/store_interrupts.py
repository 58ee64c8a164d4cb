"""Ctrl-C, or the handler of another signal, anywhere."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal


def interrupted_at(line: int, step: Callable[[], object]) -> bool:
    """Do a step, with Ctrl-C before a certain line of the stores' code; False if it has fewer."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    try:
        broken_into_at(line, step, interrupt)
    except KeyboardInterrupt:
        return True
    return False


def broken_into_at(
    place: int,
    step: Callable[[], object],
    handler: Callable[[], object],
    *,
    is_anywhere: bool = False,
    by: Literal["line", "opcode"] = "line",
) -> bool:
    """Do a step, with a signal's handler before a certain line of it; False if it has fewer.

    Anywhere: between the lines that take and give back a lock too. By the opcode: before each
    instruction of a line, as a signal may come.
    """
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if "costtrace/stores" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = by == "opcode"
        if event == by and (is_anywhere or not _is_lock_line(frame)):
            seen += 1
            if seen == place + 1:
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
    return seen > place


def _is_lock_line(frame: FrameType) -> bool:
    """Python itself leaves a lock locked when it is interrupted while giving it back."""
    code = frame.f_code
    is_lock = code.co_filename.endswith(("database.py", "filelock.py"))
    if is_lock and code.co_name in ("_bounded", "_alone", "release"):
        return True
    return linecache.getline(code.co_filename, frame.f_lineno).strip().startswith("with ")

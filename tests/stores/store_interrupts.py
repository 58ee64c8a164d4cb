"""Ctrl-C, or the handler of another signal, anywhere."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


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
    line: int,
    step: Callable[[], object],
    handler: Callable[[], object],
    *,
    is_anywhere: bool = False,
) -> bool:
    """Do a step, with a signal's handler before a certain line; False if it has fewer.

    Anywhere: between the lines that take and give back a lock too.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if "costtrace/stores" not in frame.f_code.co_filename:
            return None
        if event == "line" and (is_anywhere or not _is_lock_line(frame)):
            lines += 1
            if lines == line + 1:
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
    return lines > line


def _is_lock_line(frame: FrameType) -> bool:
    """Python itself leaves a lock locked when it is interrupted while giving it back."""
    code = frame.f_code
    is_lock = code.co_filename.endswith(("database.py", "filelock.py"))
    if is_lock and code.co_name in ("_bounded", "_alone", "release"):
        return True
    return linecache.getline(code.co_filename, frame.f_lineno).strip().startswith("with ")

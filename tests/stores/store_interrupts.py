"""Ctrl-C, anywhere."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def interrupted_at(line: int, step: Callable[[], object]) -> bool:
    """Do a step, with Ctrl-C before a certain line of the stores' code; False if it has fewer."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if "costtrace/stores" not in frame.f_code.co_filename:
            return None
        if event == "line" and not _is_lock_line(frame):
            lines += 1
            if lines > line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def _is_lock_line(frame: FrameType) -> bool:
    """Python itself leaves a lock locked when it is interrupted while giving it back."""
    code = frame.f_code
    is_lock = code.co_filename.endswith(("database.py", "filelock.py"))
    if is_lock and code.co_name in ("_bounded", "_alone", "release"):
        return True
    return linecache.getline(code.co_filename, frame.f_lineno).strip().startswith("with ")

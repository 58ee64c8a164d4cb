"""The clocks that stores take leases' time from, in microseconds since the epoch; and time-outs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def wall_clock() -> int:
    """Return the time that all processes of a machine agree on."""
    return time.time_ns() // 1000


def steady_clock() -> Callable[[], int]:
    """Return a clock that starts at the wall clock's time and is never set back."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset_ns) // 1000


def checked_timeout(timeout_s: float) -> float:
    """Return a number of seconds; raises `ValueError` for one that is not positive or no number."""
    if not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s must be a positive number of seconds, not {timeout_s!r}")
    return timeout_s

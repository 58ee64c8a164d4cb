"""The clocks that stores take leases' time from: microseconds since the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable


def wall_clock() -> int:
    """Return the time that all processes of a machine agree on."""
    return time.time_ns() // 1000


def steady_clock() -> Callable[[], int]:
    """Return a clock that starts at the wall clock's time and is never set back."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset_ns) // 1000

"""Waiting for what happens in another thread or process, on a machine that may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Look again and again; fail when it is not so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)

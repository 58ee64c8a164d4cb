"""The handler of a signal runs in the middle of whatever its thread is doing: a store's step, say.

It can be told so, or be served where nothing is half done; waiting for itself it never may.
"""

from __future__ import annotations

import re
import threading
from typing import Any

_Lock: Any = type(threading.RLock())
AMID_A_STEP = (
    "this thread is in the middle of a step of the ledger: the handler of a signal cannot use it "
    "now; let it note what is to be done later"
)


class OwnLock(_Lock):  # type: ignore[misc]
    """A lock that knows its thread from the instruction on that takes it.

    A note beside the lock is late for the handler of a signal that comes just between the two.
    """

    is_mine = _Lock._is_owned
    """Return whether this thread has it."""


def depth_of(lock: object) -> int:
    """Return how often the thread that has a re-entrant lock has taken it; 0 if it is free."""
    found = re.search(r"count=(\d+)", repr(lock))  # the one way that all Pythons tell it
    return int(found[1]) if found else 0


def is_taken_twice(lock: object) -> bool:
    """Return whether the thread that has the lock has taken it again."""
    return depth_of(lock) > 1

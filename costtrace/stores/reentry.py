"""The handler of a signal runs in the middle of whatever its thread is doing: a store's step, say.

It can be told so, or be served where nothing is half done; waiting for itself it never may.
"""

from __future__ import annotations

import re

AMID_A_STEP = (
    "this thread is in the middle of a step of the ledger: the handler of a signal cannot use it "
    "now; let it note what is to be done later"
)


def depth_of(lock: object) -> int:
    """Return how often the thread that has a re-entrant lock has taken it; 0 if it is free."""
    found = re.search(r"count=(\d+)", repr(lock))  # the one way that all Pythons tell it
    return int(found[1]) if found else 0


def is_taken_twice(lock: object) -> bool:
    """Return whether the thread that has the lock has taken it again."""
    return depth_of(lock) > 1

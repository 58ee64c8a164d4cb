"""The handler of a signal runs in the middle of whatever its thread is doing: a store's step, say.

It can be told so, or be served where nothing is half done; waiting for itself it never may.
"""

from __future__ import annotations

from threading import RLock

AMID_A_STEP = (
    "this thread is in the middle of a step of the ledger: the handler of a signal cannot use it "
    "now; let it note what is to be done later"
)


def is_taken_twice(lock: RLock) -> bool:
    """Return whether the thread that has the lock has taken it again."""
    return "count=1 " not in repr(lock)  # the one way that all Pythons tell it

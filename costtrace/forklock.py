"""Locks that a forked child finds free: nobody gives back there what another thread held."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class ForkLock:
    """A re-entrant lock, used as `with lock.now:`; a forked child gets a new one.

    Whoever was inside when it forked leaves the one that it took.
    """

    def __init__(self) -> None:
        self.now = threading.RLock()
        _locks.add(self)


_locks: WeakSet[ForkLock] = WeakSet()


def _renew() -> None:
    for lock in list(_locks):
        lock.now = threading.RLock()


os.register_at_fork(after_in_child=_renew)

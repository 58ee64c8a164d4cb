"""The lock of a store in memory: whoever finds it taken lets others run, and asks again.

A thread that queues for a lock is given it before it is given the interpreter. Until it has both,
every thread that runs finds the lock taken and queues as well: once that has begun, each step costs
two changes of thread, for as long as several threads are at it.
"""

from __future__ import annotations

import time

from costtrace.stores.reentry import OwnLock, depth_of

PATIENCE = 100
"""Times that a thread asks again before it queues: by then the step it waits for is a long one."""


class TurnLock(OwnLock):
    """A re-entrant lock for short steps; used by `with`, and like `threading.RLock` otherwise."""

    def __enter__(self) -> bool:
        before = depth_of(self) if self.is_mine() else 0
        try:
            return self.acquire(False) or self._wait()
        except BaseException:  # a signal's handler raised, perhaps just after the lock was got
            if self.is_mine() and depth_of(self) > before:
                self.release()
            raise

    def _wait(self) -> bool:
        for _ in range(PATIENCE):
            time.sleep(0)
            if self.acquire(False):
                return True
        return bool(self.acquire())

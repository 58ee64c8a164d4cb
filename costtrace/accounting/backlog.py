"""The backlog: what a store could not take when it was to be written, oldest first.

It is written when the store answers again, in the order in which it came. What a store will never
take (a number or a name that it cannot keep) is let go of at once, so that nothing waits behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from costtrace.exceptions import CallConflictError

log = logging.getLogger("costtrace")
MOST_WAITING = 100_000
RETRY_S = 1.0
"""Seconds between two tries, so that calls do not queue up for a store that hangs."""
NEVER_TAKEN = (ValueError, TypeError, CallConflictError)
"""Errors of a store for what it will not take at any other time either."""

Write: TypeAlias = "Callable[[], object]"


class Backlog:
    """Steps that wait for a store. Safe from any thread."""

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        self._failed = failed
        self._steps: deque[tuple[str, Write]] = deque()
        self._lock = threading.Lock()
        self._not_before_s = 0.0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._steps)

    def write(self, what: str, step: Write) -> None:
        """Take a step now; if the store is away, as soon as it is back."""
        if self._steps:
            self.add(what, step)
            self.drain()
        elif not self._is_done(what, step):
            self.add(what, step)

    def add(self, what: str, step: Write) -> None:
        """Let a step wait."""
        if len(self._steps) < MOST_WAITING:
            self._steps.append((what, step))
        else:
            self.let_go("too many entries wait for the store")

    def drain(self, *, is_urgent: bool = False) -> bool:
        """Take the steps that wait, oldest first; return whether nothing waits any more.

        Not urgent: not if the last try has just failed, and not if another thread is at it.
        """
        if not self._steps:
            return True
        if not is_urgent and time.monotonic() < self._not_before_s:
            return False
        if not self._lock.acquire(blocking=is_urgent):
            return False
        try:
            while self._steps:
                if not self._is_done(*self._steps[0]):
                    return False
                self._steps.popleft()
        finally:
            self._lock.release()
        return True

    def let_go(self, why: str) -> None:
        """Count what is not kept, and say so once."""
        self.lost += 1
        if self.lost == 1:
            log.error("an entry is lost: %s", why)

    def start_over(self) -> None:
        """Begin anew in a forked child: what waits is the parent's."""
        self._lock = threading.Lock()
        self._steps.clear()

    def _is_done(self, what: str, step: Write) -> bool:
        """Take one step; return whether it needs no other try."""
        try:
            step()
        except CallConflictError as error:  # settled by somebody else: what stands, stands
            self._failed(what, error)
        except NEVER_TAKEN as error:
            self._failed(what, error)
            self.let_go(f"the store takes no such thing: {type(error).__name__}")
        except Exception as error:
            self._failed(what, error)
            self._not_before_s = time.monotonic() + RETRY_S
            return False
        return True

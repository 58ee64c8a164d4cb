"""The backlog: what a store could not take when it was to be written, oldest first.

It is written when the store answers again, in the order in which it came, and waits in a spool
until then, so that it outlives the process. What a store will never take (a number or a name that
it cannot keep) is let go of at once, so that nothing waits behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from costtrace.accounting.waiting import Release, Settlement, Waiting, name_of
from costtrace.exceptions import CallConflictError
from costtrace.stores.reentry import is_taken_twice

if TYPE_CHECKING:  # a ledger in memory has no use for a spool
    from costtrace.accounting.spool import Adoption, Kept, Spool

log = logging.getLogger("costtrace")
MOST_WAITING = 100_000
MOST_UNCERTAIN = 10_000
"""Waiting steps beyond which no hold is given back that was probably never made."""
RETRY_S = 1.0
"""Seconds between two tries, so that calls do not queue up for a store that hangs."""
NEVER_TAKEN = (ValueError, TypeError, CallConflictError)
"""Errors of a store for what it will not take at any other time either."""


class Backlog:
    """Steps that wait for a store. Safe from any thread."""

    def __init__(
        self,
        take: Callable[[Waiting], object],
        failed: Callable[[str, Exception], None],
        spool: Spool | None,
    ) -> None:
        self._take = take
        self._failed = failed
        self._spool = spool
        self._steps: deque[tuple[Waiting, Kept | None]] = deque()
        self._draining, self._adding = threading.RLock(), threading.RLock()
        self._not_before_s = 0.0
        self.lost = 0
        self._has_failed_to_spool = False
        self.unspooled = 0
        """Certain steps that wait in memory alone."""
        self.recovered = 0
        """Steps of dead processes that were done."""
        self.torn = 0
        """Steps that were cut off when their process died."""

    def __len__(self) -> int:
        return len(self._steps)

    def write(self, step: Waiting) -> bool:
        """Take a step now; if the store is away, as soon as it is back. Return whether it waits."""
        if not self._steps and self._is_done(step):
            return False
        self.add(step)
        return True

    def add(self, step: Waiting) -> None:
        """Let a step wait; while a settlement waits, its own hold stands for what it leaves."""
        if isinstance(step, Settlement) and (step.rest is not None or step.frees):
            self._append(replace(step, rest=None, frees=""))
            if step.frees:
                self._append(Release(step.frees))
        else:
            self._append(step)

    def _append(self, step: Waiting) -> None:
        is_certain = not isinstance(step, Release) or step.is_certain
        with self._adding:
            if len(self._steps) < (MOST_WAITING if is_certain else MOST_UNCERTAIN):
                self._steps.append((step, self._kept(step) if is_certain else None))
            elif is_certain:
                self.let_go("too many entries wait for the store")

    def drain(self, *, is_urgent: bool = False) -> bool:
        """Take the steps that wait, oldest first; return whether nothing waits any more.

        Not urgent: not if the last try has just failed, and not if another thread is at it. Never
        in the handler of a signal whose thread is at it.
        """
        if not self._steps:
            return True
        if not is_urgent and time.monotonic() < self._not_before_s:
            return False
        if not self._draining.acquire(blocking=is_urgent):
            return False
        try:
            while self._steps:
                if is_taken_twice(self._draining) or not self._is_done(self._steps[0][0]):
                    return False
                self._remove_first()
        finally:
            self._draining.release()
        return True

    def adopt(self, deadline_s: float) -> bool:
        """Take what dead processes left in their spools, until `time.monotonic` says so.

        Return whether nothing is left of it. Nothing is done while steps of this process wait.
        """
        if self._spool is None or self._steps:
            return self._spool is None
        try:
            with self._draining:
                if is_taken_twice(self._draining):
                    return False
                found = self._spool.adopt(
                    lambda step: time.monotonic() < deadline_s and self._is_done(step)
                )
        except Exception as error:  # whatever a file may be, the ledger opens
            log.warning("what other processes left cannot be read: %s", error)
            return True
        self._note(found)
        return found.is_complete

    def let_go(self, why: str) -> None:
        """Count what is not kept, and say so once."""
        self.lost += 1
        if self.lost == 1:
            log.error("an entry is lost: %s", why)

    def close(self) -> None:
        """Leave what waits to the next process that opens the ledger."""
        with self._adding:
            if self._spool is not None:
                self._spool.let_go()

    def start_over(self) -> None:
        """Begin anew in a forked child: what waits is the parent's."""
        self._draining, self._adding = threading.RLock(), threading.RLock()
        self._steps.clear()
        self.unspooled = 0
        if self._spool is not None:
            self._spool.let_go()

    def _kept(self, step: Waiting) -> Kept | None:
        """Write a step down; where that fails, it waits in memory alone.

        So does what the handler of a signal adds while its thread is writing.
        """
        if self._spool is not None and not is_taken_twice(self._adding):
            try:
                return self._spool.keep(step)
            except Exception as error:
                if not self._has_failed_to_spool:
                    self._has_failed_to_spool = True
                    log.error("what waits for the store is in memory alone: %s", error)
        self.unspooled += 1
        return None

    def _remove_first(self) -> None:
        with self._adding:
            step, kept = self._steps.popleft()
            if kept is not None and self._spool is not None:
                self._spool.done(kept)
            elif not isinstance(step, Release) or step.is_certain:
                self.unspooled -= 1

    def _note(self, found: Adoption) -> None:
        self.recovered += found.steps
        self.torn += found.torn
        if found.steps:
            log.warning("%d entries of processes that died were found and entered", found.steps)
        for path in found.damaged:
            self.let_go(f"a spool cannot be read and is kept as {path}")

    def _is_done(self, step: Waiting) -> bool:
        """Take one step; return whether it needs no other try."""
        try:
            self._take(step)
        except CallConflictError as error:  # settled by somebody else: what stands, stands
            self._failed(name_of(step), error)
        except NEVER_TAKEN as error:
            self._failed(name_of(step), error)
            self.let_go(f"the store takes no such thing: {type(error).__name__}")
        except Exception as error:
            self._failed(name_of(step), error)
            self._not_before_s = time.monotonic() + RETRY_S
            return False
        return True

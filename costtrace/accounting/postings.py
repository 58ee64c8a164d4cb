"""How a call's money moves: reserved before it is sent, settled or released after it.

All that can go wrong with a store ends here. A reservation under a hard limit is refused when the
store cannot be asked; anything else goes on, and what could not be written waits until the store
answers again, or for the next process that opens the ledger.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from costtrace.accounting.alerts import AlertBook
from costtrace.accounting.backlog import NEVER_TAKEN, Backlog
from costtrace.accounting.headroom import Glances, Headroom
from costtrace.accounting.health import FAULTS, Health, Overruns, Tally
from costtrace.accounting.lease import LEASE_S, Heartbeat, process_name
from costtrace.accounting.limits import LimitBook
from costtrace.accounting.lines import Lines
from costtrace.accounting.outage import NotAsked, Outage
from costtrace.accounting.recovery import Recovery
from costtrace.accounting.refusals import Refused, passed
from costtrace.accounting.retention import Retention
from costtrace.accounting.sharing import is_worker, warn_if_shared
from costtrace.accounting.spool import Spool
from costtrace.accounting.terms import BudgetTerms
from costtrace.accounting.waiting import Release, Settlement, Waiting
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError, CallConflictError
from costtrace.instant import to_us
from costtrace.money import to_usd
from costtrace.stores.base import (
    BudgetRecord,
    Crossing,
    Hold,
    Limit,
    Refusal,
    Store,
)
from costtrace.stores.forks import survive_forks

log = logging.getLogger("costtrace")
FOREVER_S = 366 * 86_400.0
"""The lease in a store that dies with the process: nothing is left there to lapse."""
REDELIVER_S = 10.0
LOOK_S = 1.0
"""Seconds between two looks for alerts that another process did not live to send."""
_REFUSED, _UNRESERVED = "would have been refused", "sent unreserved"


class Postings:
    """Reserves, settles and releases calls in one store. Safe from any thread."""

    def __init__(
        self,
        store: Store,
        own: BudgetTerms,
        alerts: AlertBook,
        now: Callable[[], datetime],
        spool: Spool | None = None,
    ) -> None:
        self.store = store
        self.own = own
        self.alerts = alerts
        self.now = now
        self.process = process_name()
        """The name of this process, another one after a fork."""
        self.lines, self.glances = Lines(), Glances()
        self.overruns = Overruns()
        self.dropped: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Calls whose streams were closed or collected, to be settled by whoever comes next."""
        self.payers: dict[tuple[int, ...], Any] = {}
        """Who pays under which budgets, as far as it was worked out."""
        self.last_payers: tuple[object, Any] | None = None
        """What the scope of the last call carried, and who paid for it."""
        self.limits = LimitBook(own, self.define)
        self._in_memory = not store.is_blocking
        self._lease_s = FOREVER_S if self._in_memory else LEASE_S
        self._heartbeat = Heartbeat(self._beat)
        self._undefined: deque[BudgetRecord] = deque()
        self._crossed: deque[Crossing] = deque()
        self._failures, self._counts = Tally(), Tally()
        self._outage = Outage()
        self._ask = self._outage.ask
        self._backlog = Backlog(self._take, self._failed, spool)
        self._recovery = Recovery(self._backlog, self._outage, self._renew, self._see_to_the_rest)
        self._looked_for_alerts_s = 0.0
        self._has_other_processes = False
        self._has_warned_shared = False
        self._retention: Retention | None = None
        alerts.watch(own)
        survive_forks(self)
        self._recovery.adopt()

    def keep(self, days: int) -> None:
        """Let entries go that are older, from now on. Never raises."""
        self._retention = Retention(self.store, days, self.now)
        self._let_go()

    def define(self, terms: BudgetTerms) -> None:
        """Watch a budget's thresholds; readers of the store will know of it with its next step.

        Asks no store: whoever opens a budget may stand on an event loop.
        """
        if self.alerts.watch(terms) and not terms.block_id:
            window = terms.window
            self._undefined.append(
                BudgetRecord(
                    terms.user_id, window.name, window.tz_name, terms.limit_pico, terms.alert_at
                )
            )

    # before a call

    def reserve(self, entry: CostEntry, budgets: tuple[BudgetTerms, ...]) -> Refused | None:
        """Hold an entry's cost on all who pay for it, or on none and say who refused.

        Raises `BudgetStoreError` when the store cannot be asked and one of the budgets wants to be
        sure.
        """
        if self._undefined or not self.dropped.empty():
            self.collect()
        known = self.limits.at(entry.user_id, budgets, to_us(entry.timestamp))
        if self._in_memory and known.limits and not self._has_warned_shared:
            self._warn_if_shared(known.limits)
        hold = Hold(entry, known.owners, known.limits, self._lease_s, self.process)
        try:
            reserve = self.store.reserve
            refusal = reserve(hold) if self._in_memory else self._ask(reserve, hold)
        except CallConflictError:
            raise
        except Exception as error:
            self._refuse_or_go_on("reserve", error, budgets, entry.call_id)
            return None
        if not self._in_memory:
            self._heartbeat.ensure()
        if refusal is None:
            return None
        return Refused(known.terms[known.limits.index(refusal.limit)], refusal)

    def headroom(self, at: datetime, budgets: tuple[BudgetTerms, ...]) -> Headroom:
        """Return the least that is left of these budgets and the ledger's own.

        Raises `BudgetStoreError` like `reserve`.
        """
        room: Headroom | None = None
        at_us = to_us(at)
        for terms in (self.own, *budgets):
            limit = terms.limit(at_us) if terms.refuses else None
            if limit is not None:
                try:
                    balance = self._ask(self.store.balance, limit.owner, limit.span)
                except Exception as error:
                    self._refuse_or_go_on("read a balance", error, budgets)
                    continue
                left = Headroom.left(limit, balance)
                room = left if room is None else room.least(left)
        return Headroom() if room is None else room

    def refusing(self, entry: CostEntry, budgets: tuple[BudgetTerms, ...]) -> list[Refused]:
        """Return which budgets that only warn would have refused an entry. Never raises."""
        at_us, found = to_us(entry.timestamp), []
        for terms in (self.own, *budgets):
            limit = terms.limit(at_us) if terms.on_exceed == "warn" else None
            if limit is None:
                continue
            try:
                balance = self._ask(self.store.balance, limit.owner, limit.span)
            except Exception as error:
                self._failed("observe a budget", error)
                continue
            if (unit := passed(limit, balance, entry)) is not None:
                found.append(Refused(terms, Refusal(limit, balance, unit)))
        return found

    def observed(self, error: Exception) -> None:
        """Note what would have been refused, with the error that would have told it."""
        self._counts.add(_REFUSED)
        log.warning("sent, but would have been refused: %s", error)

    # after it

    def settle(
        self,
        entry: CostEntry,
        owners: tuple[str, ...],
        *,
        amend: bool = False,
        must_be_new: bool = False,
        rest: CostEntry | None = None,
        frees: str = "",
    ) -> None:
        """Enter what a call did cost; if the store is away, as soon as it is back.

        `rest` stays reserved: what a call may still cost that is entered before its end; `frees` is
        the id of an earlier rest.
        Raises nothing, but with `must_be_new` what the store says of an entry that it will never
        take: `CallConflictError` for an id that is known at another cost, `ValueError` for an
        amount beyond all it counts to. Else the first one stands.
        """
        if self._undefined:
            self._define_waiting()
        held = None if rest is None else Hold(rest, owners, (), self._lease_s, self.process)
        step = Settlement(entry, owners, amend, held, frees)
        waits = self._write_new(step) if must_be_new else self._backlog.write(step)
        if waits:
            self._recovery.ensure()
        if self._retention is not None and self._retention.is_due():
            self._let_go()
        if self._crossed or time.monotonic() - self._looked_for_alerts_s >= LOOK_S:
            self._send_alerts()

    def _write_new(self, step: Settlement) -> bool:
        """Write a step that has to be new; return whether it waits."""
        if self._backlog:
            return self._backlog.write(step)
        try:
            self._take(step)
        except NEVER_TAKEN:
            raise
        except Exception as error:
            self._failed("settle", error)
            self._backlog.add(step)
            return True
        return False

    def abandon(self, entry: CostEntry, owners: tuple[str, ...]) -> None:
        """Charge a call that nobody settled as its worst case. Never raises."""
        with suppress(*NEVER_TAKEN):
            self.settle(entry, owners, must_be_new=True)

    def release(self, call_id: str) -> None:
        """Give back what was held for a call that was never billed. Never raises."""
        if self._backlog.write(Release(call_id)):
            self._recovery.ensure()

    def drop(self, owner: str) -> None:
        """Forget an owner that nobody will ask about again. Never raises."""
        self.alerts.forget(owner)
        self._attempt("drop", lambda: self._ask(self.store.drop, owner))

    def collect(self) -> None:
        """Do what was put off: settle the calls whose streams were dropped. Never raises."""
        self._define_waiting()
        for _ in range(self.dropped.qsize()):  # what is put off once more is for the next one
            try:
                settle = self.dropped.get_nowait()
            except Empty:
                return
            self._attempt("settle what was dropped", settle)

    def drain(self) -> bool:
        """Write what waits, oldest first; return whether nothing waits any more."""
        self.collect()
        is_written = self._recovery.finish()
        self._send_alerts()
        return is_written

    def _take(self, step: Waiting) -> None:
        """Have the store do a step; raises what it raises."""
        if isinstance(step, Release):
            self._ask(self.store.release, step.call_id)
            return
        entry, owners = step.entry, step.owners
        watches = self.alerts.watches(owners, to_us(entry.timestamp))
        settle = self.store.settle
        if step.rest is not None or step.frees:
            settle = partial(settle, rest=step.rest, frees=step.frees)
        if self._in_memory:
            crossed = settle(entry, owners, watches, amend=step.amend)
        else:
            crossed = self._ask(settle, entry, owners, watches, amend=step.amend)
        if crossed:
            self._crossed.extend(crossed)

    def _define_waiting(self) -> None:
        while self._undefined and not self._recovery.is_due:
            with suppress(IndexError):  # another thread was faster
                record = self._undefined.popleft()
                try:
                    self._ask(self.store.define, record)
                except Exception as error:
                    self._failed("define", error)
                    if not isinstance(error, NEVER_TAKEN):
                        self._undefined.append(record)
                        return

    # alerts

    def _send_alerts(self) -> None:
        """Deliver what was crossed, and what somebody has latched who did not live to send it."""
        now_s = time.monotonic()
        if now_s - self._looked_for_alerts_s >= LOOK_S and not self._recovery.is_due:
            self._looked_for_alerts_s = now_s
            self._attempt(
                "look for alerts",
                lambda: self._crossed.extend(self._ask(self.store.undelivered, REDELIVER_S)),
            )
        crossed: list[Crossing] = []
        while self._crossed:
            with suppress(IndexError):  # another thread was faster
                crossed.append(self._crossed.popleft())
        if crossed:
            keys = self.alerts.deliver(crossed)
            self._attempt(
                "note an alert as delivered", lambda: self._ask(self.store.delivered, keys)
            )

    # how it fares

    @property
    def waiting(self) -> int:
        """How many entries and releases wait for the store."""
        return len(self._backlog)

    def health(self) -> Health:
        """Return what went wrong by now in this process."""
        overruns = self.overruns
        return Health(
            store_failures=self._failures.counts(),
            waiting=len(self._backlog),
            unspooled=self._backlog.unspooled,
            recovered=self._backlog.recovered,
            torn=self._backlog.torn,
            lost=self._backlog.lost,
            unreserved=self._counts.of(_UNRESERVED),
            internal_faults=FAULTS.counts(),
            would_have_refused=self._counts.of(_REFUSED),
            overruns=overruns.calls,
            overrun_usd=to_usd(overruns.total_pico),
            largest_overrun_usd=to_usd(overruns.largest_pico),
        )

    def close(self) -> None:
        """Write what waits and stop the heartbeat."""
        self._heartbeat.stop()
        self._recovery.stop()
        self.drain()
        self._backlog.close()

    def _beat(self) -> int:
        self._recovery.adopt()
        self._see_to_the_rest()
        more = 0 if self._retention is None else self._retention.go_on()
        return self._ask(self._renew) + more

    def _see_to_the_rest(self) -> None:
        """Do what no call has done by now."""
        self.collect()
        self._send_alerts()

    def _let_go(self) -> None:
        """Let a batch of old entries go; if that is not all, the rest in the background."""
        if self._retention is not None and not self._recovery.is_due:
            self._attempt("let old entries go", self._retention.step)
            if self._retention.has_more:
                self._heartbeat.ensure()

    def _renew(self) -> int:
        return self.store.renew(self.process, self._lease_s)

    # forks

    def before_fork(self) -> None:
        """Do nothing: no lock of these is held over a step of a store."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Start over: what the parent holds, and what waits there, is the parent's."""
        self.process = process_name()
        self._has_other_processes = True
        self.dropped = SimpleQueue()
        self._crossed.clear()
        self._heartbeat = Heartbeat(self._beat)
        self._backlog.start_over()
        self._recovery.start_over()
        self.alerts.start_over()
        self.limits.start_over()
        self.lines.renew_lock()
        self.overruns.renew_lock()

    def _warn_if_shared(self, limits: Sequence[Limit]) -> None:
        """Say, once, that each process keeps a budget of its own."""
        if self._has_other_processes or is_worker():
            self._has_warned_shared = warn_if_shared(limits)

    # failures

    def _refuse_or_go_on(
        self, what: str, error: Exception, budgets: tuple[BudgetTerms, ...], call_id: str = ""
    ) -> None:
        """Raise when one of the budgets wants to be sure; else the call goes on unreserved."""
        self._failed(what, error)
        self._recovery.ensure()
        if any(one.is_hard and one.on_store_error == "refuse" for one in (self.own, *budgets)):
            if call_id and not isinstance(error, NotAsked):  # it may be held all the same
                self._backlog.write(Release(call_id, is_certain=False))
                self._recovery.ensure()
            if isinstance(error, BudgetStoreError):
                raise error
            raise BudgetStoreError(f"the budget's store failed: {error}") from error
        if call_id:
            self._counts.add(_UNRESERVED)

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        if isinstance(error, NotAsked):
            return
        if self._failures.add(what) == 1:  # the text alone: whoever keeps records keeps no ledger
            log.error("the store failed to %s: %s: %s", what, type(error).__name__, str(error))

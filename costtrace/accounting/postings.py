"""How a call's money moves: reserved before it is sent, settled or released after it.

All that can go wrong with a store ends here. A reservation under a hard limit is refused when the
store cannot be asked; anything else goes on, and what could not be written waits in memory until
the store answers again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from queue import Empty, SimpleQueue
from typing import Literal

from costtrace.accounting.alerts import AlertBook
from costtrace.accounting.lease import LEASE_S, Heartbeat, process_name
from costtrace.accounting.terms import BudgetTerms
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError, BudgetStoreError, CallConflictError
from costtrace.instant import to_us
from costtrace.money import Picodollars, format_usd, to_pico, to_usd
from costtrace.stores.base import (
    LEDGER,
    Balance,
    BudgetRecord,
    Hold,
    Limit,
    Refusal,
    Store,
    user_owner,
)

log = logging.getLogger("costtrace")
FOREVER_S = 366 * 86_400.0
"""The lease in a store that dies with the process: nothing is left there to lapse."""
REDELIVER_S = 10.0
MOST_WAITING = 100_000


@dataclass(frozen=True, slots=True)
class Refused:
    """A reservation that was not made: whose terms refused it, and where they stood."""

    terms: BudgetTerms
    refusal: Refusal

    @property
    def headroom_pico(self) -> Picodollars | None:
        """What was left for another call; None where the limit is not one of money."""
        limit, balance = self.refusal.limit.pico, self.refusal.balance
        return None if limit is None else limit - balance.spent_pico - balance.reserved_pico

    @property
    def may_pass_later(self) -> bool:
        """Whether calls in flight may give back enough, so that waiting makes sense."""
        balance = self.refusal.balance
        return (balance.reserved_pico, balance.reserved_tokens, balance.reserved_calls) != (0, 0, 0)

    def error(self, entry: CostEntry) -> BudgetExceededError:
        """Return what the caller is told."""
        return exceeded(self, entry)


@dataclass(frozen=True, slots=True)
class Headroom:
    """What is left of all limits that a call must keep; None where nothing limits it."""

    pico: Picodollars | None = None
    tokens: int | None = None

    @classmethod
    def left(cls, limit: Limit, balance: Balance) -> Headroom:
        """Return what is left of one limit."""
        spent, tokens = balance.spent_pico, balance.spent_tokens
        return cls(
            None if limit.pico is None else limit.pico - spent - balance.reserved_pico,
            None if limit.tokens is None else limit.tokens - tokens - balance.reserved_tokens,
        )

    def least(self, other: Headroom) -> Headroom:
        """Return the lesser of the two in each unit."""
        return Headroom(_least(self.pico, other.pico), _least(self.tokens, other.tokens))

    def half(self, budgets: Sequence[BudgetTerms]) -> Headroom:
        """Return what one call may take so that others in parallel are left something."""
        halved = Headroom(
            None if self.pico is None else self.pico // 2,
            None if self.tokens is None else self.tokens // 2,
        )
        return halved.whole(budgets)

    def whole(self, budgets: Sequence[BudgetTerms]) -> Headroom:
        """Return what one call may take at all, which `per_call` may bound further."""
        pico = self.pico
        for terms in budgets:
            pico = _least(pico, terms.per_call_pico)
        return Headroom(pico, self.tokens)


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class Postings:
    """Reserves, settles and releases calls in one store. Safe from any thread."""

    def __init__(
        self, store: Store, own: BudgetTerms, alerts: AlertBook, now: Callable[[], datetime]
    ) -> None:
        self.store = store
        self.own = own
        self.alerts = alerts
        self.now = now
        self._process = process_name()
        self._heartbeat = Heartbeat(self._beat)
        self._lease_s = LEASE_S if store.is_blocking else FOREVER_S
        self._waiting: deque[tuple[CostEntry, tuple[str, ...], bool]] = deque(maxlen=MOST_WAITING)
        self.dropped: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Calls whose streams were closed or collected, to be settled by whoever comes next."""
        self._drain_lock = threading.Lock()
        self._looked_for_alerts = 0.0
        self._failures: dict[str, int] = {}
        alerts.watch(own)

    def owners(self, user_id: str, budgets: Iterable[BudgetTerms]) -> tuple[str, ...]:
        """Return everyone who is charged for a call, each once."""
        charged = [LEDGER, user_owner(user_id)]
        for terms in budgets:
            charged += terms.owners
        return tuple(dict.fromkeys(charged))

    def define(self, terms: BudgetTerms) -> None:
        """Watch a budget's thresholds, and let readers of the store know of it."""
        if self.alerts.watch(terms) and not terms.block_id:
            self._attempt(
                "define",
                lambda: self.store.define(
                    BudgetRecord(
                        terms.user_id,
                        terms.window.name,
                        terms.window.tz_name,
                        terms.limit_pico,
                        terms.alert_at,
                    )
                ),
            )

    def reserve(self, entry: CostEntry, budgets: Sequence[BudgetTerms]) -> Refused | None:
        """Hold an entry's cost on all who pay for it, or on none and say who refused.

        Raises `BudgetStoreError` when the store cannot be asked and one of the budgets wants to be
        sure.
        """
        self.collect()
        budgets = (self.own, *budgets)
        at_us = to_us(entry.timestamp)
        limits = {
            limit: terms
            for terms in budgets
            if terms.refuses and (limit := terms.limit(at_us)) is not None
        }
        for terms in budgets:
            self.define(terms)
        hold = Hold(
            entry,
            self.owners(entry.user_id, budgets),
            tuple(limits),
            self._lease_s,
            self._process,
        )
        try:
            refusal = self.store.reserve(hold)
        except CallConflictError:
            raise
        except Exception as error:
            self._refuse_or_go_on("reserve", error, budgets)
            return None
        if self.store.is_blocking:
            self._heartbeat.ensure()
        return None if refusal is None else Refused(limits[refusal.limit], refusal)

    def headroom(self, at: datetime, budgets: Sequence[BudgetTerms]) -> Headroom:
        """Return the least that is left of these budgets and the ledger's own.

        Raises `BudgetStoreError` like `reserve`.
        """
        room, at_us = Headroom(), to_us(at)
        for terms in (self.own, *budgets):
            limit = terms.limit(at_us)
            if limit is not None and terms.refuses:
                try:
                    balance = self.store.balance(limit.owner, limit.span)
                except Exception as error:
                    self._refuse_or_go_on("read a balance", error, (self.own, *budgets))
                    continue
                room = room.least(Headroom.left(limit, balance))
        return room

    def observe(self, entry: CostEntry, budgets: Sequence[BudgetTerms]) -> None:
        """Say what a budget that only warns would have refused. Never raises."""
        at_us = to_us(entry.timestamp)
        for terms in budgets:
            limit = terms.limit(at_us)
            if terms.on_exceed == "warn" and limit is not None:
                self._attempt("observe a budget", partial(self._observe, entry, terms, limit))

    def _observe(self, entry: CostEntry, terms: BudgetTerms, limit: Limit) -> None:
        balance = self.store.balance(limit.owner, limit.span)
        if (unit := passed(limit, balance, entry)) is not None:
            error = exceeded(Refused(terms, Refusal(limit, balance, unit)), entry)
            log.warning("sent, but would have been refused: %s", error)

    def settle(
        self,
        entry: CostEntry,
        owners: tuple[str, ...],
        *,
        amend: bool = False,
        must_be_new: bool = False,
    ) -> None:
        """Enter what a call did cost; if the store is away, as soon as it is back.

        Raises nothing but, with `must_be_new`, `CallConflictError` for an id that is known at
        another cost; else the first one stands.
        """
        if self._waiting:
            self._waiting.append((entry, owners, amend))
            self.drain()
        elif not self._is_written(entry, owners, amend, must_be_new):
            self._waiting.append((entry, owners, amend))
        self._redeliver()

    def hold(self, entry: CostEntry, owners: tuple[str, ...]) -> None:
        """Hold an entry's cost without asking any limit: it was authorized before. Never raises."""
        hold = Hold(entry, owners, (), self._lease_s, self._process)
        self._attempt("hold", lambda: self.store.reserve(hold))

    def collect(self) -> None:
        """Settle the calls whose streams were dropped. Never raises."""
        while True:
            try:
                settle = self.dropped.get_nowait()
            except Empty:
                return
            settle()

    def release(self, call_id: str) -> None:
        """Give back what was held for a call that was never billed. Never raises."""
        self._attempt("release", lambda: self.store.release(call_id))

    def drain(self) -> bool:
        """Write what waits, oldest first; return whether nothing waits any more."""
        with self._drain_lock:
            while self._waiting:
                if not self._is_written(*self._waiting[0]):
                    return False
                self._waiting.popleft()
        return True

    def _is_written(
        self, entry: CostEntry, owners: tuple[str, ...], amend: bool, must_be_new: bool = False
    ) -> bool:
        """Settle one entry and send its alerts; return whether it needs no other attempt."""
        try:
            watches = self.alerts.watches(owners, to_us(entry.timestamp))
            crossings = self.store.settle(entry, owners, watches, amend=amend)
        except CallConflictError as error:
            if must_be_new:
                raise
            self._failed("settle", error)
            return True
        except Exception as error:
            self._failed("settle", error)
            return False
        if crossings:
            keys = self.alerts.deliver(crossings)
            self._attempt("note an alert as delivered", lambda: self.store.delivered(keys))
        return True

    @property
    def waiting(self) -> int:
        """How many entries wait for the store."""
        return len(self._waiting)

    @property
    def failures(self) -> dict[str, int]:
        """How often each operation of the store has failed in this process."""
        return dict(self._failures)

    def close(self) -> None:
        """Write what waits and stop the heartbeat."""
        self._heartbeat.stop()
        self.drain()

    def after_fork(self) -> None:
        """Start over in a forked child: what the parent holds is the parent's."""
        self._process = process_name()
        self._drain_lock = threading.Lock()
        self._waiting.clear()
        self._heartbeat = Heartbeat(self._beat)

    def _beat(self) -> int:
        if self._waiting:
            self.drain()
        return self.store.renew(self._process, self._lease_s)

    def _redeliver(self) -> None:
        """Deliver what another process has latched and did not live to send."""
        if not self.store.is_blocking:
            return
        now = time.monotonic()
        if now - self._looked_for_alerts < 1.0:
            return
        self._looked_for_alerts = now

        def deliver() -> None:
            if crossings := self.store.undelivered(REDELIVER_S):
                self.store.delivered(self.alerts.deliver(crossings))

        self._attempt("undelivered", deliver)

    def _refuse_or_go_on(self, what: str, error: Exception, budgets: Sequence[BudgetTerms]) -> None:
        """Raise when one of the budgets wants to be sure; else the call goes on unreserved."""
        self._failed(what, error)
        if any(terms.is_hard and terms.on_store_error == "refuse" for terms in budgets):
            if isinstance(error, BudgetStoreError):
                raise error
            raise BudgetStoreError(f"the budget's store failed: {error}") from error

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        self._failures[what] = self._failures.get(what, 0) + 1
        if self._failures[what] == 1:
            log.error("the store failed to %s: %s: %s", what, type(error).__name__, error)


def passed(
    limit: Limit, balance: Balance, entry: CostEntry
) -> Literal["usd", "tokens", "calls"] | None:
    """Return the unit in which an entry would pass a limit; None where it fits."""
    asked = to_pico(entry.cost_usd or 0)
    spent, tokens = balance.spent_pico, balance.spent_tokens
    if limit.pico is not None and spent + balance.reserved_pico + asked > limit.pico:
        return "usd"
    tokens += balance.reserved_tokens + entry.usage.total_tokens
    if limit.tokens is not None and tokens > limit.tokens:
        return "tokens"
    if limit.calls is not None and balance.spent_calls + balance.reserved_calls >= limit.calls:
        return "calls"
    return None


def exceeded(refused: Refused, entry: CostEntry) -> BudgetExceededError:
    """Return the error of a refused reservation."""
    terms, refusal = refused.terms, refused.refusal
    balance, limit = refusal.balance, refusal.limit
    reason = ""
    if refusal.unit == "tokens":
        reason = (
            f"the call may use {entry.usage.total_tokens} tokens, {balance.spent_tokens} spent "
            f"and {balance.reserved_tokens} reserved of {limit.tokens}"
        )
    elif refusal.unit == "calls":
        reason = (
            f"{balance.spent_calls} calls made and {balance.reserved_calls} in flight "
            f"of {limit.calls}"
        )
    return BudgetExceededError(
        user_id=terms.user_id,
        limit_usd=None if limit.pico is None else to_usd(limit.pico),
        spent_usd=to_usd(balance.spent_pico),
        reserved_usd=to_usd(balance.reserved_pico),
        requested_usd=entry.cost_usd or Decimal(0),
        window=terms.window.name,
        resets_at=terms.window.resets_at(to_us(entry.timestamp)),
        model=entry.request_model or entry.model,
        function_name=entry.function_name,
        reason=reason,
    )


def too_dear(terms: BudgetTerms, entry: CostEntry) -> BudgetExceededError:
    """Return the error of a call that alone may cost more than a call may."""
    allowed = to_usd(terms.per_call_pico or 0)
    return BudgetExceededError(
        user_id=terms.user_id,
        limit_usd=allowed,
        spent_usd=Decimal(0),
        reserved_usd=Decimal(0),
        requested_usd=entry.cost_usd or Decimal(0),
        model=entry.request_model or entry.model,
        function_name=entry.function_name,
        reason=f"one call may cost {format_usd(allowed)} at most (per_call)",
    )

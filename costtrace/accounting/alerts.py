"""Thresholds: which ones a settled call may cross, and how a crossing becomes an alert."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from math import ceil

from costtrace.accounting.terms import BudgetTerms, OnAlert
from costtrace.entry import Alert
from costtrace.instant import from_us, timedelta_us
from costtrace.money import to_usd
from costtrace.sinks import Sink
from costtrace.stores.base import ALWAYS_END, LEDGER, Crossing, Span, Watch

log = logging.getLogger("costtrace")
REMEMBERED = 64
"""Differing budgets of one owner that are watched, the latest ones."""


class _Watched:
    """One budget's thresholds, and its watches in the span that was looked at last."""

    __slots__ = ("_last", "_length_us", "_thresholds", "terms")

    def __init__(self, terms: BudgetTerms) -> None:
        limit_pico, delta = terms.limit_pico or 0, terms.window.delta
        self.terms = terms
        self._length_us = None if delta is None else timedelta_us(delta)
        self._thresholds = [
            (share, ceil(limit_pico * Fraction(repr(share)))) for share in terms.alert_at
        ]
        self._last: tuple[Span, tuple[Watch, ...]] | None = None

    def is_of(self, terms: BudgetTerms) -> bool:
        """Tell whether these terms have the same thresholds."""
        mine = self.terms
        return (mine.window, mine.limit_pico, mine.alert_at) == (
            terms.window,
            terms.limit_pico,
            terms.alert_at,
        )

    def at(self, at_us: int) -> tuple[Watch, ...]:
        """Return its watches for a call authorized at that time."""
        if self._last is not None:
            span, watches = self._last
            if span.start_us <= at_us < span.end_us and not span.is_rolling:
                return watches
        span = self.terms.span(at_us)
        watches = tuple(
            Watch(self.terms.owner, span, threshold, self._key_of(span, share))
            for share, threshold in self._thresholds
        )
        self._last = (span, watches)  # in one step, so that any thread may
        return watches

    def _key_of(self, span: Span, share: float) -> str:
        """Return what tells an alert from all others, and all that has to be said in it.

        A rolling window alerts once for each length of it.
        """
        start_us, end_us = span.start_us, span.end_us
        if self._length_us is not None:
            start_us -= start_us % self._length_us
            end_us = start_us + self._length_us
        terms = self.terms
        who = (terms.owner, terms.user_id, terms.window.name)
        return json.dumps([*who, start_us, end_us, share, terms.limit_pico], separators=(",", ":"))


class AlertBook:
    """The budgets that this process has seen, and who wants to hear of them."""

    def __init__(self, callbacks: Iterable[OnAlert], sinks: list[Sink]) -> None:
        self.callbacks = list(callbacks)
        self.sinks = sinks
        self._by_owner: dict[str, tuple[_Watched, ...]] = {}  # replaced whole: read without lock
        self._in_delivery: set[str] = set()
        self._lock = threading.RLock()

    def watch(self, terms: BudgetTerms) -> bool:
        """Watch a budget's thresholds from now on; return whether it is a new one."""
        if terms.limit_pico is None:
            return False
        for one in self._by_owner.get(terms.owner, ()):
            if one.terms is terms:
                return False
        with self._lock:
            watched = self._by_owner.get(terms.owner, ())
            for one in watched:
                if one.is_of(terms):
                    one.terms = terms  # with the callback that was named last
                    return False
            self._by_owner[terms.owner] = (*watched, _Watched(terms))[-REMEMBERED:]
        return True

    def forget(self, owner: str) -> None:
        """Watch an owner's budgets no longer."""
        with self._lock:
            self._by_owner.pop(owner, None)

    def watches(self, owners: Iterable[str], at_us: int) -> list[Watch]:
        """Return the thresholds that a call of these owners may cross."""
        found: list[Watch] = []
        for owner in owners:
            for one in self._by_owner.get(owner, ()):
                found += one.at(at_us)
        return found

    def deliver(self, crossings: Sequence[Crossing]) -> list[str]:
        """Tell the sinks and those who asked of each alert; return the delivered ones' keys.

        No lock is held meanwhile: a callback may make calls, open budgets, and ask the ledger. What
        another thread is delivering is left to it.
        """
        told: list[str] = []
        for crossing in crossings:
            key = crossing.watch.key
            with self._lock:
                if key in self._in_delivery:
                    continue
                self._in_delivery.add(key)
            try:
                self._tell(crossing)
                told.append(key)
            finally:
                with self._lock:
                    self._in_delivery.discard(key)
        return told

    def start_over(self) -> None:
        """Go on in a forked child with a lock that no thread of the parent holds."""
        self._lock = threading.RLock()
        self._in_delivery.clear()

    def _tell(self, crossing: Crossing) -> None:
        alert = alert_of(crossing)
        for sink in list(self.sinks):
            with _fault_logged("a sink failed to take an alert"):
                sink.alert(alert)
        for hear in [*self.callbacks, *self._own_callbacks(crossing.watch)]:
            with _fault_logged("an on_alert callback failed"):
                hear(alert)

    def _own_callbacks(self, watch: Watch) -> list[OnAlert]:
        """Return whom a budget itself wants to be told."""
        _owner, _user, window, _start, _end, share, limit_pico = json.loads(watch.key)
        return [
            terms.on_alert
            for terms in (one.terms for one in self._by_owner.get(watch.owner, ()))
            if terms.on_alert is not None
            and (terms.window.name, terms.limit_pico) == (window, limit_pico)
            and share in terms.alert_at
        ]


@contextmanager
def _fault_logged(what: str) -> Iterator[None]:
    """Log what somebody else's code raises: the call, and whoever else is to hear, go on."""
    try:
        yield
    except Exception:
        log.exception(what)


def alert_of(crossing: Crossing) -> Alert:
    """Return the alert of a crossing; its key tells all that is needed, in any process."""
    owner, user_id, window, _start_us, end_us, share, limit_pico = json.loads(crossing.watch.key)
    resets = window is not None and end_us < ALWAYS_END and not crossing.watch.span.is_rolling
    return Alert(
        user_id=None if owner == LEDGER else user_id,
        threshold=share,
        spent_usd=to_usd(crossing.spent_pico),
        limit_usd=to_usd(limit_pico),
        window=window,
        resets_at=from_us(end_us) if resets else None,
    )

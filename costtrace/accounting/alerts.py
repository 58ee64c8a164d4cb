"""Thresholds: which ones a settled call may cross, and how a crossing becomes an alert."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Watched:
    """One budget's thresholds in the span that was looked at last."""

    terms: BudgetTerms
    span: Span | None = None
    watches: tuple[Watch, ...] = ()

    def at(self, at_us: int) -> tuple[Watch, ...]:
        span = self.terms.span(at_us)
        if span != self.span:
            self.watches = watches_of(self.terms, span)
            self.span = span
        return self.watches


@dataclass(slots=True)
class AlertBook:
    """The budgets that this process has seen, and who wants to hear of them."""

    callbacks: list[OnAlert] = field(default_factory=list)
    sinks: list[Sink] = field(default_factory=list)
    _by_owner: dict[str, OrderedDict[object, _Watched]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, terms: BudgetTerms) -> bool:
        """Watch a budget's thresholds from now on; return whether it is a new one."""
        if terms.limit_pico is None:
            return False
        identity = (terms.window, terms.limit_pico, terms.alert_at)
        known = self._by_owner.get(terms.owner)
        if known and identity in known and known[identity].terms.on_alert is terms.on_alert:
            return False
        with self._lock:
            watched = self._by_owner.setdefault(terms.owner, OrderedDict())
            watched[identity] = _Watched(terms)
            if len(watched) > REMEMBERED:
                watched.popitem(last=False)
        return True

    def forget(self, owner: str) -> None:
        """Watch an owner's budgets no longer."""
        with self._lock:
            self._by_owner.pop(owner, None)

    def watches(self, owners: Iterable[str], at_us: int) -> list[Watch]:
        """Return the thresholds that a call of these owners may cross."""
        found: list[Watch] = []
        for owner in owners:
            if watched := self._by_owner.get(owner):
                with self._lock:
                    each = list(watched.values())
                for one in each:
                    found += one.at(at_us)
        return found

    def deliver(self, crossings: Sequence[Crossing]) -> list[str]:
        """Tell the sinks and those who asked of each alert; return the delivered ones' keys."""
        for crossing in crossings:
            alert = alert_of(crossing)
            sinks = [sink.alert for sink in self.sinks]
            asked = self._own_callbacks(crossing.watch)
            for hear in [*sinks, *self.callbacks, *asked]:
                try:
                    hear(alert)
                except Exception:
                    log.exception("an on_alert callback failed")
        return [crossing.watch.key for crossing in crossings]

    def _own_callbacks(self, watch: Watch) -> list[OnAlert]:
        _owner, _user, window, _start, _end, share, limit_pico = json.loads(watch.key)
        with self._lock:
            watched = list(self._by_owner.get(watch.owner, {}).values())
        return [
            terms.on_alert
            for terms in (one.terms for one in watched)
            if terms.on_alert is not None
            and (terms.window.name, terms.limit_pico) == (window, limit_pico)
            and share in terms.alert_at
        ]


def watches_of(terms: BudgetTerms, span: Span) -> tuple[Watch, ...]:
    """Return a budget's thresholds in one span; a rolling one alerts once for each length of it."""
    if terms.limit_pico is None:
        return ()
    start_us, end_us = span.start_us, span.end_us
    if terms.window.delta is not None:
        length_us = timedelta_us(terms.window.delta)
        start_us -= start_us % length_us
        end_us = start_us + length_us
    return tuple(
        Watch(
            owner=terms.owner,
            span=span,
            threshold_pico=ceil(terms.limit_pico * Fraction(repr(share))),
            key=json.dumps(
                [
                    terms.owner,
                    terms.user_id,
                    terms.window.name,
                    start_us,
                    end_us,
                    share,
                    terms.limit_pico,
                ],
                separators=(",", ":"),
            ),
        )
        for share in terms.alert_at
    )


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

"""The steps of the protocol in SQL. Each is called inside of a transaction that alone may write.

A step checks all that it can before it changes anything; what it cannot check beforehand, the
database refuses, and the transaction is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from costtrace.stores.base import Balance, Crossing, Hold, Limit, Refusal, Span, Watch
from costtrace.stores.calls import (
    COST,
    LABEL,
    PAYERS,
    TIMESTAMP,
    Run,
    Values,
    call_values,
    charge_from,
    counts_from,
    entry_from,
)
from costtrace.stores.grouping import counts_of, negative
from costtrace.stores.names import Names
from costtrace.stores.rows import (
    CEILING,
    DAY_US,
    MINUTE_US,
    NOTHING,
    Charge,
    Facts,
    balance_of,
    check_text,
    checked_label,
    conflict,
    distinct,
    facts_of,
    from_us,
    label_digest,
    label_from_row,
    lapsed_grade,
    lease_us,
    payers_digest,
    refusal,
)
from costtrace.stores.statements import (
    ADD_ALERT,
    ADD_BALANCE,
    ADD_ENTRY,
    ADD_HOLD,
    ADD_LABEL,
    ADD_OWNER,
    ADD_PAYER,
    ADD_PAYERS,
    ADD_TO_BALANCES,
    ADD_TO_MINUTES,
    ADD_TO_TOTAL,
    COUNT_BALANCES,
    DELETE_BALANCE,
    DELETE_ENTRY,
    DELETE_HOLD,
    DELIVERED,
    DUE_HOLDS,
    FIND_ALERT,
    FIND_BALANCE,
    FIND_ENTRY,
    FIND_HOLD,
    FIND_LABEL,
    FIND_OWNER,
    FIND_PAYERS,
    HAND_OUT,
    LOOK_UP,
    OLDEST_BALANCE,
    READ_LABEL,
    READ_META,
    RENEW,
    REPLACE_ENTRY,
    SUM_ENTRIES,
    SUM_HOLDS,
    SUM_MINUTES,
    UNDELIVERED,
)

KEPT_SPANS = 16
"""Running balances of one owner; the span that ended first makes room."""


class Steps:
    """The steps that change something."""

    def __init__(self, run: Run, names: Names | None = None) -> None:
        self._run = run
        self._names = Names() if names is None else names

    def reserve(self, hold: Hold, facts: Facts, now_us: int) -> Refusal | None:
        """Hold the worst case on every owner, or on none if a limit would be passed."""
        call_id = check_text(hold.entry.call_id, "call_id")
        found = self._run(LOOK_UP, (call_id, call_id, now_us)).fetchone()
        is_held, is_entered, are_due = found
        if is_held:
            self._check_same(hold, facts)
            return None
        if is_entered:
            raise conflict(call_id, "is settled or lapsed already")
        self._check_age(call_id, facts.timestamp_us)
        if are_due:
            self.lapse(now_us, 64)
        for limit in hold.limits:
            refused = self._refusal(limit, facts.charge)
            if refused is not None:
                return refused
        label_id, payers_id = self._label_id(facts.label), self._payers_id(hold.owners)
        values = call_values(facts, facts.timestamp_us, label_id, payers_id)
        lease_until_us = now_us + lease_us(hold.lease_s)
        self._run(ADD_HOLD, (*values, lease_until_us, check_text(hold.process, "process")))
        self._move(payers_id, facts.timestamp_us, NOTHING, facts.charge)
        return None

    def settle(
        self,
        facts: Facts,
        owners: tuple[str, ...],
        watches: Sequence[Watch],
        now_us: int,
        amend: bool,
    ) -> list[Crossing]:
        """Replace the call's hold, or its provisional charge, by what it did cost."""
        call_id = check_text(facts.entry.call_id, "call_id")
        held = self._take_hold(call_id)
        if held is not None:
            timestamp_us, payers_id, *charge = held
            self._book(facts, timestamp_us, payers_id, charge)
        elif (known := self._known(facts, owners)) is not None:
            if not amend and not known[-1]:
                if known[COST] == facts.pico:
                    return []
                raise conflict(call_id, "is settled already, with another cost")
            self._rebook(facts, known)
        return self._crossings(watches, now_us)

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back."""
        held = self._take_hold(check_text(call_id, "call_id"))
        if held is not None:
            timestamp_us, payers_id, *charge = held
            self._move(payers_id, timestamp_us, NOTHING, _less(NOTHING, charge))
            return True
        known = self._run(FIND_ENTRY, (call_id,)).fetchone()
        if known is None or not known[-1]:
            return False
        self._run(DELETE_ENTRY, (known[-2],))
        self._move(known[PAYERS], known[TIMESTAMP], _less(NOTHING, charge_from(known)))
        self._add_total(known[TIMESTAMP], known[LABEL], negative(counts_from(known)))
        return True

    def renew(self, process: str, lease_s: float, now_us: int) -> int:
        """Put off the lapse of a process's holds that still stand."""
        until_us = now_us + lease_us(lease_s)
        return self._run(RENEW, (until_us, process, now_us)).rowcount

    def lapse(self, now_us: int, at_most: int) -> int:
        """Charge holds whose lease has run out as their worst case."""
        due = self._run(DUE_HOLDS, (now_us, at_most)).fetchall()
        for held in due:
            label = label_from_row(self._run(READ_LABEL, (held[LABEL],)).fetchone())
            entry = entry_from(held, label)
            facts = facts_of(replace(entry, grade=lapsed_grade(entry)))
            self._run(DELETE_HOLD, (entry.call_id,))
            self._book(facts, held[TIMESTAMP], held[PAYERS], charge_from(held), is_lapsed=True)
        return len(due)

    def undelivered(self, now_us: int, older_than_s: float) -> list[Crossing]:
        """Hand out alerts that were handed out longer ago than this and never delivered."""
        found = []
        due_us = now_us - int(older_than_s * 1_000_000)
        for row in self._run(UNDELIVERED, (due_us,)).fetchall():
            key, owner, start_us, end_us, is_rolling, threshold_pico, spent_pico = row
            self._run(HAND_OUT, (now_us, key))
            watch = Watch(owner, Span(start_us, end_us, bool(is_rolling)), threshold_pico, key)
            found.append(Crossing(watch, spent_pico))
        return found

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that these alerts have been sent."""
        for key in keys:
            self._run(DELIVERED, (key,))

    # -- sums --------------------------------------------------------------------------------

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span; changes nothing."""
        found = self._run(FIND_OWNER, (check_text(owner, "owner"),)).fetchone()
        if found is None:
            return Balance()
        if not span.is_rolling:
            kept = self._run(FIND_BALANCE, (found[0], span.start_us, span.end_us)).fetchone()
            if kept is not None:
                return balance_of(kept[:3], kept[3:])
        return self.summed(found[0], span)

    def summed(self, owner_id: int, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span, summed from the calls."""
        start_us, end_us = span.start_us, CEILING if span.is_rolling else span.end_us
        first, end = start_us // MINUTE_US, -(-end_us // MINUTE_US)
        spent: Charge = tuple(self._run(SUM_MINUTES, (owner_id, first, end)).fetchone())
        for edge in ((first * MINUTE_US, start_us), (end_us, end * MINUTE_US)):
            if edge[0] < edge[1]:  # calls of the first and the last minute, outside of the span
                spent = _less(spent, self._run(SUM_ENTRIES, (*edge, owner_id)).fetchone())
        reserved = self._run(SUM_HOLDS, (start_us, end_us, owner_id)).fetchone()
        return balance_of(spent, reserved)

    def running(self, owner: str, span: Span) -> Balance:
        """Return the balance, and keep it running unless the span rolls."""
        if span.is_rolling:
            return self.balance(owner, span)
        owner_id = self._owner_id(owner)
        key = (owner_id, span.start_us, span.end_us)
        kept = self._run(FIND_BALANCE, key).fetchone()
        if kept is not None:
            return balance_of(kept[:3], kept[3:])
        balance = self.summed(owner_id, span)
        if self._run(COUNT_BALANCES, (owner_id,)).fetchone()[0] >= KEPT_SPANS:
            oldest = self._run(OLDEST_BALANCE, (owner_id,)).fetchone()
            self._run(DELETE_BALANCE, (owner_id, *oldest))
        spent = (balance.spent_pico, balance.spent_tokens, balance.spent_calls)
        reserved = (balance.reserved_pico, balance.reserved_tokens, balance.reserved_calls)
        self._run(ADD_BALANCE, (*key, *spent, *reserved))
        return balance

    # -- parts of steps ----------------------------------------------------------------------

    def _take_hold(self, call_id: str) -> Values | None:
        held: Values | None = self._run(FIND_HOLD, (call_id,)).fetchone()
        if held is not None:
            self._run(DELETE_HOLD, (call_id,))
        return held

    def _known(self, facts: Facts, owners: tuple[str, ...]) -> Values | None:
        """Return the call as it was entered before; enter it, and return None, if it was not."""
        call_id, timestamp_us = facts.entry.call_id, facts.timestamp_us
        is_old = timestamp_us < self._pruned_before_us()
        if not is_old and self._book(facts, timestamp_us, self._payers_id(owners)):
            return None
        known: Values | None = self._run(FIND_ENTRY, (call_id,)).fetchone()
        if known is None:
            self._check_age(call_id, timestamp_us)
        return known

    def _check_same(self, hold: Hold, facts: Facts) -> None:
        """Raise if the id that is held stands for another call."""
        call_id = hold.entry.call_id
        _, payers_id, *charge = self._run(FIND_HOLD, (call_id,)).fetchone()
        if tuple(charge) != facts.charge or payers_id != self._payers_id(hold.owners):
            raise conflict(call_id, "is held already, with another amount or other owners")

    def _refusal(self, limit: Limit, charge: Charge) -> Refusal | None:
        return refusal(limit, self.running(limit.owner, limit.span), charge)

    def _book(
        self,
        facts: Facts,
        timestamp_us: int,
        payers_id: int,
        reserved: Sequence[int] = NOTHING,
        is_lapsed: bool = False,
    ) -> bool:
        """Enter a call in the ledger, in place of its hold; False if it is there already."""
        label_id = self._label_id(facts.label)
        values = call_values(facts, timestamp_us, label_id, payers_id)
        if not self._run(ADD_ENTRY, (*values, int(is_lapsed))).rowcount:
            return False
        self._add_total(timestamp_us, label_id, counts_of(facts.entry, facts.pico))
        self._move(payers_id, timestamp_us, facts.charge, _less(NOTHING, reserved))
        return True

    def _rebook(self, facts: Facts, known: Values) -> None:
        """Put another entry of the same call in its place and move the difference."""
        timestamp_us, payers_id = known[TIMESTAMP], known[PAYERS]
        label_id = self._label_id(facts.label)
        values = call_values(facts, timestamp_us, label_id, payers_id)
        self._run(REPLACE_ENTRY, (*values, known[-2]))
        self._add_total(timestamp_us, known[LABEL], negative(counts_from(known)))
        self._add_total(timestamp_us, label_id, counts_of(facts.entry, facts.pico))
        self._move(payers_id, timestamp_us, _less(facts.charge, charge_from(known)))

    def _move(
        self, payers_id: int, timestamp_us: int, spent: Charge, reserved: Charge = NOTHING
    ) -> None:
        """Add to what is spent and reserved on every owner, also in the balances that run."""
        if spent != NOTHING:
            self._run(ADD_TO_MINUTES, (timestamp_us // MINUTE_US, *spent, payers_id))
        moved = (*spent, *reserved, payers_id, timestamp_us, timestamp_us)
        self._run(ADD_TO_BALANCES, moved)

    def _add_total(self, timestamp_us: int, label_id: int, counts: Sequence[int]) -> None:
        self._run(ADD_TO_TOTAL, (timestamp_us // DAY_US, label_id, 0, *counts))

    def _crossings(self, watches: Sequence[Watch], now_us: int) -> list[Crossing]:
        crossed = []
        for watch in watches:
            span, key = watch.span, check_text(watch.key, "a watch's key")
            spent_pico = self.running(watch.owner, span).spent_pico
            if spent_pico < watch.threshold_pico or self._run(FIND_ALERT, (key,)).fetchone():
                continue
            where = (span.start_us, span.end_us, int(span.is_rolling))
            found = (key, watch.owner, *where, watch.threshold_pico, spent_pico, now_us)
            self._run(ADD_ALERT, found)
            crossed.append(Crossing(watch, spent_pico))
        return crossed

    def _check_age(self, call_id: str, timestamp_us: int) -> None:
        before_us = self._pruned_before_us()
        if timestamp_us < before_us:
            raise conflict(
                call_id,
                f"is of {from_us(timestamp_us)}, but calls from before {from_us(before_us)} "
                f"are no longer kept: it may have been counted already",
            )

    def _pruned_before_us(self) -> int:
        known = self._names.pruned_before_us
        if known is None:
            found = self._run(READ_META, ("pruned_before_us",)).fetchone()
            known = self._names.pruned_before_us = 0 if found is None else int(found[0])
        return known

    # -- names -------------------------------------------------------------------------------

    def _label_id(self, fields: tuple[object, ...]) -> int:
        known = self._names.labels.get(fields)
        if known is not None:
            return known
        digest = label_digest(fields)
        found = self._run(FIND_LABEL, (digest,)).fetchone()
        if found is None:
            label = checked_label(fields)
            *plain, streamed, call_path, tags = label
            values = (digest, *plain, int(streamed), json.dumps(call_path), json.dumps(tags))
            found = self._run(ADD_LABEL, values).fetchone()
        return self._names.labels.setdefault(fields, int(found[0]))

    def _payers_id(self, owners: tuple[str, ...]) -> int:
        known = self._names.payers.get(owners)
        if known is not None:
            return known
        given, owners = owners, distinct(owners)
        digest = payers_digest(owners)
        found = self._run(FIND_PAYERS, (digest,)).fetchone()
        if found is None:
            found = self._run(ADD_PAYERS, (digest,)).fetchone()
            for owner in owners:
                self._run(ADD_PAYER, (found[0], self._owner_id(owner)))
        return self._names.payers.setdefault(given, int(found[0]))

    def _owner_id(self, owner: str) -> int:
        known = self._names.owners.get(owner)
        if known is not None:
            return known
        found = self._run(FIND_OWNER, (check_text(owner, "an owner"),)).fetchone()
        if found is None:
            found = self._run(ADD_OWNER, (owner,)).fetchone()
        return self._names.owners.setdefault(owner, int(found[0]))


def _less(charge: Charge, old: Sequence[int]) -> Charge:
    return (charge[0] - old[0], charge[1] - old[1], charge[2] - old[2])

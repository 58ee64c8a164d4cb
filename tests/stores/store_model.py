"""A store in its simplest form, and a machine that compares a real one with it step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_calls import Clock, costing, entry

from costtrace.entry import CostEntry
from costtrace.exceptions import CallConflictError
from costtrace.stores.base import (
    ALWAYS,
    Balance,
    Hold,
    Limit,
    Query,
    Span,
    Store,
    Watch,
)
from costtrace.stores.rows import exact_pico, from_us, to_us

OWNERS = ("ledger", "user:a", "user:b")
HOUR_US = 3_600_000_000
LIMITS = {"ledger": 900, "user:a": 500, "user:b": 700}
TOKENS, CALLS = 1200, 40
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Call:
    """A call as the model knows it."""

    entry: CostEntry
    owners: tuple[str, ...]
    state: str
    lease_until_us: int = 0
    process: str = ""

    @property
    def charge(self) -> tuple[int, int, int]:
        pico = exact_pico(self.entry.cost_usd) or 0
        return (pico, self.entry.usage.total_tokens, 1)


class Model:
    """What a store must answer, computed from all calls each time."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.order: list[str] = []
        self.latched: dict[str, int] = {}

    def balance(self, owner: str, span: Span) -> Balance:
        sums = {"spent": [0, 0, 0], "held": [0, 0, 0]}
        for call in self.calls.values():
            at_us = to_us(call.entry.timestamp)
            inside = span.start_us <= at_us and (span.is_rolling or at_us < span.end_us)
            if owner in call.owners and inside:
                sums_of = sums["held" if call.state == "held" else "spent"]
                for position, more in enumerate(call.charge):
                    sums_of[position] += more
        spent, held = sums["spent"], sums["held"]
        return Balance(spent[0], held[0], spent[1], held[1], spent[2], held[2])

    def lapse(self, now_us: int) -> int:
        due = sorted(
            (call.lease_until_us, call_id)
            for call_id, call in self.calls.items()
            if call.state == "held" and call.lease_until_us <= now_us
        )
        for _, call_id in due:
            call = self.calls[call_id]
            call.state = "lapsed"
            grade = "unpriced" if call.entry.cost_usd is None else "assumed"
            call.entry = replace(call.entry, grade=grade)
            self.order.append(call_id)
        return len(due)

    def reserve(self, hold: Hold, now_us: int) -> Any:
        """Return True, an error's type, or the limit and unit that refuse."""
        call_id, new = hold.entry.call_id, Call(hold.entry, hold.owners, "held")
        known = self.calls.get(call_id)
        if known is not None:
            is_same = known.charge == new.charge and set(known.owners) == set(new.owners)
            return True if known.state == "held" and is_same else CallConflictError
        self.lapse(now_us)
        for limit in hold.limits:
            balance = self.balance(limit.owner, limit.span)
            taken = (
                ("usd", balance.spent_pico + balance.reserved_pico, limit.pico),
                ("tokens", balance.spent_tokens + balance.reserved_tokens, limit.tokens),
                ("calls", balance.spent_calls + balance.reserved_calls, limit.calls),
            )
            for (unit, now, most), more in zip(taken, new.charge, strict=True):
                if most is not None and now + more > most:
                    return limit, unit, balance
        new.lease_until_us, new.process = now_us + int(hold.lease_s * 1_000_000), hold.process
        self.calls[call_id] = new
        return True

    def settle(
        self, call: CostEntry, owners: tuple[str, ...], watches: list[Watch], amend: bool
    ) -> Any:
        known = self.calls.get(call.call_id)
        if known is None:
            self.calls[call.call_id] = Call(call, owners, "settled")
            self.order.append(call.call_id)
        else:
            if known.state == "settled" and not amend:
                return [] if known.entry.cost_usd == call.cost_usd else CallConflictError
            if known.state == "held":
                self.order.append(call.call_id)
            known.entry = replace(call, timestamp=known.entry.timestamp)
            known.state = "settled"
        return self._crossed(watches)

    def _crossed(self, watches: list[Watch]) -> list[tuple[str, int]]:
        crossed = []
        for watch in watches:
            spent = self.balance(watch.owner, watch.span).spent_pico
            if watch.key not in self.latched and spent >= watch.threshold_pico:
                self.latched[watch.key] = spent
                crossed.append((watch.key, spent))
        return crossed

    def release(self, call_id: str) -> bool:
        known = self.calls.get(call_id)
        if known is None or known.state == "settled":
            return False
        del self.calls[call_id]
        if call_id in self.order:
            self.order.remove(call_id)
        return True

    def renew(self, process: str, until_us: int, now_us: int) -> int:
        held = [
            call
            for call in self.calls.values()
            if call.state == "held" and call.process == process and call.lease_until_us > now_us
        ]
        for call in held:
            call.lease_until_us = until_us
        return len(held)


def spans_at(now_us: int) -> list[Span]:
    """All time, this hour, the next, and rolling ones."""
    hour = now_us // HOUR_US * HOUR_US
    return [
        ALWAYS,
        Span(hour, hour + HOUR_US),
        Span(hour - HOUR_US, hour),
        Span(now_us - HOUR_US, now_us, is_rolling=True),
        Span(now_us - 61_000_001, now_us, is_rolling=True),
    ]


owners_sets = st.sampled_from(
    [("ledger",), ("ledger", "user:a"), ("ledger", "user:a", "user:b"), ("user:b", "ledger")]
)
picos = st.one_of(st.integers(0, 300), st.none())
grades = st.sampled_from(["reported", "estimated"])
positions = st.integers(0, 10**6)


class StoreMachine(RuleBasedStateMachine):
    """Random steps, each answered by the model as well. Subclasses say which store."""

    open_store: Callable[[], Store]

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.model = Clock(), Model()
        self.ids: list[str] = []

    @initialize()
    def start(self) -> None:
        self.store = type(self).open_store()
        self.store.use_clock(self.clock)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def pick(self, position: int) -> str:
        return self.ids[position % len(self.ids)]

    def answer(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except CallConflictError as error:
            return type(error)

    def reserved(self, hold: Hold) -> None:
        expected = self.model.reserve(hold, self.clock.now_us)
        got = self.answer(lambda: self.store.reserve(hold))
        if expected is True:
            assert got is None
        elif expected is CallConflictError:
            assert got is CallConflictError
        else:
            assert (got.limit, got.unit, got.balance) == expected

    def settled(self, call: CostEntry, owners: tuple[str, ...], amend: bool) -> None:
        hour = Span(*[(self.clock.now_us // HOUR_US + n) * HOUR_US for n in (0, 1)])
        watches = [
            Watch(owner, span, LIMITS[owner] * share // 10, f"{owner}|{span.start_us}|{share}")
            for owner in owners
            for span in (ALWAYS, hour)
            for share in (5, 9)
        ]
        expected = self.model.settle(call, owners, watches, amend)
        got = self.answer(lambda: self.store.settle(call, owners, watches, amend=amend))
        if got is not CallConflictError:
            got = [(crossing.watch.key, crossing.spent_pico) for crossing in got]
        assert got == expected

    @rule(
        pico=picos,
        owners=owners_sets,
        chosen=st.sets(st.integers(0, 4), max_size=2),
        process=st.sampled_from("pq"),
        lease_s=st.sampled_from([5, 60]),
        back_s=st.sampled_from([0, 0, 0, 30, 3600]),
    )
    def reserve(
        self, pico: Any, owners: Any, chosen: Any, process: str, lease_s: int, back_s: int
    ) -> None:
        at = from_us(self.clock.now_us) - timedelta(seconds=back_s)
        call = entry(pico, timestamp=at, user_id=owners[-1])
        self.ids.append(call.call_id)
        limits = tuple(
            Limit(owner, spans_at(self.clock.now_us)[span], LIMITS[owner], TOKENS, CALLS)
            for span in sorted(chosen)
            for owner in owners
        )
        self.reserved(Hold(call, owners, limits, lease_s, process))

    @rule(
        owners=owners_sets,
        number=st.integers(0, 4),
        too_much=st.integers(0, 1),
        process=st.sampled_from("pq"),
    )
    def reserve_what_is_left(self, owners: Any, number: int, too_much: int, process: str) -> None:
        """Reserve exactly what fits into the limits, or one picodollar more."""
        span, left = spans_at(self.clock.now_us)[number], []
        for owner in owners:
            balance = self.model.balance(owner, span)
            left.append(LIMITS[owner] - balance.spent_pico - balance.reserved_pico)
        if min(left) < 0:
            return
        at = from_us(self.clock.now_us)
        call = entry(min(left) + too_much, timestamp=at, user_id=owners[-1])
        self.ids.append(call.call_id)
        limits = tuple(Limit(owner, span, LIMITS[owner], TOKENS, CALLS) for owner in owners)
        self.reserved(Hold(call, owners, limits, 60, process))

    @precondition(lambda self: self.ids)
    @rule(position=positions, pico=picos, is_same=st.booleans(), owners=owners_sets)
    def reserve_again(self, position: int, pico: Any, is_same: bool, owners: Any) -> None:
        known = self.model.calls.get(self.pick(position))
        if known is None:
            return
        call = known.entry if is_same else costing(known.entry, pico)
        self.reserved(Hold(call, known.owners if is_same else owners))

    @precondition(lambda self: self.ids)
    @rule(
        position=positions,
        pico=picos,
        amend=st.booleans(),
        grade=st.sampled_from(["reported", "estimated"]),
    )
    def settle(self, position: int, pico: Any, amend: bool, grade: str) -> None:
        call_id = self.pick(position)
        known = self.model.calls.get(call_id)
        old = known.entry if known else entry(call_id=call_id, timestamp=from_us(self.clock.now_us))
        owners = known.owners if known else ("ledger", "user:b")
        self.settled(costing(old, pico, grade=grade), owners, amend)

    @precondition(lambda self: self.ids)
    @rule(position=positions)
    def settle_again(self, position: int) -> None:
        known = self.model.calls.get(self.pick(position))
        if known is not None:
            self.settled(known.entry, known.owners, False)

    @rule(pico=picos, owners=owners_sets)
    def record(self, pico: Any, owners: Any) -> None:
        call = entry(pico, timestamp=from_us(self.clock.now_us), user_id=owners[-1])
        self.ids.append(call.call_id)
        self.settled(call, owners, False)

    @precondition(lambda self: self.ids)
    @rule(position=positions)
    def release(self, position: int) -> None:
        call_id = self.pick(position)
        assert self.store.release(call_id) is self.model.release(call_id)

    @rule(process=st.sampled_from("pq"), lease_s=st.sampled_from([5, 60]))
    def renew(self, process: str, lease_s: int) -> None:
        until_us = self.clock.now_us + lease_s * 1_000_000
        expected = self.model.renew(process, until_us, self.clock.now_us)
        assert self.store.renew(process, lease_s) == expected

    @rule(
        process=st.sampled_from("pq"),
        lease_s=st.sampled_from([5, 60]),
        late_s=st.sampled_from([4.999999, 5, 60, 61]),
    )
    def renew_late(self, process: str, lease_s: int, late_s: float) -> None:
        """Renew when some leases have just run out and nobody has noticed yet."""
        self.pass_time(late_s)
        self.renew(process, lease_s)

    @rule()
    def lapse(self) -> None:
        assert self.store.lapse() == self.model.lapse(self.clock.now_us)

    @precondition(lambda self: self.ids)
    @rule(position=positions, pico=picos, is_released=st.booleans())
    def come_late(self, position: int, pico: Any, is_released: bool) -> None:
        """Resolve a call after all leases have run out."""
        self.pass_time(61)
        self.lapse()
        if is_released:
            self.release(position)
        else:
            self.settle(position, pico, False, "reported")

    @rule(seconds=st.sampled_from([0.000001, 1, 5, 59, 61, 3600, -1, -3600]))
    def pass_time(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @invariant()
    def balances_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        for owner in OWNERS:
            for span in spans_at(self.clock.now_us):
                assert self.store.balance(owner, span) == self.model.balance(owner, span)

    @invariant()
    def ledger_agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        model = self.model
        assert list(self.store.entries()) == [model.calls[call_id].entry for call_id in model.order]
        users = {call.entry.user_id for call in model.calls.values()}
        for user_id in users:
            mine = [model.calls[i].entry for i in model.order]
            mine = [call for call in mine if call.user_id == user_id]
            assert self.store.sums(Query(user_id=user_id)).cost_usd == sum(
                call.cost_usd or 0 for call in mine
            )
        assert self.store.verify() == []

"""Limits, spans, leases and alerts: what every store must do, part two."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store_calls import ALICE, DAY, NOON, Clock, costing, entry, hold, limit

from costtrace.stores.base import (
    ALWAYS,
    Balance,
    BudgetRecord,
    Crossing,
    Limit,
    Span,
    Store,
    Watch,
)

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
NEXT_DAY = Span(DAY.end_us, DAY.end_us + DAY_US)
TEAM = (*ALICE, "user:team")


class BudgetContract:
    """A hold fits all limits or none is touched; a threshold is crossed once."""

    # -- limits ------------------------------------------------------------------------------

    def test_exactly_what_fits_is_held(self, store: Store) -> None:
        """Ten calls of 100 fit into 1000, held or settled, and an eleventh does not."""
        calls = [entry(100) for _ in range(11)]
        for call in calls[:10]:
            assert store.reserve(hold(call, limit(1000))) is None
        for call in calls[:5]:
            store.settle(call, ALICE)

        refused = store.reserve(hold(calls[10], limit(1000)))

        assert refused is not None
        assert refused.balance == Balance(500, 500, 75, 75, 5, 5)
        assert (refused.limit, refused.unit) == (limit(1000), "usd")
        assert store.release(calls[10].call_id) is False

    def test_refused_call_may_be_tried_again(self, store: Store) -> None:
        """A refusal leaves no trace."""
        blocking, call = entry(1000), entry(100)
        store.reserve(hold(blocking, limit(1000)))
        assert store.reserve(hold(call, limit(1000))) is not None
        store.release(blocking.call_id)

        assert store.reserve(hold(call, limit(1000))) is None

    @pytest.mark.parametrize(
        ("limits", "unit"),
        [({"pico": 1399}, "usd"), ({"tokens": 29}, "tokens"), ({"calls": 1}, "calls")],
    )
    def test_each_unit_is_limited(self, store: Store, limits: dict[str, int], unit: str) -> None:
        """Money, tokens and calls are limits of their own."""
        store.settle(entry(700), ALICE)

        refused = store.reserve(hold(entry(700), Limit("user:alice", ALWAYS, **limits)))

        assert refused is not None
        assert refused.unit == unit

    def test_zero_limit_blocks_what_costs_and_lets_free_calls_pass(self, store: Store) -> None:
        """A limit of nothing is a limit."""
        assert store.reserve(hold(entry(1), limit(0))) is not None
        assert store.reserve(hold(entry(0), limit(0))) is None

    def test_limit_beyond_all_numbers_is_compared_exactly(self, store: Store) -> None:
        """A limit may be larger than what any store counts to."""
        assert store.reserve(hold(entry(2**61), limit(10**30))) is None
        assert store.reserve(hold(entry(2**61), limit(2**62 - 1))) is not None
        assert store.reserve(hold(entry(2**61), limit(2**62))) is None

    def test_each_owner_refuses_on_its_own_account(self, store: Store) -> None:
        """Of several limits the one that would be passed is named, and nobody is charged."""
        store.settle(entry(900), ("ledger", "user:team"))
        limits = (limit(1000), limit(1000, owner="user:team"), limit(5000, owner="ledger"))

        refused = store.reserve(hold(entry(200), *limits, owners=TEAM))

        assert refused is not None
        assert refused.limit.owner == "user:team"
        assert store.balance("user:alice", ALWAYS) == Balance()
        assert store.balance("ledger", ALWAYS).reserved_pico == 0

    def test_owner_with_several_limits_is_charged_once(self, store: Store) -> None:
        """A user nested in itself pays once, and each limit holds in its own span."""
        limits = (limit(1000, DAY), limit(5000))
        owners = ("ledger", "user:alice", "user:alice")
        store.settle(entry(900, timestamp=NOON - timedelta(days=1)), owners)

        assert store.reserve(hold(entry(800), *limits, owners=owners)) is None
        assert store.balance("user:alice", ALWAYS) == Balance(900, 800, 15, 15, 1, 1)
        refused = store.reserve(hold(entry(201), *limits, owners=owners))
        assert refused is not None
        assert refused.limit.span == DAY

    def test_limit_of_someone_who_does_not_pay_is_still_checked(self, store: Store) -> None:
        """A limit counts what its owner spent, also when this call is charged to others."""
        store.settle(entry(900), ("user:team",))

        assert store.reserve(hold(entry(200), limit(1000, owner="user:team"))) is not None

    def test_tokens_and_calls_of_a_hold_are_reserved(self, store: Store) -> None:
        """A hold reserves its entry's tokens and one call."""
        store.reserve(hold(entry(None), limit(calls=1)))

        assert store.balance("user:alice", ALWAYS) == Balance(0, 0, 0, 15, 0, 1)
        assert store.reserve(hold(entry(None), limit(calls=1))) is not None

    # -- spans -------------------------------------------------------------------------------

    @pytest.mark.parametrize("is_asked_before", [True, False])
    def test_call_counts_in_the_spans_that_contain_its_time(
        self, store: Store, is_asked_before: bool
    ) -> None:
        """A span starts inclusive and ends exclusive, whether it was in use before or not."""
        at_us = DAY.start_us + 43_230_123_456
        spans = {
            "all": ALWAYS,
            "day": DAY,
            "from": Span(at_us, at_us + 1),
            "before": Span(at_us - 1, at_us),
            "after": Span(at_us + 1, at_us + 2),
            "next": NEXT_DAY,
        }
        if is_asked_before:
            store.reserve(hold(entry(0), *(limit(10**6, span) for span in spans.values())))
        calls = [entry(100), entry(100)]
        store.reserve(hold(calls[0]))
        store.settle(calls[1], ALICE)

        spent = {name: store.balance("user:alice", span) for name, span in spans.items()}

        assert {name for name, balance in spent.items() if balance.spent_pico == 100} == {
            "all",
            "day",
            "from",
        }
        assert [spent[name].reserved_pico for name in spans] == [100, 100, 100, 0, 0, 0]

    def test_hold_settles_in_the_span_that_authorized_it(self, store: Store) -> None:
        """A call authorized before midnight belongs to that day, whenever it ends."""
        call = entry(500, timestamp=NOON.replace(hour=23, minute=59))
        store.reserve(hold(call, limit(1000, DAY)))
        store.reserve(hold(entry(1, timestamp=NOON + timedelta(days=1)), limit(1000, NEXT_DAY)))

        store.settle(call, ALICE)

        assert store.balance("user:alice", DAY).spent_pico == 500
        assert store.balance("user:alice", NEXT_DAY) == Balance(0, 1, 0, 15, 0, 1)

    def test_more_spans_than_are_kept_stay_exact(self, store: Store) -> None:
        """A span that was put aside is summed again when it is asked for."""
        hours = [
            Span(DAY.start_us + n * HOUR_US, DAY.start_us + (n + 1) * HOUR_US) for n in range(24)
        ]
        for n in range(24):
            at = NOON.replace(hour=n)
            for _ in range(n):
                store.settle(entry(10, timestamp=at), ALICE)
            assert store.reserve(hold(entry(1, timestamp=at), limit(10**6, hours[n]))) is None
        store.settle(entry(7, timestamp=NOON.replace(hour=1)), ALICE)

        assert [store.balance("user:alice", hour).spent_pico for hour in hours] == [
            n * 10 + (7 if n == 1 else 0) for n in range(24)
        ]

    def test_rolling_span_moves_with_the_clock(self, store: Store, clock: Clock) -> None:
        """What leaves the span makes room, to the microsecond."""
        an_hour = limit(1000, Span(clock.now_us - HOUR_US, clock.now_us, is_rolling=True))
        for minutes in (60, 59, 30, 0):
            store.settle(entry(250, timestamp=NOON - timedelta(minutes=minutes)), ALICE)
        assert store.reserve(hold(entry(1), an_hour)) is not None

        later = Span(an_hour.span.start_us + 1, clock.now_us + 1, is_rolling=True)

        assert store.balance("user:alice", later).spent_pico == 750
        assert store.reserve(hold(entry(250), limit(1000, later))) is None
        assert store.reserve(hold(entry(1), limit(1000, later))) is not None

    def test_rolling_span_counts_what_a_faster_clock_reserved(
        self, store: Store, clock: Clock
    ) -> None:
        """A thread that read its clock a little later may have reserved before: it counts."""
        span = Span(clock.now_us - HOUR_US, clock.now_us, is_rolling=True)
        ahead = entry(900, timestamp=NOON + timedelta(milliseconds=5))
        assert store.reserve(hold(ahead, limit(1000, span))) is None

        assert store.reserve(hold(entry(200), limit(1000, span))) is not None

    # -- leases ------------------------------------------------------------------------------

    def test_reserve_lapses_what_is_due(self, store: Store, clock: Clock) -> None:
        """No background work is needed: whoever reserves charges the holds of the dead."""
        dead = entry(600)
        store.reserve(hold(dead, limit(1000)))
        clock.forward(60)

        assert store.reserve(hold(entry(400), limit(1000))) is None
        assert store.balance("user:alice", ALWAYS) == Balance(600, 400, 15, 15, 1, 1)
        assert [call.call_id for call in store.provisional()] == [dead.call_id]

    def test_refusal_keeps_what_has_lapsed(self, store: Store, clock: Clock) -> None:
        """A hold lapses on its own account, also when the call that noticed is refused."""
        store.reserve(hold(entry(600), limit(1000)))
        clock.forward(60)

        refused = store.reserve(hold(entry(401), limit(1000)))

        assert refused is not None
        assert refused.balance == Balance(600, 0, 15, 0, 1, 0)
        assert store.lapse() == 0

    def test_crash_loop_spends_the_budget_once(self, store: Store, clock: Clock) -> None:
        """A worker that dies in every call is stopped by its own worst cases."""
        admitted = 0
        for _ in range(300):
            admitted += store.reserve(hold(entry(5), limit(1000))) is None
            clock.forward(61)
        store.lapse()

        assert admitted == 200
        assert len(store.provisional()) == 200
        for call in store.provisional():
            store.settle(costing(call, 0), ALICE, amend=True)
        assert store.balance("user:alice", ALWAYS).spent_pico == 0

    def test_many_due_holds_all_lapse(self, store: Store, clock: Clock) -> None:
        """One call sees to at most 64 due holds; `lapse` to all of them."""
        for _ in range(200):
            store.reserve(hold(entry(1)))
        clock.forward(61)

        store.reserve(hold(entry(0)))
        assert len(store.provisional()) == 64
        assert store.lapse() == 136
        assert store.balance("ledger", ALWAYS) == Balance(200, 0, 3000, 15, 200, 1)

    def test_renewed_holds_of_a_process_stand(self, store: Store, clock: Clock) -> None:
        """A process that lives keeps its holds, and only its own."""
        mine, other = entry(100), entry(10)
        store.reserve(hold(mine, process="mine"))
        store.reserve(hold(other, process="other"))
        clock.forward(59)

        assert store.renew("mine", 60) == 1
        clock.forward(2)
        assert store.lapse() == 1
        assert store.balance("ledger", ALWAYS).reserved_pico == 100
        clock.forward(59)
        assert store.lapse() == 1

    def test_hold_that_is_due_is_not_renewed(self, store: Store, clock: Clock) -> None:
        """A lease that has run out is not revived, lapsed yet or not."""
        store.reserve(hold(entry(100)))
        clock.forward(60)

        assert store.renew("p1", 60) == 0
        assert store.lapse() == 1
        assert store.renew("p1", 60) == 0
        assert len(store.provisional()) == 1

    def test_due_hold_can_still_be_settled(self, store: Store, clock: Clock) -> None:
        """A lease that ran out unnoticed harms nothing."""
        call = entry(100)
        store.reserve(hold(call))
        clock.forward(3600)

        store.settle(costing(call, 40), ALICE)

        assert store.balance("user:alice", ALWAYS) == Balance(40, 0, 15, 0, 1, 0)

    @pytest.mark.parametrize("lease_s", [-1, float("nan"), float("inf"), 10**9])
    def test_lease_without_end_is_refused(self, store: Store, lease_s: float) -> None:
        """A hold always ends."""
        with pytest.raises(ValueError, match="lease"):
            store.reserve(hold(entry(), lease_s=lease_s))
        with pytest.raises(ValueError, match="lease"):
            store.renew("p1", lease_s)

    # -- alerts ------------------------------------------------------------------------------

    def test_threshold_is_crossed_once(self, store: Store) -> None:
        """The settlement that reaches a threshold says so, and no other."""
        watches = (Watch("user:alice", DAY, 900, "a:90"), Watch("user:alice", DAY, 1000, "a:100"))

        crossed = [store.settle(entry(450), ALICE, watches) for _ in range(4)]

        assert crossed == [
            [],
            [Crossing(watches[0], 900)],
            [Crossing(watches[1], 1350)],
            [],
        ]

    def test_replayed_settlement_crosses_nothing(self, store: Store) -> None:
        """A settlement that changes nothing alerts nobody, even with other watches."""
        call = entry(1000)
        store.settle(call, ALICE)

        assert store.settle(call, ALICE, [Watch("user:alice", ALWAYS, 1, "k")]) == []

    def test_amendment_can_cross(self, store: Store) -> None:
        """A correction upwards is looked at like any other spend."""
        call, watch = entry(800), Watch("user:alice", ALWAYS, 900, "k")
        assert store.settle(call, ALICE, [watch]) == []

        assert store.settle(costing(call, 950), ALICE, [watch], amend=True) == [
            Crossing(watch, 950)
        ]
        assert store.settle(costing(call, 990), ALICE, [watch], amend=True) == []

    def test_next_span_alerts_anew(self, store: Store) -> None:
        """Each span has keys of its own."""
        tomorrow = NOON + timedelta(days=1)
        first, second = Watch("ledger", DAY, 100, "d1"), Watch("ledger", NEXT_DAY, 100, "d2")

        assert store.settle(entry(100), ALICE, [first, second]) == [Crossing(first, 100)]
        assert store.settle(entry(100, timestamp=tomorrow), ALICE, [first, second]) == [
            Crossing(second, 100)
        ]

    def test_rolling_watch_is_summed(self, store: Store, clock: Clock) -> None:
        """A threshold of a rolling span looks at what is in it."""
        span = Span(clock.now_us - HOUR_US, clock.now_us, is_rolling=True)
        watch = Watch("user:alice", span, 150, "k")
        store.settle(entry(100, timestamp=NOON - timedelta(hours=2)), ALICE)

        assert store.settle(entry(100), ALICE, [watch]) == []
        assert store.settle(entry(100), ALICE, [watch]) == [Crossing(watch, 200)]

    def test_alert_that_nobody_delivered_is_handed_out_again(
        self, store: Store, clock: Clock
    ) -> None:
        """After a crash somebody else delivers, one asker at a time."""
        watches = [Watch("user:alice", ALWAYS, 1, "k1"), Watch("user:alice", ALWAYS, 2, "k2")]
        crossed = store.settle(entry(10), ALICE, watches)
        assert store.undelivered(30) == []
        store.delivered(["k2", "unknown"])
        clock.forward(30)

        assert store.undelivered(30) == crossed[:1]
        assert store.undelivered(30) == []
        clock.forward(30)
        assert store.undelivered(30) == crossed[:1]
        store.delivered(["k1"])
        clock.forward(3600)
        assert store.undelivered(0) == []

    # -- budgets and owners ------------------------------------------------------------------

    def test_last_terms_of_a_budget_count(self, store: Store) -> None:
        """A budget is known by its user and window."""
        first = BudgetRecord("alice", "month", "Europe/Berlin", 5 * 10**12, (0.5, 0.9))
        other = BudgetRecord("alice", None, None, None, ())
        ledger = BudgetRecord(None, None, None, 10**30, (0.9,))
        changed = BudgetRecord("alice", "month", None, 6 * 10**12, (0.9,))
        for budget in (first, other, ledger, changed, changed):
            store.define(budget)

        assert sorted(store.budgets(), key=repr) == sorted([other, ledger, changed], key=repr)

    def test_dropped_owner_starts_from_nothing(self, store: Store) -> None:
        """A block that is over is forgotten; its calls stay, charged to the others."""
        owners = (*ALICE, "block:1")
        call, open_call = entry(500), entry(300)
        store.reserve(hold(call, limit(1000, owner="block:1"), owners=owners))
        store.reserve(hold(open_call, limit(1000, owner="block:1"), owners=owners))
        store.settle(call, owners)

        store.drop("block:1")
        store.drop("block:1")

        assert store.balance("block:1", ALWAYS) == Balance()
        assert store.balance("user:alice", ALWAYS) == Balance(500, 300, 15, 15, 1, 1)
        assert store.verify() == []
        store.settle(open_call, owners)
        store.settle(entry(1), owners)
        assert store.balance("block:1", ALWAYS).spent_pico == 1
        assert store.balance("user:alice", ALWAYS).spent_pico == 801

"""Entries, totals and what is left of pruned ones: what every store must do, part three."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from store_calls import ALICE, DAY, NOON, Clock, costing, entry, hold, limit

from costtrace.entry import CostEntry
from costtrace.exceptions import CallConflictError
from costtrace.stores.base import ALWAYS, Balance, Query, Span, Store
from costtrace.usage import Usage

DIMENSIONS: dict[str, Callable[[CostEntry], str]] = {
    "function_name": lambda call: call.function_name,
    "user_id": lambda call: call.user_id,
    "model": lambda call: call.model,
    "provider": lambda call: call.provider,
    "operation": lambda call: call.operation,
    "service_tier": lambda call: call.service_tier,
    "status": lambda call: call.status,
    "grade": lambda call: call.grade,
    "day": lambda call: call.timestamp.date().isoformat(),
    "call_path": lambda call: " > ".join(call.call_path),
    "tag:team": lambda call: call.tags.get("team", ""),
}
MIDNIGHT = NOON.replace(hour=0, minute=0, second=0, microsecond=0)


def varied_calls() -> list[CostEntry]:
    """Calls that differ in everything one can ask for, over four days."""
    return [
        entry(
            None if n % 7 == 0 else n * 1000 + 1,
            user_id=("alice", "bob", "carol")[n % 3],
            function_name=("f", "g")[n % 2],
            model=f"model-{n % 5}",
            provider=("openai", "anthropic")[n % 2],
            operation=("chat", "messages")[n % 2],
            service_tier=("standard", "flex")[n % 2],
            status=("ok", "partial", "error")[n % 3],
            call_path=("main", "f")[: n % 3],
            tags={"team": "blue", "size": str(n % 2)} if n % 2 else {},
            usage=Usage(n, n * 2),
            response_id=f"resp-{n}" if n % 4 else None,
            timestamp=MIDNIGHT + timedelta(hours=5 * n, microseconds=n),
        )
        for n in range(20)
    ]


class QueryContract:
    """What comes out is what went in, however it is asked for."""

    @pytest.fixture
    def calls(self, store: Store) -> list[CostEntry]:
        """Calls in the store."""
        calls = varied_calls()
        for call in calls:
            store.settle(call, ("ledger", f"user:{call.user_id}"))
        return calls

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            (Query(), lambda call: True),
            (Query(user_id="bob"), lambda call: call.user_id == "bob"),
            (Query(user_id="nobody"), lambda call: False),
            (Query(function_name="g"), lambda call: call.function_name == "g"),
            (Query(model="model-3"), lambda call: call.model == "model-3"),
            (Query(provider="openai"), lambda call: call.provider == "openai"),
            (Query(tags={"team": "blue"}), lambda call: call.tags.get("team") == "blue"),
            (Query(tags={"team": "blue", "size": "0"}), lambda call: False),
            (Query(response_id="resp-6"), lambda call: call.response_id == "resp-6"),
            (Query(since=NOON), lambda call: call.timestamp >= NOON),
            (Query(until=NOON), lambda call: call.timestamp < NOON),
            (
                Query(since=MIDNIGHT + timedelta(hours=5, microseconds=1), until=NOON),
                lambda call: MIDNIGHT + timedelta(hours=5) < call.timestamp < NOON,
            ),
            (
                Query(since=MIDNIGHT + timedelta(hours=5, microseconds=2), until=NOON),
                lambda call: MIDNIGHT + timedelta(hours=6) < call.timestamp < NOON,
            ),
            (
                Query(since=MIDNIGHT + timedelta(days=1), until=MIDNIGHT + timedelta(days=3)),
                lambda call: 1 <= (call.timestamp - MIDNIGHT).days < 3,
            ),
            (Query(since=NOON, until=NOON), lambda call: False),
            (Query(since=NOON, until=MIDNIGHT), lambda call: False),
            (
                Query(user_id="bob", function_name="g", since=NOON, tags={"size": "1"}),
                lambda call: call.user_id == "bob" and call.function_name == "g"
                and call.timestamp >= NOON,
            ),
            (
                Query(since=NOON.astimezone(timezone(timedelta(hours=9)))),
                lambda call: call.timestamp >= NOON,
            ),
            (Query(until=datetime.max.replace(tzinfo=timezone.utc)), lambda call: True),
        ],
    )  # fmt: skip
    def test_question_is_answered_in_all_ways(
        self,
        store: Store,
        calls: list[CostEntry],
        query: Query,
        wanted: Callable[[CostEntry], bool],
    ) -> None:
        """Entries, sums and totals agree on which calls are asked for."""
        expected = [call for call in calls if wanted(call)]

        assert list(store.entries(query)) == expected
        assert list(store.entries(query, newest_first=True)) == expected[::-1]
        sums, totals = store.sums(query), store.totals(["function_name", "day"], query)
        assert sums.entries == len(expected)
        assert sums.cost_usd == sum(call.cost_usd or 0 for call in expected)
        assert sums.unpriced_calls == sum(call.cost_usd is None for call in expected)
        assert sum(total.prompt_tokens for total in totals) == sums.prompt_tokens
        assert sum(total.cost_usd for total in totals) == sums.cost_usd
        assert len(totals) == len({(c.function_name, c.timestamp.date()) for c in expected})

    def test_call_is_found_by_its_id(self, store: Store, calls: list[CostEntry]) -> None:
        """A call id asks for one entry, and other conditions still hold."""
        found = Query(call_id=calls[3].call_id)

        assert list(store.entries(found)) == [calls[3]]
        assert store.sums(found).entries == 1
        assert store.totals(["user_id"], found)[0].key == ("alice",)
        assert list(store.entries(Query(call_id=calls[3].call_id, user_id="bob"))) == []
        assert list(store.entries(Query(call_id="unknown"))) == []

    @pytest.mark.parametrize(
        "by",
        [*([name] for name in DIMENSIONS), ["user_id", "model"], ["day", "tag:team", "status"]],
    )
    def test_totals_are_the_sums_of_their_groups(
        self, store: Store, calls: list[CostEntry], by: list[str]
    ) -> None:
        """Every grouping gives each group its own sum, dearest first, and the whole exactly."""
        expected: dict[tuple[str, ...], list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
        for call in calls:
            sums = expected[tuple(DIMENSIONS[name](call) for name in by)]
            more = (1, call.prompt_tokens, call.completion_tokens, call.cost_usd or 0)
            for position, value in enumerate((*more, int(call.cost_usd is None))):
                sums[position] += value

        totals = store.totals(by)

        assert {
            total.key: [
                total.calls,
                total.prompt_tokens,
                total.completion_tokens,
                total.cost_usd,
                total.unpriced_calls,
            ]
            for total in totals
        } == expected
        assert [total.cost_usd for total in totals] == sorted(
            (total.cost_usd for total in totals), reverse=True
        )

    @pytest.mark.parametrize("by", [["colour"], [], ["tag:"], ["user_id", "users"]])
    def test_unknown_dimension_is_refused(self, store: Store, by: list[str]) -> None:
        """A wrong name is said at once."""
        with pytest.raises(ValueError, match="group by"):
            store.totals(by)

    def test_time_without_a_zone_is_refused(self, store: Store) -> None:
        """Nobody knows which instant that is."""
        naive = datetime(2026, 11, 22)
        for ask in (store.sums, store.entries, lambda query: store.totals(["model"], query)):
            with pytest.raises(ValueError, match="since must be an aware datetime"):
                ask(Query(since=naive))
        with pytest.raises(ValueError, match="timestamp must be an aware datetime"):
            store.settle(entry(timestamp=naive), ALICE)
        with pytest.raises(ValueError, match="1970"):
            store.settle(entry(timestamp=naive.replace(1969, tzinfo=timezone.utc)), ALICE)

    def test_entries_come_in_the_order_of_the_ledger(self, store: Store, clock: Clock) -> None:
        """Not when a call was reserved but when it was entered decides, and it keeps its place."""
        first, second, third, fourth = calls = [entry(n) for n in (1, 2, 3, 4)]
        for call in calls:
            store.reserve(hold(call, lease_s=10 if call is third else 60))
        store.settle(second, ALICE)
        clock.forward(11)
        store.lapse()
        store.settle(fourth, ALICE)
        store.settle(first, ALICE)
        store.settle(third, ALICE)

        assert list(store.entries()) == [second, third, fourth, first]

    def test_many_entries_are_read_while_others_are_written(self, store: Store) -> None:
        """Reading goes on from where it was, however much is entered meanwhile."""
        calls = [entry(n, user_id=("alice", "bob")[n % 2]) for n in range(1200)]
        for call in calls:
            store.settle(call, ALICE)
        reading = store.entries(Query(user_id="bob"))
        first = next(reading)
        store.settle(entry(user_id="bob"), ALICE)

        assert [first, *reading] == calls[1::2]
        assert list(store.entries(newest_first=True))[1:] == calls[::-1]

    def test_pruned_entries_stay_in_every_total_and_balance(
        self, store: Store, calls: list[CostEntry]
    ) -> None:
        """Entries go, sums stay: by each dimension, by user, in each span."""
        week = Span(DAY.start_us, DAY.start_us + 7 * 86_400_000_000)
        owners = ("ledger", "user:alice", "user:bob")
        store.reserve(hold(entry(0), limit(10**9, week)))
        by = [[name] for name in DIMENSIONS]
        before = (
            [store.totals(names) for names in by],
            [store.balance(owner, span) for owner in owners for span in (ALWAYS, DAY, week)],
            store.sums(),
            store.sums(Query(since=MIDNIGHT + timedelta(days=1))),
        )
        cut = MIDNIGHT + timedelta(days=2)
        kept = [call for call in calls if call.timestamp >= cut]

        assert store.prune(cut) == len(calls) - len(kept)
        assert store.prune(cut) == 0

        assert list(store.entries()) == kept
        assert before == (
            [store.totals(names) for names in by],
            [store.balance(owner, span) for owner in owners for span in (ALWAYS, DAY, week)],
            store.sums(),
            store.sums(Query(since=MIDNIGHT + timedelta(days=1))),
        )
        assert store.verify() == []

    def test_pruned_call_is_not_counted_again(self, store: Store) -> None:
        """A late replay of a call that is no longer kept is refused, not added."""
        call = entry(100)
        store.settle(call, ALICE)
        store.prune(NOON + timedelta(seconds=1))

        with pytest.raises(CallConflictError, match="no longer kept"):
            store.settle(call, ALICE)
        with pytest.raises(CallConflictError, match="no longer kept"):
            store.reserve(hold(call))
        later = entry(1, timestamp=NOON + timedelta(seconds=1))
        assert store.settle(later, ALICE) == []
        assert store.sums().calls == 2

    def test_provisional_and_held_calls_are_not_pruned(self, store: Store, clock: Clock) -> None:
        """What is not decided yet stays until it is."""
        lapsed, held = entry(100), entry(10)
        store.reserve(hold(lapsed))
        clock.forward(61)
        store.lapse()
        store.reserve(hold(held))
        store.settle(entry(1), ALICE)

        assert store.prune(NOON + timedelta(days=1)) == 1
        assert len(store.provisional()) == 1
        store.settle(costing(lapsed, 70), ALICE)
        store.settle(held, ALICE)

        assert store.sums().cost_usd == Decimal(81).scaleb(-12)
        assert store.balance("user:alice", DAY) == Balance(81, 0, 45, 0, 3, 0)

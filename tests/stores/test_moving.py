"""A ledger moves from each home to each other: all of it, exactly, and only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homes import KINDS, empty_home
from store_calls import ALICE, DAY, NOON, Clock, entry, hold, limit, rich_entry

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.base import ALWAYS, BudgetRecord, Span, Watch
from costtrace.stores.moving import copy, load, records_of

GROUPINGS = (
    *("function_name", "user_id", "model", "provider", "operation", "service_tier"),
    *("status", "grade", "day", "call_path", "tag:team"),
)
OWNERS = ("ledger", "user:alice", "user:bob", "user:team", "block:b1", "block:gone", "user:nobody")
YESTERDAY = Span(DAY.start_us - 86_400_000_000, DAY.start_us)
MINUTE = Span(DAY.start_us + 43_200_000_000, DAY.start_us + 43_260_000_000)
OLD = NOON - timedelta(days=40)
Open = Callable[[str, str], Any]


@pytest.fixture
def clock() -> Clock:
    """Time that moves by hand."""
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Return what opens an empty ledger of a kind; whatever happened, its balances agree."""
    stores: list[Any] = []

    def open_empty(kind: str, name: str) -> Any:
        store = empty_home(kind, name, tmp_path)()
        store.use_clock(clock)
        stores.append(store)
        return store

    yield open_empty
    for store in stores:
        assert store.verify() == []
        store.close()


def fill(store: Any, clock: Clock) -> None:
    """Everything that a ledger may hold."""
    team = ("ledger", "user:alice", "user:team", "block:b1")
    store.define(BudgetRecord("alice", "day", "Europe/Berlin", 10**9, (0.5, 0.9)))
    store.define(BudgetRecord(None, None, None, 10**30, ()))
    store.settle(entry(70, timestamp=OLD), ALICE)
    store.settle(entry(None, timestamp=OLD, model="mystery"), team)
    store.prune(OLD + timedelta(days=1))
    watches = [Watch("user:alice", DAY, 100, "told"), Watch("ledger", ALWAYS, 100, "untold")]
    store.settle(entry(700, call_id="sold", tags={"team": "blue"}), team, watches)
    store.delivered(["told"])
    store.settle(rich_entry(), ("ledger", "user:alice"))
    store.settle(entry(2**60 + 7, user_id="bob\0é", call_id="x\0y"), ("ledger", "user:bob"))
    store.settle(entry(-30, call_id="adjust", adjusts="sold"), team)
    store.settle(entry(9), ("ledger", "user:alice", "block:gone"))
    store.drop("block:gone")
    lost = entry(40, call_id="lost")
    store.reserve(hold(lost, limit(10**30), owners=team, lease_s=1))
    clock.forward(2)
    assert store.lapse() == 1
    store.settle(entry(5, user_id="bob", grade="assumed"), ("ledger", "user:bob"))
    store.reserve(hold(entry(11, call_id="going on"), limit(10**30), owners=team, lease_s=60))


def sums_of(store: Any) -> dict[str, Any]:
    """All that can be asked."""
    found: dict[str, Any] = {by: store.totals([by]) for by in GROUPINGS}
    found["all"] = store.totals(GROUPINGS)
    found["sums"] = store.sums()
    for owner in OWNERS:
        for span in (ALWAYS, DAY, YESTERDAY, MINUTE):
            found[f"{owner} {span}"] = store.balance(owner, span)
    found["entries"] = list(store.entries())
    found["charged"] = list(store.charged())
    found["provisional"] = store.provisional()
    found["budgets"] = sorted(store.budgets(), key=str)
    found["alerts"] = sorted(store.latched(), key=str)
    holds = [replace(each, process="") for each in store.standing()]
    found["holds"] = [
        (replace(each.entry, grade="assumed"), sorted(each.owners), each.lease_s) for each in holds
    ]
    return found


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_ledger_arrives_and_a_second_time_nothing_changes(
    opened: Open, clock: Clock, kind: str, to: str
) -> None:
    """Every sum, balance, owner, alert, hold and provisional charge is what it was."""
    source, target = opened(kind, "from_here"), opened(to, "to_there")
    fill(source, clock)
    before = sums_of(source)
    assert before["sums"].cost_usd == Decimal(2**60 + 7 + 70 + 700 - 30 + 9 + 40 + 5 + 700).scaleb(
        -12
    )

    loaded = copy(source, target)

    assert (loaded.entries, loaded.added, loaded.conflicts) == (7, 9, [])
    assert sums_of(target) == before
    assert sums_of(source) == before
    again = copy(source, target)
    assert (again.added, again.conflicts) == (0, [])
    assert sums_of(target) == before
    assert target.settle(entry(1), ALICE, [Watch("user:alice", DAY, 100, "told")]) == []


@pytest.mark.parametrize("to", KINDS)
def test_moved_holds_and_provisional_charges_can_still_be_settled(
    opened: Open, clock: Clock, to: str
) -> None:
    """A call that was under way is settled at its new home, or lapses there."""
    source, target = opened("memory", "a"), opened(to, "b")
    fill(source, clock)
    copy(source, target)

    target.settle(entry(3, call_id="lost"), ALICE)
    clock.forward(61)
    assert target.lapse() == 1
    assert {call.call_id for call in target.provisional()} >= {"going on"}
    assert target.balance("block:b1", ALWAYS).spent_pico == 700 - 30 + 3 + 11
    assert target.balance("block:b1", ALWAYS).reserved_pico == 0


@pytest.mark.parametrize("to", KINDS)
def test_import_that_broke_off_is_completed(opened: Open, clock: Clock, to: str) -> None:
    """After any record: what is there stays, what is missing comes."""
    source, target = opened("memory", "a"), opened(to, "b")
    fill(source, clock)
    records = list(records_of(source))
    for stop in range(len(records)):
        load(target, records[:stop])

    assert load(target, records).conflicts == []
    assert sums_of(target) == sums_of(source)


@pytest.mark.parametrize("to", KINDS)
def test_sums_that_may_be_there_already_stay_out(opened: Open, clock: Clock, to: str) -> None:
    """A ledger pruned between two imports, and sums that come back over another ledger."""
    source, target = opened("memory", "a"), opened(to, "b")
    fill(source, clock)
    copy(source, target)
    before = sums_of(target)
    source.prune(NOON + timedelta(days=1))

    again = copy(source, target)

    assert "pruned further" in again.conflicts[0]
    assert sums_of(target) == before
    assert "came from a ledger that is here" in copy(target, source).conflicts[0]


def test_two_ledgers_become_one(opened: Open, clock: Clock) -> None:
    """Those of two machines; the same call in both is one call, and another cost a conflict."""
    first, second, target = (opened("memory", name) for name in "abc")
    fill(first, clock)
    shared = entry(5, call_id="shared")
    for store in (first, second):
        store.settle(shared, ALICE)
    second.settle(entry(8), ("ledger", "user:bob"))
    second.settle(entry(9, call_id="sold"), ("ledger", "user:bob"))

    copy(first, target)
    loaded = copy(second, target)

    assert loaded.added == 1
    assert loaded.conflicts == ["call 'sold' is settled already, with another cost"]
    assert target.sums().cost_usd == first.sums().cost_usd + Decimal(8).scaleb(-12)


def test_ledger_that_is_pruned_while_it_is_read_is_read_again(opened: Open, clock: Clock) -> None:
    """Half of it before and half of it after would count calls twice."""
    source = opened("memory", "a")
    fill(source, clock)
    records = records_of(source)
    next(records)
    source.prune(NOON + timedelta(days=1))

    with pytest.raises(BudgetStoreError, match="was pruned while it was being read"):
        list(records)


def test_store_of_another_kind_says_what_it_lacks(opened: Open) -> None:
    """Nothing is copied by halves."""
    with pytest.raises(TypeError, match="a int does not say all that is needed"):
        copy(opened("memory", "a"), 3)  # type: ignore[arg-type]

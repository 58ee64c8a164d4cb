"""MemoryStore keeps the contract."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from store_calls import ALICE, DAY, NOON, Clock, costing, entry, hold, limit
from store_contract import StoreContract
from store_interrupts import interrupted_at

from costtrace.entry import CostEntry
from costtrace.stores import MemoryStore
from costtrace.stores.base import ALWAYS, Query, Store, Watch
from costtrace.usage import Usage


class TestMemoryStore(StoreContract):
    """All that every store must do."""

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """Return what opens a store."""
        return MemoryStore


class TestBoundedMemoryStore(StoreContract):
    """All of it again, with an upper bound on entries that these tests do not reach."""

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """Return what opens a store."""
        return lambda: MemoryStore(keep=10_000)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "10"])
def test_keep_must_be_a_number_of_entries(wrong: Any) -> None:
    """Nonsense is refused at once."""
    with pytest.raises(ValueError, match="keep must be"):
        MemoryStore(keep=wrong)


def test_totals_stay_exact_when_old_entries_go() -> None:
    """Only the latest entries are kept; every sum still has all of them."""
    bounded, whole = MemoryStore(keep=1000), MemoryStore()
    calls = [
        entry(
            n,
            user_id=f"user-{n % 7}",
            model=f"model-{n % 3}",
            response_id=f"answer-{n}",
            timestamp=NOON + timedelta(seconds=n * 20),
            usage=Usage(n, 1, seconds=n % 2),
        )
        for n in range(5000)
    ]
    for n, call in enumerate(calls):
        owners = ("ledger", f"user:{call.user_id}")
        for store in (bounded, whole):
            store.settle(call, owners)
            if n % 100 == 0:
                store.settle(costing(call, n + 1), owners, amend=True)
    store = bounded

    assert list(store.entries()) == list(whole.entries())[-1000:]
    assert list(store.entries(Query(user_id="user-3"), newest_first=True)) == [
        call for call in reversed(list(store.entries())) if call.user_id == "user-3"
    ]
    assert store.sums() == whole.sums()
    for by in (["user_id"], ["day", "model"]):
        assert store.totals(by) == whole.totals(by)
    for owner in ("ledger", "user:user-3"):
        for span in (ALWAYS, DAY):
            assert store.balance(owner, span) == whole.balance(owner, span)
    assert store.settle(calls[-1], ALICE) == []
    assert store.verify() == []
    assert store.rename_user("user-3", "user-4") == len(calls[3::7])
    assert store.sums() == whole.sums()
    assert store.verify() == []


def test_a_million_entries_take_little_memory_and_no_pauses() -> None:
    """Packed entries: few bytes each, and nothing for the garbage collector to visit."""
    store, count = MemoryStore(), 20_000

    def fill(first: int) -> None:
        for n in range(first, first + count):
            answer = f"chatcmpl-{n:029}"
            call = entry(n, call_id=f"{n:032x}", response_id=answer, duration_s=0.5)
            store.settle(call, ALICE)

    fill(0)
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    fill(count)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used / (2 * count) < 160  # what grows is copied, so all of it is seen
    assert len(gc.get_objects()) - objects < 1000


def test_threads_share_a_budget_exactly() -> None:
    """Eight threads try 500 times each to take 7 of 10,000: 1428 times it fits."""
    store, admitted = MemoryStore(), []

    def work() -> None:
        for _ in range(500):
            call = entry(7)
            if store.reserve(hold(call, limit(10_000))) is None:
                store.settle(call, ALICE)
                admitted.append(call.call_id)

    in_threads(work, 8)

    assert len(admitted) == 10_000 // 7
    assert store.balance("user:alice", ALWAYS).spent_pico == 7 * (10_000 // 7)
    assert store.verify() == []


def test_each_threshold_is_crossed_in_one_thread() -> None:
    """Eight threads spend on ten owners: each of twenty thresholds fires once in all."""
    store, crossed = MemoryStore(), []

    def work() -> None:
        for n in range(100):
            owner = f"user:{n % 10}"
            watches = [Watch(owner, ALWAYS, at, f"{owner}|{at}") for at in (50, 90)]
            for crossing in store.settle(entry(2), ("ledger", owner), watches):
                crossed.append(crossing.watch.key)

    in_threads(work, 8)

    assert sorted(crossed) == sorted(f"user:{n}|{at}" for n in range(10) for at in (50, 90))


def test_readers_and_writers_do_not_disturb_each_other() -> None:
    """Reports, entries and pruning go on while threads write."""
    store = MemoryStore(keep=500)

    def write() -> None:
        for n in range(1500):
            call = entry(1, user_id=str(n % 5))
            store.reserve(hold(call, limit(10**9)))
            store.settle(call, ALICE)

    def read() -> None:
        for _ in range(20):
            assert sum(total.calls for total in store.totals(["user_id"])) <= 6000
            assert sum(1 for _ in store.entries()) <= 500
            assert store.verify() == []

    in_threads(write, 4, read)

    assert store.sums().calls == 6000
    assert store.verify() == []


@pytest.mark.parametrize("before", [0, 126, 127])
def test_interruption_anywhere_leaves_a_sound_store(before: int) -> None:
    """Ctrl-C at any line of any step: nothing is half done, and the step can be done again.

    Also where the step is the one that adds the latest entries to the sums.
    """
    steps: list[Callable[[MemoryStore, CostEntry], object]] = [
        lambda store, call: store.reserve(hold(call, limit(10**6))),
        lambda store, call: store.settle(call, ALICE, [Watch("user:alice", ALWAYS, 1, "k")]),
        lambda store, call: store.settle(costing(call, 5), ALICE, amend=True),
        lambda store, call: store.release("lapsed"),
        lambda store, call: store.lapse(),
    ]
    for step in steps:
        line = 0
        while True:
            store, clock, call = MemoryStore(), Clock(), entry(100)
            store.use_clock(clock)
            for _ in range(before):
                store.settle(entry(1), ALICE)
            store.reserve(hold(entry(3, call_id="lapsed"), limit(10**6), lease_s=1))
            clock.forward(2)
            store.lapse()
            store.reserve(hold(entry(4, call_id="due"), lease_s=1))
            clock.forward(2)
            if step in steps[1:2]:
                store.reserve(hold(call, limit(10**6)))
            was_interrupted = interrupted_at(line, lambda: step(store, call))  # noqa: B023
            assert "count=0" in repr(store._lock)
            assert store.verify() == []
            if not was_interrupted:
                break
            line += 1
            store.reserve(hold(entry(1), limit(10**6)))
            store.settle(call, ALICE, amend=True)
            assert store.verify() == []
            found = [found for found in store.entries() if found.call_id == call.call_id]
            assert found == [call]
        assert line > 10


def in_threads(
    work: Callable[[], None], count: int, other: Callable[[], None] | None = None
) -> None:
    """Run several threads at once; what fails in one fails here."""
    with ThreadPoolExecutor(count + 1) as pool:
        running = [pool.submit(work) for _ in range(count)]
        if other is not None:
            running.append(pool.submit(other))
        for future in running:
            future.result()

"""Nothing leaks and nothing hangs: cancels, interrupts, stores that fail, callbacks that call."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from waiting import wait_until

from costtrace import (
    BudgetExceededError,
    BudgetStoreError,
    CostLedger,
    MemoryStore,
    SQLiteStore,
    budget,
)
from costtrace.accounting import outage
from costtrace.testing import LoopbackProvider, Reply

ASK = [{"role": "user", "content": "0123456789abcdef"}]


class Failing:
    """A real store of which single methods can be made to do something else first."""

    def __init__(self, store: Any) -> None:
        self.inner = store
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self.before.get(name, lambda: None)()
            answer = value(*args, **kwargs)
            self.after.get(name, lambda: None)()
            return answer

        return step


@pytest.fixture(autouse=True)
def _fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These stores fail at once, however long a busy machine takes for it."""
    monkeypatch.setattr(outage, "SLOW_S", 60.0)


def away() -> None:
    raise BudgetStoreError("the network is gone")


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Failing:
    return Failing(MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "c.db"))


@pytest.fixture
def failing(store: Failing) -> Any:
    with CostLedger(store=store) as ledger:  # type: ignore[arg-type]
        yield ledger
        store.before.clear()
        store.after.clear()
        ledger.flush()
        assert ledger.verify() == []


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, **{"max_tokens": 20, **more}
    )


def test_a_task_cancelled_while_it_reserves_holds_nothing(
    provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """The reservation ends in its thread after its task is gone, and is given back there."""
    if not store.is_blocking:
        pytest.skip("a store in memory answers before anybody can cancel")
    is_in, go_on, is_released = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        is_in.set()
        go_on.wait(10)

    is_held = threading.Event()
    store.before["reserve"], store.after["reserve"] = wait, is_held.set
    store.after["release"] = is_released.set
    b = budget("alice", 1, ledger=failing)

    async def main() -> None:
        async with provider.async_openai() as client, b:
            task = asyncio.ensure_future(chat(client))
            while not is_in.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            while not is_released.is_set():  # before there is anything to be given back
                await asyncio.sleep(0.001)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert is_held.wait(10)
    wait_until(lambda: b.reserved_usd == 0)
    assert (b.reserved_usd, b.spent_usd, provider.requests) == (0, 0, [])


def test_a_cancelled_call_is_settled_off_the_loop_and_in_full(
    provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """Cancelled in flight: charged as what it may have cost, however often it is cancelled."""
    loop_threads: set[int] = set()
    if store.is_blocking:
        store.before["settle"] = lambda: loop_threads.add(threading.get_ident())
    b = budget("alice", 1, ledger=failing)

    async def main() -> None:
        async with provider.async_openai(max_retries=0) as client, b:
            with provider.hold():
                task = asyncio.ensure_future(chat(client))
                await asyncio.to_thread(provider.wait_for_waiting, 1)
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())
    failing.flush()
    (entry,) = failing.entries
    assert (entry.grade, entry.cost_usd, b.reserved_usd) == ("assumed", entry.reserved_usd, 0)
    assert threading.get_ident() not in loop_threads


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_reserving_holds_nothing(
    when: str, provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """Ctrl-C before or after the store has taken the hold: it passes, and nothing stays."""
    client = provider.openai()
    getattr(store, when)["reserve"] = interrupted
    with budget("alice", 1, ledger=failing) as b:
        with pytest.raises(KeyboardInterrupt):
            chat(client)
        getattr(store, when).clear()
        assert (b.reserved_usd, b.spent_usd, provider.requests) == (0, 0, [])


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_settling_loses_nothing(
    when: str, provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """What was reserved is charged when the call is collected, unless it was settled after all."""
    client = provider.openai()
    getattr(store, when)["settle"] = interrupted
    b = budget("alice", 1, ledger=failing)
    with b:
        with pytest.raises(KeyboardInterrupt):
            chat(client)
        getattr(store, when).clear()
    gc.collect()
    assert b.reserved_usd == 0
    (entry,) = failing.entries
    assert entry.grade == ("assumed" if when == "before" else "reported")


def test_a_hold_that_is_forgotten_is_charged(any_ledger: CostLedger):
    """The provider may have billed it; what is never settled is neither free nor reserved."""
    b = budget("alice", 1, ledger=any_ledger)
    b.authorize("0.25")
    b._holds.clear()
    gc.collect()
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.25"), 0)
    assert len(any_ledger.provisional()) == 1


def test_a_store_that_is_away_refuses_under_a_limit(
    provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """Nothing is sent; a hold that was made before the store failed is given back."""
    client = provider.openai()
    store.after["reserve"] = away
    with budget("alice", 1, ledger=failing) as b:
        with pytest.raises(BudgetStoreError, match="network"):
            chat(client)
        store.after.clear()
        assert (b.reserved_usd, b.spent_usd, provider.requests) == (0, 0, [])
    assert failing.health().store_failures["reserve"] == 1


def test_a_store_that_is_away_may_be_told_to_let_pass(
    provider: LoopbackProvider, store: Failing, failing: CostLedger
):
    """The call goes on, its entry waits, and is written when the store is back."""
    client = provider.openai()
    store.before |= {"reserve": away, "settle": away, "balance": away}
    b = budget("alice", 1, on_store_error="allow", ledger=failing)
    with b:
        for _ in range(3):
            chat(client)
    health = failing.health()
    assert (health.unreserved, health.waiting, health.lost) == (3, 3, 0)
    assert not health.is_good
    store.before.clear()
    assert failing.flush()
    assert (len(failing.entries), failing.health().waiting) == (3, 0)
    assert b.spent_usd == failing.total_cost > 0


def test_a_release_that_fails_is_made_later(store: Failing, failing: CostLedger):
    """A hold must not stay for ever because the store was away when it was given back."""
    b = budget("alice", 1, ledger=failing)
    hold = b.authorize("0.9")
    store.before["release"] = away
    hold.release()
    assert (b.reserved_usd, failing.health().waiting) == (Decimal("0.9"), 1)
    store.before.clear()
    assert failing.flush()
    assert b.reserved_usd == 0


def test_what_no_store_takes_does_not_hold_up_the_rest(store: Failing, failing: CostLedger):
    """An amount beyond all counting is an error of `record`, and nothing waits behind it."""
    with pytest.raises(ValueError, match="above"):
        failing.record("gpt-4o-mini", "f", "alice", 1, 1, cost_usd=10**9)
    b = budget("alice", ledger=failing)
    store.before["settle"] = away
    failing.record("gpt-4o-mini", "f", "alice", 1_000, 0)
    b.record(10**9)
    failing.record("gpt-4o-mini", "f", "alice", 1_000, 0)
    store.before.clear()
    assert failing.flush()
    assert (len(failing.entries), failing.health().lost) == (2, 1)


def test_a_callback_may_do_anything(provider: LoopbackProvider, any_ledger: CostLedger):
    """Make calls, open budgets, ask and flush the ledger: no lock is held meanwhile."""
    client = provider.openai()
    heard: list[str] = []

    def hear(alert: Any) -> None:
        heard.append(str(alert.user_id))
        any_ledger.render()
        any_ledger.flush()
        with budget("watchman", "0.000001", ledger=any_ledger, on_exceed="warn", on_alert=hear):
            chat(client)

    done = threading.Thread(
        target=lambda: budget("alice", 1, ledger=any_ledger, on_alert=hear).record("0.95")
    )
    done.start()
    done.join(60)
    assert not done.is_alive()
    assert heard == ["alice", "watchman"]


def test_alerts_of_what_waited_are_sent_and_may_call_too(store: Failing, failing: CostLedger):
    """When the store is back, the callback of a late crossing may flush the ledger itself."""
    heard: list[Any] = []
    failing.on_alert(lambda alert: heard.append((alert, failing.flush())))
    store.before["settle"] = away
    budget("alice", 1, ledger=failing).record("0.95")
    assert heard == []
    store.before.clear()
    failing.flush()
    assert len(heard) == 1


def test_an_overrun_is_charged_in_full_and_counted(
    provider: LoopbackProvider, any_ledger: CostLedger, caplog: pytest.LogCaptureFixture
):
    """More than was reserved: in the total, in the counts, in the report, once in the log."""
    provider.default = Reply(input_tokens=10_000, output_tokens=20)
    client = provider.openai(max_retries=0)
    with caplog.at_level("INFO", logger="costtrace"), budget("alice", 1, ledger=any_ledger) as b:
        for _ in range(3):
            chat(client)
    cost = Decimal("0.001512")
    over = [cost - (entry.reserved_usd or 0) for entry in any_ledger.entries]
    health = any_ledger.health()
    assert b.spent_usd == 3 * cost
    assert (health.overruns, health.overrun_usd) == (3, sum(over))
    assert health.largest_overrun_usd == max(over)
    assert caplog.text.count("more than was reserved") == 1
    (row,) = any_ledger.tightness()
    assert (row.model, row.calls, row.overruns, row.overrun_usd) == (
        "gpt-4o-mini",
        3,
        3,
        sum(over),
    )
    assert "3 calls cost more than was reserved" in any_ledger.render()


def test_an_attempt_that_is_not_covered_is_an_overrun(
    provider: LoopbackProvider, ledger: CostLedger
):
    """With cover_retries=False a retry is charged beyond what was held, and reported so."""
    provider.queue(Reply(cut_before_headers=True))
    client = provider.openai(max_retries=2)
    with budget("alice", 1, cover_retries=False, ledger=ledger) as b:
        chat(client)
    entry, lost = sorted(ledger.entries, key=lambda entry: entry.adjusts or "")
    assert lost.adjusts == entry.call_id
    assert b.spent_usd == (entry.cost_usd or 0) + (lost.cost_usd or 0)
    assert ledger.health().overrun_usd == b.spent_usd - (entry.reserved_usd or 0) > 0


def test_bounds_and_costs_are_compared_for_each_model(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """How many times the cost was reserved, for those calls whose cost is known."""
    client = provider.openai(max_retries=0)
    provider.queue(Reply(), Reply(), Reply(status=429))
    with budget("alice", 1, ledger=any_ledger):
        chat(client, max_tokens=200)
        chat(client, max_tokens=200)
        with pytest.raises(Exception, match="429"):
            chat(client)
    (row,) = any_ledger.tightness()
    assert (row.calls, row.overruns) == (2, 0)
    assert row.ratio is not None
    assert row.ratio == float(row.reserved_usd / row.cost_usd) > 5
    assert "Reserved before the call" in any_ledger.render()
    assert any_ledger.health().is_good


def test_a_budget_that_only_warns_counts_what_it_would_have_refused(
    provider: LoopbackProvider, any_ledger: CostLedger, caplog: pytest.LogCaptureFixture
):
    """Also without a cap, where a hard budget would have had to refuse, and only there."""
    client = provider.openai(max_retries=0)
    with budget("alice", "0.00005", on_exceed="warn", ledger=any_ledger):
        chat(client, max_tokens=None)
        assert any_ledger.health().would_have_refused == 0
        chat(client, max_tokens=200)
    with budget("bob", per_call="0.00001", on_exceed="warn", ledger=any_ledger):
        chat(client, max_tokens=200)
    assert any_ledger.health().would_have_refused == 2
    assert caplog.text.count("would have been refused") == 2


def test_per_call_holds_by_hand_too(any_ledger: CostLedger):
    """`authorize` is one call."""
    with budget("team", per_call="0.10", ledger=any_ledger):
        b = budget("alice", 5, ledger=any_ledger)
        with pytest.raises(BudgetExceededError, match="per_call"):
            b.authorize("0.11")
        b.authorize("0.10").release()


def test_open_scopes_keep_a_ledger_that_works(tmp_path: Any):
    """`configure` takes nothing away from those who work with the ledger before."""
    import costtrace

    try:
        costtrace.configure(path=tmp_path / "first.db")
        first = costtrace.ledger
        with budget("alice", 1) as b:
            b.record("0.25")
            costtrace.configure(path=tmp_path / "second.db")
            b.authorize("0.50").settle("0.50")
            assert b.spent_usd == Decimal("0.75")
        assert first.total_cost == Decimal("0.75")
    finally:
        costtrace.configure()


def test_a_block_by_hand_counts_for_itself(any_ledger: CostLedger):
    """Without a `with`, the budget itself is the block; before and after do not count."""
    any_ledger.record("gpt-4o-mini", "f", "alice", 1, 1, cost_usd=5)
    b = budget("alice", 1, window="block", ledger=any_ledger)
    b.authorize("0.5").settle("0.5")
    assert b.spent_usd == Decimal("0.5")
    with b:
        assert b.spent_usd == 0


def test_blocks_that_are_over_leave_nothing_behind(ledger: CostLedger):
    """Ten thousand requests with a budget each: no account is kept of those that are over."""
    for _ in range(50):
        with budget("alice", 1, window="block", ledger=ledger) as b:
            b.record("0.01")
        assert b.spent_usd == Decimal("0.01")
    del b
    ledger.postings.collect()
    assert ledger.verify() == []
    assert not [owner for owner in ledger.store._books.accounts if "block" in owner]  # type: ignore[attr-defined]
    assert ledger.spent("alice") == Decimal("0.50")


def test_a_thread_does_not_settle_the_hold_of_one_that_has_ended(ledger: CostLedger):
    """Thread numbers are used again; a hold belongs to the thread that asked for it."""
    b = budget("alice", 1, ledger=ledger)
    holds: list[Any] = []
    for step in (lambda: holds.append(b.authorize("0.5")), lambda: b.record("0.1")):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.1"), Decimal("0.5"))
    holds[0].release()

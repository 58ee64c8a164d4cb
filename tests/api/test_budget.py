"""`budget`: what it accepts, what it refuses, how it is entered, and by hand."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, active, budget, configure
from costtrace.testing import LoopbackProvider, Reply

EMBEDDING = Decimal("0.000002")  # 100 tokens of text-embedding-3-small at 0.02 USD per million

ONE = Decimal("0.000003")  # pays for one such call and its bound, and not for two
TWO = Decimal("0.000005")


@pytest.fixture
def embed(openai_client: Any, provider: LoopbackProvider) -> Any:
    """Make one paid call of a known cost, and of a bound that is its cost."""
    provider.default = Reply(input_tokens=100)
    return lambda: openai_client.embeddings.create(
        model="text-embedding-3-small", input="word " * 99
    )


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"limit": -1}, ValueError, "limit"),
        ({"limit": float("nan")}, ValueError, "limit"),
        ({"limit": float("inf")}, ValueError, "limit"),
        ({"limit": True}, TypeError, "limit"),
        ({"limit": "5,00"}, ValueError, "limit"),
        ({"limit": ""}, ValueError, "limit"),
        ({"limit": "1e400"}, ValueError, "limit"),
        ({"limit": [5]}, TypeError, "limit"),
        ({"limit": Decimal("0.1234567890123456789")}, ValueError, "picodollar"),
        ({"per_call": -1}, ValueError, "per_call"),
        ({"window": "fortnight"}, ValueError, "month"),
        ({"window": 60}, TypeError, "timedelta"),
        ({"window": timedelta(0)}, ValueError, "longer"),
        ({"window": "day", "tz": "Mars/Olympus"}, ValueError, "Europe/Berlin"),
        ({"tz": "Europe/Berlin"}, ValueError, "tz"),
        ({"alert_at": 90}, ValueError, "share"),
        ({"alert_at": 0}, ValueError, "share"),
        ({"alert_at": [0.5, "x"]}, TypeError, "share"),
        ({"on_alert": "me"}, TypeError, "callable"),
        ({"on_exceed": "alert"}, ValueError, "'fit'"),
        ({"wait": -1}, ValueError, "wait"),
        ({"wait": "5"}, TypeError, "wait"),
        ({"max_tokens": -1}, ValueError, "max_tokens"),
        ({"max_calls": 1.5}, TypeError, "max_calls"),
        ({"cover_retries": "no"}, TypeError, "True or False"),
        ({"ask_provider": "no"}, TypeError, "True or False"),
        ({"on_unknown_model": "guess"}, ValueError, "assume_max"),
        ({"on_store_error": "hope"}, ValueError, "refuse"),
        ({"tags": {1: "a"}}, TypeError, "tag"),
        ({"ledger": "costs.db"}, TypeError, "CostLedger"),
        ({"user_id": ""}, ValueError, "user_id"),
        ({"user_id": None}, TypeError, "user_id"),
        ({"user_id": "\udfff"}, ValueError, "user_id"),
    ],
)
def test_a_wrong_argument_is_an_error_at_once(
    options: dict[str, Any], error: type[Exception], match: str
):
    """Before a scope is opened, and naming what would be right."""
    with pytest.raises(error, match=match):
        budget(**{"user_id": "alice", **options})


@pytest.mark.parametrize("limit", [5, 5.0, "5", "5.00", Decimal(5)])
def test_a_limit_may_be_written_in_any_exact_way(limit: Any, ledger: CostLedger):
    """An int, a float as it is written, a text or a Decimal."""
    assert budget("alice", limit, ledger=ledger).limit_usd == 5
    assert budget("alice", 0.1, ledger=ledger).limit_usd == Decimal("0.1")


def test_a_fresh_budget_is_whole(any_ledger: CostLedger):
    """Usable without entering it."""
    b = budget("alice", "0.50", ledger=any_ledger)
    assert (b.user_id, b.spent_usd, b.reserved_usd, b.remaining()) == (
        "alice",
        0,
        0,
        Decimal("0.5"),
    )
    assert b.resets_at is None
    without = budget("alice", ledger=any_ledger)
    assert (without.limit_usd, without.remaining_usd) == (None, None)
    assert "alice" in repr(b)


def test_as_a_decorator_each_call_enters_it(embed: Any, ledger: CostLedger):
    """Sync and async functions, used again and again."""

    @budget("alice", 1, ledger=ledger)
    def handler(n: int) -> int:
        embed()
        return n

    @budget("bob", 1, ledger=ledger)
    async def async_handler() -> None:
        embed()

    assert [handler(1), handler(2)] == [1, 2]
    asyncio.run(async_handler())
    assert (ledger.spent("alice"), ledger.spent("bob")) == (2 * EMBEDDING, EMBEDDING)
    assert not active()


def test_one_budget_is_entered_from_many_threads_at_once(embed: Any, any_ledger: CostLedger):
    """Reused and shared: every call is charged, every exit finds its own entry."""
    shared = budget("alice", 1, ledger=any_ledger)

    def work(_: int) -> None:
        with shared, shared:
            embed()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert shared.spent_usd == 40 * EMBEDDING
    assert not active()


def test_left_in_any_order(embed: Any, ledger: CostLedger):
    """Two budgets that overlap without nesting."""
    first, second = budget("a", ledger=ledger), budget("b", ledger=ledger)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    embed()
    second.__exit__(None, None, None)
    assert not active()
    (entry,) = ledger.entries
    assert entry.user_id == "b"


def test_a_block_counts_one_with_alone(embed: Any, any_ledger: CostLedger):
    """Also when entered in parallel; what the user spent before does not count."""
    b = budget("alice", ONE, window="block", ledger=any_ledger)
    for _ in range(3):
        with b:
            embed()
            assert b.spent_usd == EMBEDDING
            with pytest.raises(BudgetExceededError):
                embed()
    assert any_ledger.spent("alice") == 3 * EMBEDDING

    both = threading.Barrier(2)

    def work() -> None:
        with b:
            both.wait()
            embed()
            both.wait()
            assert b.spent_usd == EMBEDDING

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work), pool.submit(work)]:
            done.result()


def test_a_calendar_window_starts_again(embed: Any, openai_client: Any, clock: Any):
    """A new day is a new budget; the call of yesterday stays where it was."""
    ledger = CostLedger(clock=clock)
    with budget("alice", ONE, window="day", ledger=ledger) as b:
        embed()
        assert b.resets_at == datetime(2026, 11, 21, tzinfo=timezone.utc)
        with pytest.raises(BudgetExceededError) as refused:
            embed()
        assert refused.value.resets_at == b.resets_at
        clock.advance(hours=12)
        assert b.spent_usd == 0
        embed()
    assert ledger.total_cost == 2 * EMBEDDING
    assert ledger.verify() == []


def test_a_rolling_window_lets_go_of_old_calls(embed: Any, clock: Any):
    """What is older than the window counts no more."""
    ledger = CostLedger(clock=clock)
    with budget("alice", TWO, window=timedelta(hours=1), ledger=ledger) as b:
        embed()
        clock.advance(minutes=40)
        embed()
        with pytest.raises(BudgetExceededError):
            embed()
        clock.advance(minutes=20)
        assert b.spent_usd == EMBEDDING
        embed()
        assert b.resets_at is None


def test_a_window_knows_what_was_spent_before_it_was_asked_for(embed: Any, any_ledger: CostLedger):
    """All that a user spent counts, under whichever budget, or recorded by hand."""
    with budget("alice", 1, window="month", ledger=any_ledger):
        embed()
    any_ledger.record("gpt-4o-mini", "f", "alice", 1_000_000, 0)
    b = budget("alice", 1, ledger=any_ledger)
    assert b.spent_usd == EMBEDDING + Decimal("0.15")
    assert budget("alice", 1, window="day", ledger=any_ledger).spent_usd == b.spent_usd
    assert budget("bob", 1, ledger=any_ledger).spent_usd == 0


def test_tokens_and_calls_are_limited_too(embed: Any, provider: LoopbackProvider, ledger: Any):
    """Any of the limits refuses; the error says which."""
    with budget("alice", max_calls=2, ledger=ledger):
        embed()
        embed()
        with pytest.raises(BudgetExceededError, match=r"; calls: 2 made and 0 in flight, of 2$"):
            embed()
    with budget("bob", max_tokens=250, ledger=ledger):
        embed()
        embed()
        with pytest.raises(BudgetExceededError, match="tokens"):
            embed()
    assert len(provider.requests) == 4


def test_by_hand_for_other_providers(any_ledger: CostLedger):
    """authorize, then settle or release; each counts once."""
    b = budget("alice", 1, ledger=any_ledger)
    hold = b.authorize("0.40")
    assert (b.spent_usd, b.reserved_usd, b.remaining()) == (0, Decimal("0.4"), Decimal("0.6"))
    with pytest.raises(BudgetExceededError):
        b.authorize("0.70")
    hold.settle("0.25")
    hold.settle("0.99")
    hold.release()
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.25"), 0)

    other = b.authorize(0.5)
    other.release()
    other.settle(0.5)
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.25"), 0)

    b.authorize("0.10")
    b.record("0.05")
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.30"), 0)
    b.record("0.20")
    assert b.spent_usd == Decimal("0.50")
    assert len(any_ledger.entries) == 3


def test_a_hold_shows_itself(ledger: CostLedger):
    """How much, for whom, and whether it still counts."""
    hold = budget("alice", 1, ledger=ledger).authorize("0.25")
    assert repr(hold) == "<Hold of 0.25 USD for 'alice', open>"
    hold.settle("0.1")
    assert repr(hold) == "<Hold of 0.25 USD for 'alice', ended>"


@pytest.mark.parametrize("amount", [-1, float("nan"), "x", True, None])
def test_a_wrong_amount_moves_nothing(amount: Any, ledger: CostLedger):
    """authorize, record and settle refuse it before anything happens."""
    b = budget("alice", 1, ledger=ledger)
    hold = b.authorize("0.1")
    for step in (b.authorize, b.record, hold.settle):
        with pytest.raises((TypeError, ValueError)):
            step(amount)
    assert (b.spent_usd, b.reserved_usd) == (0, Decimal("0.1"))
    hold.release()


def test_waiting_for_calls_in_flight(any_ledger: CostLedger):
    """What one call does not need, another one gets."""
    b = budget("alice", 1, ledger=any_ledger)
    hold = b.authorize("0.9")
    timer = threading.Timer(0.05, hold.settle, ["0.1"])
    timer.start()
    second = budget("alice", 1, wait=10, ledger=any_ledger).authorize("0.5")
    assert b.spent_usd == Decimal("0.1")
    second.release()
    timer.join()


def test_warn_sends_what_the_limit_would_have_refused(
    embed: Any, ledger: CostLedger, caplog: pytest.LogCaptureFixture
):
    """The call goes on, and the log tells what would have been refused."""
    with budget("alice", ONE, on_exceed="warn", ledger=ledger) as b:
        embed()
        embed()
        assert b.spent_usd == 2 * EMBEDDING
        assert b.remaining_usd == 0
    assert "would have been refused" in caplog.text


def test_the_default_ledger_is_used_where_none_is_named(embed: Any):
    """`configure` makes the process's ledger anew."""
    import costtrace

    fresh = configure(budget_usd=50)
    try:
        with budget("alice", 1):
            embed()
        assert costtrace.ledger is fresh
        assert costtrace.ledger.total_cost == EMBEDDING
    finally:
        configure()


def test_a_scope_uses_the_ledger_of_the_nearest_that_names_one(embed: Any, ledger: CostLedger):
    """Inner scopes need not name it again."""
    with budget("team", ledger=ledger), budget("alice"):
        embed()
    assert ledger.spent("alice") == EMBEDDING


def test_hundreds_of_parallel_calls_never_pass_the_limit(
    provider: LoopbackProvider, any_ledger: Any
):
    """Threads at once: what the provider billed is never above the limit."""
    provider.default = Reply(input_tokens=50, output_tokens=100)
    client = provider.openai(max_retries=0)
    limit = Decimal("0.0015")  # pays for some twenty of these calls

    def work(_: int) -> bool:
        try:
            with budget("alice", limit, ledger=any_ledger):
                client.chat.completions.create(
                    model="gpt-4o-mini",
                    max_tokens=100,
                    messages=[{"role": "user", "content": "x" * 20}],
                )
            return True
        except BudgetExceededError:
            return False

    with ThreadPoolExecutor(16) as pool:
        sent = sum(pool.map(work, range(100)))
    billed = [request.billed for request in provider.requests]
    cost = sum(
        (b.usage.input_tokens * Decimal("0.15") + b.usage.output_tokens * Decimal("0.6")) / 10**6
        for b in billed
        if b is not None
    )
    assert len(billed) == sent
    assert cost == any_ledger.total_cost <= limit
    b = budget("alice", limit, ledger=any_ledger)
    assert (b.spent_usd, b.reserved_usd) == (cost, 0)

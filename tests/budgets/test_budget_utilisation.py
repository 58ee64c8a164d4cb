"""What a limit pays for is sent: budgets hold, and refuse no honest work."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, budget
from costtrace.testing import LoopbackProvider, Reply

EMBEDDING = Decimal("0.000002")  # 100 tokens of text-embedding-3-small, and its bound
ASK = [{"role": "user", "content": "0123456789abcdef"}]


def embed(client: Any) -> Any:
    """A call whose exact bound is its cost: 100 token ids."""
    return client.embeddings.create(model="text-embedding-3-small", input=[7] * 83)


@pytest.fixture(autouse=True)
def _exact_cost(provider: LoopbackProvider) -> None:
    provider.on("/embeddings", Reply(input_tokens=100))


def outcomes(steps: list[Any]) -> int:
    """Return how many of these calls were sent."""
    return sum(step is not None for step in steps)


def attempted(step: Any) -> Any:
    try:
        return step()
    except BudgetExceededError:
        return None


@pytest.mark.parametrize("fits", [1, 7, 20])
@pytest.mark.parametrize("max_retries", [0, 2])
def test_exactly_what_fits_is_sent_one_after_another(
    fits: int, max_retries: int, provider: LoopbackProvider, any_ledger: CostLedger
):
    """Of 25 equal calls exactly those that the limit pays for."""
    client = provider.openai(max_retries=max_retries)
    with budget("alice", EMBEDDING * fits, ledger=any_ledger) as b:
        sent = [attempted(lambda: embed(client)) for _ in range(25)]
        assert (outcomes(sent), b.spent_usd, b.remaining_usd) == (fits, b.limit_usd, 0)
    assert len(provider.requests) == fits


@pytest.mark.parametrize("max_retries", [0, 2])
def test_exactly_what_fits_is_sent_from_threads(
    max_retries: int, provider: LoopbackProvider, any_ledger: CostLedger
):
    """In parallel too, where calls wait for what others do not need."""
    client = provider.openai(max_retries=max_retries)
    b = budget("alice", EMBEDDING * 20, wait=30, ledger=any_ledger)

    def work(_: int) -> Any:
        with b:
            return attempted(lambda: embed(client))

    with ThreadPoolExecutor(16) as pool:
        sent = outcomes(list(pool.map(work, range(60))))
    assert (sent, b.spent_usd, b.reserved_usd) == (20, b.limit_usd, 0)


def test_exactly_what_fits_is_sent_from_tasks(provider: LoopbackProvider, any_ledger: CostLedger):
    """Waiting does not hold up the loop that the others run on."""
    b = budget("alice", EMBEDDING * 20, wait=30, ledger=any_ledger)

    async def work(client: Any) -> Any:
        async with b:
            try:
                return await embed(client)
            except BudgetExceededError:
                return None

    async def main() -> int:
        async with provider.async_openai() as client:
            return outcomes(await asyncio.gather(*(work(client) for _ in range(60))))

    assert asyncio.run(main()) == 20
    assert (b.spent_usd, b.reserved_usd) == (b.limit_usd, 0)


def test_extra_attempts_are_held_from_plenty_only(provider: LoopbackProvider, ledger: CostLedger):
    """What retries may need keeps nobody out: of 20 that fit, 18 and more are in flight at once."""
    client = provider.openai(max_retries=2)
    b = budget("alice", EMBEDDING * 20, ledger=ledger)

    def work(_: int) -> Any:
        with b:
            return attempted(lambda: embed(client))

    with ThreadPoolExecutor(40) as pool, provider.hold():
        for n in range(40):
            pool.submit(work, n)
        provider.wait_for_waiting(17, 60)
        assert b.reserved_usd + b.spent_usd <= EMBEDDING * 20


def test_a_lone_call_covers_as_many_attempts_as_the_limit_pays_for(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Two of three attempts fit: two are held, and the SDK makes no third one."""
    import openai

    client = provider.openai(max_retries=2)
    provider.on("/chat/completions", Reply(cut_before_headers=True))
    ask = {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 1}
    with budget("bob", 1, ledger=ledger), pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ask)
    (entry,) = (entry for entry in ledger.entries if entry.adjusts is None)
    assert entry.reserved_usd is not None
    assert len(provider.requests) == 3
    each = entry.reserved_usd / 3

    limit = each * Decimal("2.5")
    with budget("alice", limit, ledger=ledger) as b, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ask)
    assert len(provider.requests) == 5
    assert b.spent_usd == 2 * each


@pytest.mark.parametrize("is_async", [False, True])
def test_calls_without_a_cap_use_what_a_limit_pays_for(
    is_async: bool, provider: LoopbackProvider, any_ledger: CostLedger
):
    """40 at once under a limit that pays for 20: at least 70% of it is spent, and none is cut."""
    provider.default = Reply(output_tokens=20)
    each = Decimal("0.0000129")  # 6 tokens sent, 20 generated
    b = budget("alice", each * 20, wait=30, ledger=any_ledger)

    def work(client: Any) -> Any:
        with b:
            return attempted(
                lambda: client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
            )

    async def work_async(client: Any) -> Any:
        async with b:
            try:
                return await client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
            except BudgetExceededError:
                return None

    async def main() -> int:
        async with provider.async_openai() as client:
            return outcomes(await asyncio.gather(*(work_async(client) for _ in range(40))))

    if is_async:
        sent = asyncio.run(main())
    else:
        client = provider.openai()
        with ThreadPoolExecutor(40) as pool:
            sent = outcomes(list(pool.map(lambda _: work(client), range(40))))
    assert b.limit_usd is not None
    assert 0.7 * float(b.limit_usd) <= b.spent_usd <= b.limit_usd
    assert sent >= 14


def test_those_who_came_first_are_served_first(ledger: CostLedger):
    """Twelve wait for a limit that pays for one at a time: nobody is overtaken by many."""
    b = budget("alice", 1, wait=30, ledger=ledger)
    first = b.authorize(1)
    order: list[int] = []

    def work(n: int) -> None:
        hold = b.authorize(1)
        order.append(n)
        hold.release()

    threads = []
    for n in range(12):
        threads.append(threading.Thread(target=work, args=(n,)))
        threads[-1].start()
        while ledger.postings.lines.waiting("user:alice") < n + 1:
            pass
    first.release()
    for thread in threads:
        thread.join()
    assert all(abs(n - place) <= 3 for place, n in enumerate(order)), order


def test_waiting_ends_in_the_error(any_ledger: CostLedger):
    """When the time is up, or nothing is in flight any more that could give something back."""
    holder = budget("alice", 1, ledger=any_ledger)
    hold = holder.authorize("0.9")
    with pytest.raises(BudgetExceededError):
        budget("alice", 1, wait=0.05, ledger=any_ledger).authorize("0.5")
    hold.settle("0.9")
    with pytest.raises(BudgetExceededError):
        budget("alice", 1, wait=60, ledger=any_ledger).authorize("0.5")
    assert any_ledger.postings.lines.waiting("user:alice") == 0


def test_each_budget_waits_as_long_as_it_was_told(ledger: CostLedger):
    """The outer one may wait for a minute; the inner one, which refuses, does not wait."""
    inner = budget("alice", 1, ledger=ledger)
    hold = inner.authorize("0.9")
    with budget("team", 5, wait=60, ledger=ledger), pytest.raises(BudgetExceededError, match="al"):
        inner.authorize("0.5")
    hold.release()


def test_waiting_by_hand_does_not_hold_up_a_loop(any_ledger: CostLedger):
    """`aauthorize` waits for another task of the same loop."""
    b = budget("alice", 1, wait=30, ledger=any_ledger)

    async def main() -> None:
        hold = await b.aauthorize("0.9")
        second = asyncio.ensure_future(b.aauthorize("0.5"))
        await asyncio.sleep(0.02)
        assert not second.done()
        hold.settle("0.1")
        (await second).release()

    asyncio.run(main())
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.1"), 0)

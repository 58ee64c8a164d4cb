"""What each function cost, in its own calls and with all that it called, from real entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from costtrace import CostLedger, budget, tracked
from costtrace.cli import main
from costtrace.reports import FunctionCost, collapsed, function_costs
from costtrace.testing import LoopbackProvider

PRICE = Decimal("0.0006")
"""Of one call here: 1000 output tokens of gpt-4o-mini at 0.60 USD a million, and no input."""


@pytest.fixture
def ask(provider: LoopbackProvider, openai_client: Any) -> Any:
    """Make one call, of the same price each time."""
    provider.default = provider.default.__class__(input_tokens=0, output_tokens=1000)
    return partial(
        openai_client.chat.completions.create,
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "hi"}],
    )


def costs(ledger: CostLedger) -> dict[str, FunctionCost]:
    return {cost.function_name: cost for cost in function_costs(ledger.totals(by="call_path"))}


def in_prices(ledger: CostLedger) -> dict[str, tuple[Decimal, Decimal]]:
    """Return each function's own and inclusive cost, in prices of one call."""
    return {
        name: ((cost.own_usd or 0) / PRICE, (cost.inclusive_usd or 0) / PRICE)
        for name, cost in costs(ledger).items()
    }


def test_own_and_inclusive_cost(ask: Any, ledger: CostLedger):
    """A function stands for what it called, over threads and generators too."""

    @tracked(function_name="rank")
    def rank() -> None:
        ask()

    @tracked(function_name="search")
    def search() -> Iterator[int]:
        ask()
        rank()
        yield 1
        rank()

    @tracked(function_name="answer", ledger=ledger)
    def answer() -> None:
        ask()
        for _ in search():
            ask()
        with ThreadPoolExecutor(2) as pool, budget("guest"):
            list(pool.map(lambda _: rank(), range(3)))

    answer()
    assert in_prices(ledger) == {"answer": (2, 8), "search": (1, 3), "rank": (5, 5)}
    assert costs(ledger)["answer"].calls == len(ledger.entries) == 8
    assert costs(ledger)["answer"].inclusive_usd == ledger.total_cost == 8 * PRICE
    assert sum(cost.own_usd or 0 for cost in costs(ledger).values()) == ledger.total_cost


def test_recursion_is_counted_once(ask: Any, ledger: CostLedger):
    """One name per level in the path; one call each in what the function cost."""

    @tracked(function_name="leaf")
    def leaf() -> None:
        ask()

    @tracked(function_name="walk", ledger=ledger)
    def walk(depth: int) -> None:
        ask()
        if depth:
            walk(depth - 1)
        else:
            leaf()

    walk(3)
    assert max(len(entry.call_path) for entry in ledger.entries) == 5
    assert in_prices(ledger) == {"walk": (4, 5), "leaf": (1, 1)}
    assert costs(ledger)["walk"].calls == 5


def test_recursion_through_another_function_and_tasks(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Two functions that call each other, in tasks: each call once in either."""
    provider.default = provider.default.__class__(input_tokens=0, output_tokens=1000)

    async def run() -> None:
        async with provider.async_openai(max_retries=0) as client:

            @tracked(function_name="plan", ledger=ledger)
            async def plan(depth: int) -> None:
                await client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}]
                )
                if depth:
                    await asyncio.gather(act(depth - 1), asyncio.create_task(act(depth - 1)))

            @tracked(function_name="act", ledger=ledger)
            async def act(depth: int) -> None:
                async for _ in steps(depth):
                    pass

            @tracked(function_name="steps", ledger=ledger)
            async def steps(depth: int) -> AsyncIterator[int]:
                await plan(depth)
                yield depth

            await plan(2)

    asyncio.run(run())
    assert in_prices(ledger) == {"plan": (7, 7), "act": (0, 6), "steps": (0, 6)}


def test_stacks_of_the_command_line(
    ask: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], any_ledger: CostLedger
):
    """`costtrace report --stacks` writes the same lines: whole picodollars that sum exactly."""

    @tracked(function_name="inner")
    def inner() -> None:
        ask()

    @tracked(function_name="outer")
    def outer(ledger: CostLedger) -> None:
        with budget("alice", ledger=ledger):
            ask()
            inner()
            inner()

    path = tmp_path / "stacks.db"
    with CostLedger(path=path) as ledger:
        outer(ledger)
    outer(any_ledger)

    assert main(["report", str(path), "--stacks"]) == 0
    lines = capsys.readouterr().out
    assert lines == "outer 600000000\nouter;inner 1200000000\n"
    assert lines == collapsed(any_ledger.totals(by="call_path"))

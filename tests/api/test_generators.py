"""Tracked generators: what is opened inside is entered in time, whoever asks for the steps."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, active, budget, tracked
from costtrace.scopes import Scope
from costtrace.testing import LoopbackProvider

ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "hi"}],
}


@pytest.fixture
def ask(openai_client: Any) -> Any:
    """Make one paid call."""
    return partial(openai_client.chat.completions.create, **ASK)


def statuses(ledger: CostLedger) -> list[tuple[str, tuple[str, ...], str]]:
    return [(entry.user_id, entry.call_path, entry.status) for entry in ledger.entries]


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_stream_is_entered_at_the_generators_end(ask: Any, ledger: CostLedger, is_closed: bool):
    """However it ends, though somebody else goes on with the stream; the rest makes it exact."""

    @tracked(function_name="opens", ledger=ledger)
    def opens() -> Iterator[Any]:
        stream = ask(stream=True)
        next(stream)
        yield stream

    generator = opens()
    stream = next(generator)
    assert statuses(ledger) == []
    if is_closed:
        generator.close()
    else:
        assert list(generator) == []
    assert statuses(ledger) == [("anon", ("opens",), "partial")]
    list(stream)
    assert statuses(ledger) == [("anon", ("opens",), "ok")]


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_stream_is_entered_at_the_async_generators_end(
    provider: LoopbackProvider, ledger: CostLedger, is_closed: bool
):
    """The same on an event loop."""

    async def main() -> None:
        async with provider.async_openai(max_retries=0) as client:

            @tracked(function_name="opens", ledger=ledger)
            async def opens() -> AsyncIterator[Any]:
                stream = await client.chat.completions.create(**ASK, stream=True)
                await anext(stream)
                yield stream

            async with aclosing(opens()) as generator:  # type: ignore[type-var]
                stream = await anext(generator)
                assert statuses(ledger) == []
                if not is_closed:
                    assert [item async for item in generator] == []
            assert statuses(ledger) == [("anon", ("opens",), "partial")]
            async for _ in stream:
                pass

    asyncio.run(main())
    assert statuses(ledger) == [("anon", ("opens",), "ok")]


def test_a_stream_is_entered_when_a_scope_around_is_left(ask: Any, ledger: CostLedger):
    """The generator is left in the middle, and nobody has read the rest."""

    @tracked(function_name="opens")
    def opens() -> Iterator[Any]:
        stream = ask(stream=True)
        next(stream)
        yield stream
        yield from stream

    with budget("alice", 1, ledger=ledger) as b:
        generator = opens()
        next(generator)
        assert statuses(ledger) == []
    assert statuses(ledger) == [("alice", ("opens",), "partial")]
    assert b.spent_usd == ledger.total_cost > 0
    list(generator)
    assert statuses(ledger) == [("alice", ("opens",), "ok")]
    assert b.reserved_usd == 0


def test_one_call_of_a_generator_is_one_block(ask: Any, provider: LoopbackProvider):
    """Whoever asks for its steps: its limit is not a new one for each of them."""
    ledger = CostLedger()

    @budget("alice", window="block", max_calls=2, ledger=ledger)
    def steps() -> Iterator[int]:
        while True:
            ask()
            yield 1

    generator = steps()
    for name in ("first", "second"):
        tracked(function_name=name)(next)(generator)
    with pytest.raises(BudgetExceededError):
        tracked(function_name="third")(next)(generator)
    assert len(provider.model_calls) == 2
    assert [path for _, path, _ in statuses(ledger)] == [("first",), ("second",)]
    next(steps())
    assert len(provider.model_calls) == 3


def test_a_long_lived_generator_forgets_who_asked(ask: Any, ledger: CostLedger):
    """It may serve thousands of requests, each in a scope of its own."""

    @tracked(function_name="shared")
    def shared() -> Iterator[int]:
        ask()
        while True:
            yield 1

    generator = shared()
    for number in range(1000):
        with budget(f"u{number}", ledger=ledger):
            next(generator)
    gc.collect()
    assert sum(type(thing) is Scope for thing in gc.get_objects()) < 50
    generator.close()
    assert not active()

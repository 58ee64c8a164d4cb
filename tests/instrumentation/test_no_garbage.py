"""What a call leaves is gone with it: no circle of objects keeps its answer in memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from costtrace import CostLedger, budget
from costtrace.testing import LoopbackProvider

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
CHAT: Any = {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 50}
MESSAGE: Any = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 50}

OF_CALLS = ("costtrace.instrumentation", "costtrace.providers")
"""Where what is made for one call is at home; a ledger of another test may go meanwhile."""


def is_ours(thing: object) -> bool:
    module = type(thing).__module__
    return isinstance(module, str) and module.startswith(OF_CALLS)


@contextmanager
def left_behind() -> Iterator[list[str]]:
    """Give the names of our objects that nothing but the garbage collector lets go of."""
    names: list[str] = []
    gc.collect()
    of_others = [one for one in gc.get_objects() if is_ours(one)]  # kept: they are no garbage yet
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield names
        gc.collect()
        names += [type(one).__qualname__ for one in gc.garbage if is_ours(one)]
    finally:
        of_others.clear()
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def ask(sdk: openai.OpenAI) -> None:
    """A whole answer."""
    sdk.chat.completions.create(**CHAT)


def ask_raw(sdk: openai.OpenAI) -> None:
    """The raw response, parsed by its caller."""
    sdk.chat.completions.with_raw_response.create(**CHAT).parse()


def stream(sdk: openai.OpenAI) -> None:
    """A stream, read to its end."""
    list(sdk.chat.completions.create(**CHAT, stream=True))


def respond_and_retrieve(sdk: openai.OpenAI) -> None:
    """An answer, and the same read once more as a stream."""
    made = sdk.responses.create(model="gpt-4o-mini", input="Hi", max_output_tokens=50)
    list(sdk.responses.retrieve(made.id, stream=True))


@pytest.mark.parametrize("use", [ask, ask_raw, stream, respond_and_retrieve])
def test_openai_calls(use: Callable[[openai.OpenAI], None], openai_client: openai.OpenAI) -> None:
    """The collector has nothing of ours to do."""
    with budget("alice", 1, ledger=CostLedger()):
        use(openai_client)  # with what is made once for all calls
        with left_behind() as names:
            use(openai_client)

    assert names == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_anthropic_calls(is_stream: bool, anthropic_client: anthropic.Anthropic) -> None:
    """The same for the other SDK."""

    def use() -> None:
        answer = anthropic_client.messages.create(**MESSAGE, stream=is_stream)
        if is_stream:
            list(answer)

    with budget("alice", 1, ledger=CostLedger()):
        use()
        with left_behind() as names:
            use()

    assert names == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_awaited_calls(is_stream: bool, provider: LoopbackProvider) -> None:
    """The same for an awaited call and an async stream."""

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(api_key="none", base_url=provider.openai_url) as client:

            async def use() -> None:
                answer: Any = await client.chat.completions.create(**CHAT, stream=is_stream)
                if is_stream:
                    async for _ in answer:
                        pass

            await use()
            with left_behind() as names:
                await use()
            return names

    with budget("alice", 1, ledger=CostLedger()):
        assert asyncio.run(main()) == []

"""instructor: one exact charge for each attempt to get an answer of the wanted shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from charges import CLAUDE, GPT, charged, refused
from needed import needed

from costtrace import CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

instructor = needed("instructor", "older-frameworks")
errors = needed("instructor.core.exceptions", "older-frameworks")

ASK = [{"role": "user", "content": "Which city?"}]


class City(pydantic.BaseModel):
    """What is asked for."""

    city: str


def answering(**arguments: str) -> Reply:
    """Return a reply that calls the tool which instructor makes of `City`."""
    call = {"name": "City", "arguments": arguments}
    return Reply(input_tokens=100, output_tokens=20, tool_calls=[call])


@pytest.fixture(params=["chat", "messages"])
def case(request: pytest.FixtureRequest, provider: LoopbackProvider) -> tuple[str, str, Any, Any]:
    """Operation, model, the client's method, and how to make an async one."""
    provider.default = answering(city="Oslo")
    if request.param == "chat":
        client = instructor.from_openai(provider.openai(max_retries=0))
        make_async: Callable[[], Any] = lambda: instructor.from_openai(provider.async_openai())  # noqa: E731
        return "chat", GPT, client, make_async
    client = instructor.from_anthropic(provider.anthropic(max_retries=0))
    make_async = lambda: instructor.from_anthropic(provider.async_anthropic())  # noqa: E731
    return "messages", CLAUDE, client, make_async


def options(model: str) -> dict[str, Any]:
    return {"model": model, "messages": ASK, "response_model": City, "max_tokens": 99}


def test_a_shaped_answer(
    case: tuple[str, str, Any, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """Alone, with the SDK's own answer beside it, and asynchronously."""
    operation, model, client, make_async = case

    @tracked(function_name="where")
    def where() -> None:
        assert client.create(**options(model)).city == "Oslo"
        city, answer = client.create_with_completion(**options(model))
        assert (city.city, answer.model) == ("Oslo", model)

    @tracked(function_name="where")
    async def where_async() -> None:
        client = make_async()
        assert (await client.create(**options(model))).city == "Oslo"
        await client.client.close()

    with budget("alice", 1, ledger=ledger):
        where()
        run_async(where_async())
    assert charged(ledger, provider) == [(operation, model, "where", False)] * 3


def test_partial_answers_are_one_stream(
    case: tuple[str, str, Any, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """However many partial objects come of it."""
    operation, model, client, make_async = case

    async def read() -> None:
        client = make_async()
        assert [city async for city in client.create_partial(**options(model))]
        await client.client.close()

    with budget("alice", 1, ledger=ledger):
        assert list(client.create_partial(**options(model)))[-1].city == "Oslo"
        run_async(read())
    assert charged(ledger, provider) == [(operation, model, "unknown", True)] * 2


def test_each_attempt_at_a_valid_answer_is_charged(
    case: tuple[str, str, Any, Any], provider: LoopbackProvider, ledger: CostLedger
):
    """An answer that does not fit the model was billed like the one after it."""
    operation, model, client, _ = case
    provider.queue(answering(town="Oslo"))
    with budget("alice", 1, ledger=ledger):
        assert client.create(**options(model), max_retries=3).city == "Oslo"
    assert charged(ledger, provider) == [(operation, model, "unknown", False)] * 2


def test_a_refusal_is_the_cause_of_the_frameworks_own_error(
    case: tuple[str, str, Any, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """After one attempt: instructor tries again what does not validate, and nothing else."""
    _, model, client, make_async = case

    async def ask_async() -> None:
        client = make_async()
        try:
            await client.create(**options(model), max_retries=3)
        finally:
            await client.client.close()

    wrapper = errors.InstructorRetryException
    refused(lambda: client.create(**options(model), max_retries=3), provider, ledger, wrapper)
    refused(lambda: run_async(ask_async()), provider, ledger, wrapper)

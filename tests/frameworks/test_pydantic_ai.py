"""Pydantic AI: one exact charge for each request of an agent's run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from charges import CLAUDE, COSTS, GPT, charged, refused
from needed import needed

from costtrace import CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

pydantic_ai = needed("pydantic_ai", "older-frameworks")
openai_models = needed("pydantic_ai.models.openai", "older-frameworks")
openai_providers = needed("pydantic_ai.providers.openai", "older-frameworks")
anthropic_models = needed("pydantic_ai.models.anthropic", "older-frameworks")
anthropic_providers = needed("pydantic_ai.providers.anthropic", "older-frameworks")

Run = Callable[[Callable[[Any], Any]], Any]


def agent_of(operation: str, provider: LoopbackProvider) -> tuple[Any, Any]:
    """Return an agent and its client."""
    if operation == "messages":
        client = provider.async_anthropic(max_retries=0)
        provided = anthropic_providers.AnthropicProvider(anthropic_client=client)
        model = anthropic_models.AnthropicModel(CLAUDE, provider=provided)
    else:
        client = provider.async_openai(max_retries=0)
        provided = openai_providers.OpenAIProvider(openai_client=client)
        kind = "OpenAIChatModel" if operation == "chat" else "OpenAIResponsesModel"
        model = getattr(openai_models, kind)(GPT, provider=provided)
    return pydantic_ai.Agent(model), client


@pytest.fixture(params=["chat", "responses", "messages"])
def operation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(operation: str) -> str:
    return CLAUDE if operation == "messages" else GPT


@pytest.fixture
def run(operation: str, provider: LoopbackProvider) -> Run:
    """Run something with an agent on an event loop, and close its client there."""

    def run(act: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            agent, client = agent_of(operation, provider)
            async with client:
                return await act(agent)

        return asyncio.run(main())

    return run


async def ask(agent: Any) -> Any:
    return await agent.run("Hi")


async def ask_streamed(agent: Any) -> Any:
    async with agent.run_stream("Hi") as stream:
        return [text async for text in stream.stream_text()]


def test_a_run_and_a_streamed_run(
    operation: str, model: str, run: Run, provider: LoopbackProvider, ledger: CostLedger
):
    """Each is one request."""
    with budget("alice", 1, ledger=ledger):
        run(tracked(function_name="ask")(ask))
        assert run(tracked(function_name="ask")(ask_streamed))
    assert charged(ledger, provider) == [
        (operation, model, "ask", False),
        (operation, model, "ask", True),
    ]


def test_run_sync(operation: str, model: str, provider: LoopbackProvider, ledger: CostLedger):
    """It keeps an event loop of its own."""
    agent, client = agent_of(operation, provider)
    with budget("alice", 1, ledger=ledger):
        agent.run_sync("Hi")
    assert charged(ledger, provider) == [(operation, model, "unknown", False)]
    asyncio.get_event_loop_policy().get_event_loop().run_until_complete(client.close())


def test_each_turn_with_a_tool_is_charged(
    operation: str, model: str, run: Run, provider: LoopbackProvider, ledger: CostLedger
):
    """As many as the framework itself counts, with the same tokens."""

    async def act(agent: Any) -> Any:
        @agent.tool_plain
        def weather(city: str) -> str:
            return f"sunny in {city}"

        return await ask(agent)

    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    provider.queue(Reply(input_tokens=100, output_tokens=20, tool_calls=[call]))
    with budget("alice", 1, ledger=ledger):
        used = run(act).usage
    assert charged(ledger, provider) == [(operation, model, "unknown", False)] * 2
    assert (used.requests, used.input_tokens, used.output_tokens) == (2, 200, 40)
    assert ledger.total_cost == 2 * COSTS[model]


def test_an_output_that_does_not_validate_is_charged_as_is_the_next(
    operation: str, model: str, run: Run, provider: LoopbackProvider, ledger: CostLedger
):
    """The agent asks the model again."""

    class City(pydantic.BaseModel):
        city: str

    for name in ("town", "city"):
        call = {"name": "final_result", "arguments": {name: "Oslo"}}
        provider.queue(Reply(input_tokens=100, output_tokens=20, tool_calls=[call]))
    with budget("alice", 1, ledger=ledger):
        assert run(lambda agent: agent.run("Hi", output_type=City)).output.city == "Oslo"
    assert charged(ledger, provider) == [(operation, model, "unknown", False)] * 2


def test_a_refusal_reaches_the_caller_as_it_is(
    run: Run, provider: LoopbackProvider, ledger: CostLedger
):
    """Of a run, and of a streamed one."""
    refused(lambda: run(ask), provider, ledger)
    refused(lambda: run(ask_streamed), provider, ledger)

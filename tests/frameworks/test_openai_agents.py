"""The OpenAI Agents SDK: one exact charge for each turn of each agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from charges import GPT, charged, refused
from needed import needed

from costtrace import CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

agents = needed("agents", "frameworks")

KINDS = {
    "chat": "OpenAIChatCompletionsModel",
    "responses": "OpenAIResponsesModel",
}


@pytest.fixture(autouse=True)
def _traces_nothing() -> Iterator[None]:
    agents.set_tracing_disabled(True)
    yield
    agents.set_tracing_disabled(False)


@agents.function_tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(params=KINDS)
def operation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(operation: str, provider: LoopbackProvider) -> Callable[..., Any]:
    """Run something with an agent on an event loop, and close its client there."""

    def run(act: Callable[[Any], Any]) -> Any:
        async def main() -> Any:
            async with provider.async_openai(max_retries=0) as client:
                kind = getattr(agents, KINDS[operation])
                model = kind(model=GPT, openai_client=client)
                return await act(agents.Agent(name="Helper", model=model, tools=[weather]))

        return asyncio.run(main())

    return run


async def ask(agent: Any) -> Any:
    return await agents.Runner.run(agent, "Hi")


async def ask_streamed(agent: Any) -> Any:
    result = agents.Runner.run_streamed(agent, "Hi")
    return [event async for event in result.stream_events()]


def test_a_run_and_a_streamed_run(
    operation: str, run: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """A streamed run calls in a task of its own, which is charged to who began it."""
    with budget("alice", 1, ledger=ledger):
        run(tracked(function_name="helper")(ask))
        run(tracked(function_name="helper")(ask_streamed))
    assert charged(ledger, provider) == [
        (operation, GPT, "helper", False),
        (operation, GPT, "helper", True),
    ]


def test_each_turn_with_a_tool_is_charged(
    operation: str, run: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """As many as the SDK itself counts, with the same tokens."""
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    provider.queue(Reply(input_tokens=100, output_tokens=20, tool_calls=[call]))
    with budget("alice", 1, ledger=ledger):
        used = run(ask).context_wrapper.usage
    assert charged(ledger, provider) == [(operation, GPT, "unknown", False)] * 2
    assert (used.requests, used.input_tokens, used.output_tokens) == (2, 200, 40)


def test_an_agent_inside_a_tool_is_charged_to_the_tool(
    operation: str, run: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """A tool that is tracked pays for the agent that it asks."""

    async def act(agent: Any) -> Any:
        @agents.function_tool
        @tracked(function_name="second_opinion")
        async def second_opinion(question: str) -> str:
            """Ask somebody else."""
            return str((await agents.Runner.run(agent, question)).final_output)

        return await ask(agents.Agent(name="Boss", model=agent.model, tools=[second_opinion]))

    call = {"name": "second_opinion", "arguments": {"question": "Why?"}}
    provider.queue(Reply(input_tokens=100, output_tokens=20, tool_calls=[call]))
    with budget("alice", 1, ledger=ledger):
        run(act)
    functions = [function for _, _, function, _ in charged(ledger, provider)]
    assert functions == ["unknown", "second_opinion", "unknown"]


def test_run_sync(operation: str, provider: LoopbackProvider, ledger: CostLedger):
    """It keeps an event loop of its own."""
    client = provider.async_openai(max_retries=0)
    model = getattr(agents, KINDS[operation])(model=GPT, openai_client=client)
    agent = agents.Agent(name="Helper", model=model)
    with budget("alice", 1, ledger=ledger):
        agents.Runner.run_sync(agent, "Hi")
    assert charged(ledger, provider) == [(operation, GPT, "unknown", False)]
    asyncio.get_event_loop_policy().get_event_loop().run_until_complete(client.close())


def test_a_refusal_reaches_the_caller_as_it_is(
    run: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Of a run, and of the events of a streamed one."""
    refused(lambda: run(ask), provider, ledger)
    refused(lambda: run(ask_streamed), provider, ledger)

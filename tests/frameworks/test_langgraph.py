"""LangGraph: nodes that run side by side, each charged to its own function."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from charges import GPT, charged, refused
from needed import needed

from costtrace import BudgetExceededError, CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

graphs = needed("langgraph.graph", "frameworks")
prebuilt = needed("langgraph.prebuilt", "frameworks")
types = needed("langgraph.types", "frameworks")
langchain_openai = needed("langchain_openai", "frameworks")


class Halves(TypedDict, total=False):
    """What the two nodes leave behind."""

    left: str
    right: str


@pytest.fixture
def model(provider: LoopbackProvider) -> Any:
    return langchain_openai.ChatOpenAI(model=GPT)


def side_by_side(left: Any, right: Any, **options: Any) -> Any:
    """Return a graph whose two nodes run at the same time."""
    graph = graphs.StateGraph(Halves)
    for name, node in (("left", left), ("right", right)):
        graph.add_node(f"{name}_node", node, **options)
        graph.add_edge(graphs.START, f"{name}_node")
        graph.add_edge(f"{name}_node", graphs.END)
    return graph.compile()


@pytest.fixture
def graph(model: Any) -> Any:
    @tracked(function_name="left")
    def left(state: Halves) -> Halves:
        return {"left": model.invoke("Hi").text}

    @tracked(function_name="right")
    def right(state: Halves) -> Halves:
        return {"right": model.invoke("Hi").text}

    return side_by_side(left, right)


@pytest.fixture
def async_graph(model: Any) -> Any:
    @tracked(function_name="left")
    async def left(state: Halves) -> Halves:
        return {"left": (await model.ainvoke("Hi")).text}

    @tracked(function_name="right")
    async def right(state: Halves) -> Halves:
        return {"right": (await model.ainvoke("Hi")).text}

    return side_by_side(left, right)


BOTH = [("chat", GPT, "left", False), ("chat", GPT, "right", False)]


def test_nodes_are_charged_by_themselves(
    graph: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Run in threads of LangGraph's."""
    with budget("alice", 1, ledger=ledger):
        graph.invoke({})
        assert list(graph.stream({}))
    assert sorted(charged(ledger, provider)) == sorted(BOTH * 2)


def test_streamed_messages_are_charged_once(
    graph: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """`stream_mode="messages"` turns the nodes' calls into streams."""
    with budget("alice", 1, ledger=ledger):
        assert list(graph.stream({}, stream_mode="messages"))
    assert sorted(charged(ledger, provider)) == [(*call[:3], True) for call in BOTH]


def test_async_nodes(
    async_graph: Any, provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """As tasks side by side."""

    async def main() -> None:
        await async_graph.ainvoke({})
        async for _ in async_graph.astream({}):
            pass

    with budget("alice", 1, ledger=ledger):
        run_async(main())
    assert sorted(charged(ledger, provider)) == sorted(BOTH * 2)


def test_sync_nodes_on_an_event_loop(
    graph: Any, provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """Handed to an executor."""
    with budget("alice", 1, ledger=ledger):
        run_async(graph.ainvoke({}))
    assert sorted(charged(ledger, provider)) == BOTH


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agent_pays_for_each_turn(model: Any, provider: LoopbackProvider, ledger: CostLedger):
    """The model asks for a tool, gets its answer, and is called again."""
    asked: list[str] = []

    def weather(city: str) -> str:
        """Tell the weather of a city."""
        asked.append(city)
        return "sunny"

    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    provider.queue(Reply(input_tokens=100, output_tokens=20, tool_calls=[call]))
    agent = prebuilt.create_react_agent(model, [weather])
    with budget("alice", 1, ledger=ledger):
        agent.invoke({"messages": [{"role": "user", "content": "How is Oslo?"}]})
    assert asked == ["Oslo"]
    assert charged(ledger, provider) == [("chat", GPT, "unknown", False)] * 2


def test_a_refusal_ends_the_graph(
    graph: Any, async_graph: Any, provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """As it is, in each way to run it."""
    for ask in (
        lambda: graph.invoke({}),
        lambda: list(graph.stream({}, stream_mode="messages")),
        lambda: run_async(graph.ainvoke({})),
        lambda: run_async(async_graph.ainvoke({})),
    ):
        refused(ask, provider, ledger)


def test_a_retry_policy_can_leave_refusals_out(provider: LoopbackProvider, ledger: CostLedger):
    """The default one tries any error again, as often as it says; sent is nothing either way."""
    model, tries = langchain_openai.ChatOpenAI(model=GPT), []

    def node(state: Halves) -> Halves:
        tries.append(1)
        return {"left": model.invoke("Hi").text}

    def idle(state: Halves) -> Halves:
        return {}

    for retry_on, count in (
        (types.default_retry_on if hasattr(types, "default_retry_on") else Exception, 2),
        (lambda error: not isinstance(error, BudgetExceededError), 1),
    ):
        policy = types.RetryPolicy(
            max_attempts=2, initial_interval=0.001, jitter=False, retry_on=retry_on
        )
        graph = side_by_side(node, idle, retry_policy=policy)
        tries.clear()
        refused(lambda graph=graph: graph.invoke({}), provider, ledger)
        assert len(tries) == count

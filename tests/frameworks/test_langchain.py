"""LangChain's chat models and embeddings: one exact charge for each call that they make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from charges import CLAUDE, GPT, charged, refused
from needed import needed

from costtrace import CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

langchain_openai = needed("langchain_openai", "frameworks")
langchain_anthropic = needed("langchain_anthropic", "frameworks")

MODELS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "chat": ("chat", GPT, lambda: langchain_openai.ChatOpenAI(model=GPT)),
    "responses": (
        "responses",
        GPT,
        lambda: langchain_openai.ChatOpenAI(model=GPT, use_responses_api=True),
    ),
    "claude": (
        "messages",
        CLAUDE,
        lambda: langchain_anthropic.ChatAnthropic(model=CLAUDE, max_tokens=99),
    ),
}
SCHEMA = {
    "title": "City",
    "description": "A city.",
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, provider: LoopbackProvider) -> tuple[str, str, Any]:
    operation, name, make = MODELS[request.param]
    return operation, name, make()


def test_invoke_and_stream(
    case: tuple[str, str, Any], provider: LoopbackProvider, ledger: CostLedger
):
    """What they return is what they return without us."""
    operation, name, model = case

    def ask() -> list[str]:
        return [model.invoke("Hi").text, "".join(chunk.text for chunk in model.stream("Hi"))]

    without = ask()
    provider.clear()
    with budget("alice", 1, ledger=ledger):
        assert tracked(function_name="ask")(ask)() == without
    assert charged(ledger, provider) == [
        (operation, name, "ask", False),
        (operation, name, "ask", True),
    ]


def test_ainvoke_and_astream(
    case: tuple[str, str, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """The same on an event loop."""
    operation, name, model = case

    @tracked(function_name="ask")
    async def ask() -> None:
        await model.ainvoke("Hi")
        async for _ in model.astream("Hi"):
            pass

    with budget("alice", 1, ledger=ledger):
        run_async(ask())
    assert charged(ledger, provider) == [
        (operation, name, "ask", False),
        (operation, name, "ask", True),
    ]


def test_batches_run_in_threads_and_tasks_of_their_scope(
    case: tuple[str, str, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """LangChain's own executor carries the function and the user."""
    operation, name, model = case

    @tracked(function_name="ask")
    def ask() -> None:
        model.batch(["a", "b", "c"])

    @tracked(function_name="ask")
    async def ask_async() -> None:
        await model.abatch(["a", "b", "c"])

    with budget("alice", 1, ledger=ledger):
        ask()
        run_async(ask_async())
    assert charged(ledger, provider) == [(operation, name, "ask", False)] * 6


def test_a_chain_charges_the_step_that_calls(provider: LoopbackProvider, ledger: CostLedger):
    """Steps of a chain, streamed through it, in the order in which they call."""
    model = langchain_openai.ChatOpenAI(model=GPT)

    @tracked(function_name="outline")
    def outline(topic: str) -> str:
        return str(model.invoke(topic).text)

    from langchain_core.runnables import RunnableLambda

    chain = RunnableLambda(outline) | model
    with budget("alice", 1, ledger=ledger):
        assert [chunk.text for chunk in chain.stream("Hi")]
    functions = [(function, streamed) for _, _, function, streamed in charged(ledger, provider)]
    assert functions == [("outline", False), ("unknown", True)]


def test_structured_output(case: tuple[str, str, Any], provider: LoopbackProvider, ledger: Any):
    """Through `parse` or a tool, whichever way a model is asked."""
    operation, name, model = case
    arguments = {"city": "Oslo"}
    tools = [{"name": "City", "arguments": arguments}]
    text = '{"city": "Oslo"}'
    provider.default = Reply(
        input_tokens=100,
        output_tokens=20,
        text=text,
        tool_calls=tools if operation == "messages" else (),
    )
    with budget("alice", 1, ledger=ledger):
        assert model.with_structured_output(SCHEMA).invoke("Hi") == arguments
    assert charged(ledger, provider) == [(operation, name, "unknown", False)]


def test_embeddings(provider: LoopbackProvider, ledger: CostLedger, run_async: Any):
    """One request, one entry."""
    embeddings = langchain_openai.OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False
    )
    with budget("alice", 1, ledger=ledger):
        embeddings.embed_documents(["a", "b"])
        run_async(embeddings.aembed_query("c"))
    assert [(e.operation, e.prompt_tokens, e.user_id) for e in ledger.entries] == [
        ("embeddings", 100, "alice")
    ] * 2


def test_a_refusal_reaches_the_caller_as_it_is(
    case: tuple[str, str, Any], provider: LoopbackProvider, ledger: CostLedger, run_async: Any
):
    """At once, in every way to call, also where it is tried again: a refusal sends nothing."""
    _, _, model = case

    async def drain(stream: AsyncIterator[Any]) -> list[Any]:
        return [chunk async for chunk in stream]

    stubborn = model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    for ask in (
        lambda: model.invoke("Hi"),
        lambda: list(model.stream("Hi")),
        lambda: model.batch(["a", "b"]),
        lambda: run_async(model.ainvoke("Hi")),
        lambda: run_async(drain(model.astream("Hi"))),
        lambda: stubborn.invoke("Hi"),
    ):
        refused(ask, provider, ledger)


def test_a_cheaper_fallback_takes_over_from_a_refused_call(
    provider: LoopbackProvider, ledger: CostLedger
):
    """`with_fallbacks` makes of a refusal what it makes of any error."""
    dear = langchain_openai.ChatOpenAI(model="gpt-4", max_tokens=1000)
    cheap = langchain_openai.ChatOpenAI(model=GPT, max_tokens=100)
    with budget("alice", "0.01", ledger=ledger):
        dear.with_fallbacks([cheap]).invoke("Hi")
    assert charged(ledger, provider) == [("chat", GPT, "unknown", False)]

"""A fault in any function of ours never changes the outcome of a caller's call."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

from costtrace import CostLedger, budget
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
INSTRUMENTATION = "answer authorize begin call estimate known later outgoing raw valuing watch"
PROVIDERS = "anthropic base openai openai_answers openai_batches openai_routes openai_streams"
MODULES = [
    *(f"costtrace.instrumentation.{name}" for name in INSTRUMENTATION.split()),
    *(f"costtrace.providers.{name}" for name in PROVIDERS.split()),
    "costtrace.accounting.charges",
    "costtrace.accounting.postings",
    "costtrace.accounting.recording",
]
SHELL = {
    # what stands between the caller and the guarded parts: each of these guards all it does
    "AnswerHook.__call__",
    "AnswerHook.answered",
    "AnswerHook.failed",
    "AnswerHook.install",
    "AnswerHook.install_late",
    "AnswerHook.retried",
    "AnswerHook.returned",
    "Begun.is_blocking",
    "BegunRetrieval.is_blocking",
    "Call.is_over",
    "LaterHook.__call__",
    "LaterHook.failed",
    "LaterHook.is_blocking",
    "LaterHook.returned",
    "LaterWatch.broke",
    "LaterWatch.dropped",
    "LaterWatch.ended",
    "LaterWatch.ended_async",
    "LaterWatch.ledger",
    "LaterWatch.overlooked",
    "LaterWatch.saw",
    "OptionsHook.__deepcopy__",
    "StreamWatch._leave",
    "StreamWatch.broke",
    "StreamWatch.dropped",
    "StreamWatch.ended",
    "StreamWatch.ended_async",
    "StreamWatch.ledger",
    "StreamWatch.is_over",
    "StreamWatch.overlooked",
    "StreamWatch.saw",
    "StreamWatch.stop",
    "begin",
    "flush",
    "is_ours",
}


def functions() -> Iterator[tuple[str, Any, str]]:
    """Yield every function and method of these modules, and who holds it."""
    for name in MODULES:
        module = importlib.import_module(name)
        for holder in (module, *_classes(module)):
            for attribute, value in vars(holder).items():
                inner = getattr(value, "__func__", value)
                inner = inner.fget if isinstance(inner, property) else inner
                if not isinstance(inner, FunctionType) or inner.__module__ != name:
                    continue
                if inner.__qualname__ in SHELL or attribute in ("__init__", "__repr__"):
                    continue
                if not (attribute.startswith("__") and attribute.endswith("__")):
                    yield f"{name}:{inner.__qualname__}", holder, attribute


def _classes(module: ModuleType) -> list[type]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def fault(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault of ours")


def broken(value: Any) -> Any:
    """Return what raises in the place of a function, a property or a class method."""
    if isinstance(value, property):
        return property(fault)
    if isinstance(value, (classmethod, staticmethod)):
        return staticmethod(fault)
    return fault


def calls(c: Any, a: Any) -> list[Callable[[], Any]]:
    """Return calls in enough shapes to pass through all of it."""
    model: Any = {"model": "gpt-4o-mini", "messages": ASK}
    message: Any = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 9}

    def streamed() -> Any:
        with c.chat.completions.with_streaming_response.create(**model) as response:
            return len(response.read()) > 100

    def left() -> Any:
        stream = a.messages.create(**message, stream=True)
        return type(next(stream)).__name__

    def in_background() -> Any:
        made = c.responses.create(model="gpt-4o-mini", input="Hi", background=True)
        return c.responses.retrieve(made.id).usage.output_tokens

    return [
        lambda: c.chat.completions.create(**model).usage.total_tokens,
        lambda: [chunk.usage for chunk in c.chat.completions.create(**model, stream=True)][:9],
        lambda: c.chat.completions.with_raw_response.create(**model).status_code,
        streamed,
        lambda: len(list(a.messages.create(**message, stream=True))),
        lambda: a.messages.create(**message).usage.output_tokens,
        left,
        in_background,
    ]


async def async_calls(c: Any, a: Any) -> Any:
    """The same in short, on an event loop."""
    made = await c.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    stream = await a.messages.create(
        model="claude-haiku-4-5", messages=ASK, max_tokens=9, stream=True
    )
    return made.usage.total_tokens, [type(event).__name__ async for event in stream]


class Session:
    """One provider and its clients for all faults, and what a caller sees without us."""

    def __init__(self, provider: LoopbackProvider) -> None:
        provider.default = Reply(input_tokens=100, output_tokens=20)
        self._provider = provider
        self._calls = calls(provider.openai(max_retries=0), provider.anthropic(max_retries=0))
        self.without = self.outcomes()

    def outcomes(self) -> list[Any]:
        """Return what a caller sees of every call."""
        return [*(call() for call in self._calls), asyncio.run(self._on_a_loop())]

    async def _on_a_loop(self) -> Any:
        async with (
            self._provider.async_openai(max_retries=0) as c,
            self._provider.async_anthropic(max_retries=0) as a,
        ):
            return await async_calls(c, a)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with LoopbackProvider() as provider:
        yield Session(provider)


ALL = list(functions())


@pytest.mark.parametrize(("holder", "attribute"), [pytest.param(*f[1:], id=f[0]) for f in ALL])
def test_a_fault_never_reaches_the_caller(
    holder: Any,
    attribute: str,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """Each function raises in its turn, under no limit; every answer is what it would have been."""
    caplog.set_level(logging.CRITICAL)
    with budget("alice", ledger=CostLedger()):
        monkeypatch.setattr(holder, attribute, broken(inspect.getattr_static(holder, attribute)))
        try:
            outcomes = session.outcomes()
        finally:
            monkeypatch.undo()
    assert outcomes == session.without

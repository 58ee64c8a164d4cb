"""`tracked` on every kind of callable: attributed right, and otherwise left as it is."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from costtrace import CostLedger, active, budget, tracked
from costtrace.testing import LoopbackProvider


@pytest.fixture
def ask(openai_client: Any) -> Any:
    """Make one paid call."""
    return functools.partial(
        openai_client.chat.completions.create,
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "hi"}],
    )


def paths(ledger: CostLedger) -> list[tuple[str, ...]]:
    return [entry.call_path for entry in ledger.entries]


def test_with_and_without_parentheses(ask: Any, ledger: CostLedger):
    """The default name is module and qualname."""

    @tracked
    def bare() -> None:
        ask()

    @tracked()
    def called() -> None:
        ask()

    @tracked(function_name="named", ledger=ledger)
    def named() -> None:
        bare()
        called()
        ask()

    named()
    here = f"{__name__}.test_with_and_without_parentheses.<locals>"
    assert paths(ledger) == [("named", f"{here}.bare"), ("named", f"{here}.called"), ("named",)]
    assert {entry.user_id for entry in ledger.entries} == {"anon"}


def test_the_bare_qualname_serves_in_main(ask: Any, ledger: CostLedger):
    """A script's functions are called by their own names."""

    def answer() -> None:
        ask()

    answer.__module__, answer.__qualname__ = "__main__", "answer"
    tracked(ledger=ledger)(answer)()
    assert paths(ledger) == [("answer",)]


class Service:
    """Methods of every kind, in either order of decorators."""

    def __init__(self, ask: Any) -> None:
        self.ask = ask

    @tracked(function_name="method")
    def method(self, n: int = 1) -> int:
        """Return n."""
        self.ask()
        return n

    @tracked(function_name="class outside")
    @classmethod
    def class_outside(cls, ask: Any) -> type:
        ask()
        return cls

    @classmethod
    @tracked(function_name="class inside")
    def class_inside(cls, ask: Any) -> type:
        ask()
        return cls

    @tracked(function_name="static outside")
    @staticmethod
    def static_outside(ask: Any) -> None:
        ask()

    @staticmethod
    @tracked(function_name="static inside")
    def static_inside(ask: Any) -> None:
        ask()


def test_methods_of_every_kind(ask: Any, ledger: CostLedger):
    """Bound as they were, called on the class and on the instance."""
    service = Service(ask)
    with_ledger = tracked(function_name="all", ledger=ledger)

    @with_ledger
    def run() -> None:
        assert service.method(5) == 5
        assert Service.method(service) == 1
        assert service.class_outside(ask) is Service
        assert Service.class_inside(ask) is Service
        service.static_outside(ask)
        Service.static_inside(ask)

    run()
    assert [path[1] for path in paths(ledger)] == [
        "method",
        "method",
        "class outside",
        "class inside",
        "static outside",
        "static inside",
    ]


def test_signature_name_and_kind_survive():
    """Frameworks that look at a function see the one that was written."""

    @tracked
    async def coroutine(a: int, *, b: str = "x") -> None:
        """Doc."""

    @tracked
    def generator(a: int) -> Iterator[int]:
        yield a

    @tracked
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    assert inspect.iscoroutinefunction(coroutine)
    assert asyncio.iscoroutinefunction(coroutine) if hasattr(asyncio, "iscoroutinefunction") else 1
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert str(inspect.signature(coroutine)) == "(a: 'int', *, b: 'str' = 'x') -> 'None'"
    assert (coroutine.__name__, coroutine.__doc__) == ("coroutine", "Doc.")


def test_a_generators_scope_is_open_only_while_its_body_runs(ask: Any, ledger: CostLedger):
    """Between two steps nothing is open: the consumer's calls are its own."""

    @tracked(function_name="numbers", ledger=ledger)
    def numbers() -> Iterator[int]:
        ask()
        yield 1
        ask()
        yield 2

    @tracked(function_name="consumer", ledger=ledger)
    def consumer() -> None:
        for _ in numbers():
            ask()

    iterator = numbers()
    next(iterator)
    assert not active()
    iterator.close()
    consumer()
    assert paths(ledger) == [
        ("numbers",),
        ("consumer", "numbers"),
        ("consumer",),
        ("consumer", "numbers"),
        ("consumer",),
    ]


def test_generators_send_throw_close_and_return(ledger: CostLedger):
    """The whole protocol passes through."""

    @tracked(ledger=ledger)
    def talk() -> Iterator[Any]:
        heard = []
        while len(heard) < 2:
            try:
                heard.append((yield len(heard)))
            except KeyError as error:
                heard.append(error.args[0])
        return heard

    @tracked(ledger=ledger)
    def delegate() -> Iterator[Any]:
        result: Any = yield from talk()
        yield result

    generator: Any = delegate()
    assert next(generator) == 0
    assert generator.send("a") == 1
    assert generator.throw(KeyError("b")) == ["a", "b"]

    closed = []

    @tracked(ledger=ledger)
    def careful() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    generator = careful()
    next(generator)
    generator.close()
    assert closed == [True]
    assert not active()


def test_async_functions_and_generators(provider: LoopbackProvider, ledger: CostLedger):
    """Concurrent tasks keep their own path."""

    async def main() -> None:
        async with provider.async_openai() as client:

            async def ask() -> None:
                await client.embeddings.create(model="text-embedding-3-small", input="hi")

            @tracked(function_name="leaf")
            async def leaf() -> None:
                await ask()

            @tracked(function_name="steps")
            async def steps() -> AsyncIterator[int]:
                for n in range(2):
                    await ask()
                    yield n

            @tracked(function_name="branch", ledger=ledger)
            async def branch() -> None:
                await asyncio.gather(leaf(), leaf())
                async for _ in steps():
                    await ask()

            await asyncio.gather(branch(), branch())

    asyncio.run(main())
    counted = sorted(paths(ledger))
    assert counted.count(("branch", "leaf")) == 4
    assert counted.count(("branch", "steps")) == 4
    assert counted.count(("branch",)) == 4


def test_a_coroutine_made_by_a_plain_function_is_awaited_in_scope(
    provider: LoopbackProvider, ledger: CostLedger
):
    """A coroutine function under another decorator still pays for its calls."""

    async def main() -> None:
        async with provider.async_openai() as client:

            def decorate(function: Any) -> Any:
                def plain() -> Any:
                    return function()

                return plain

            @tracked(function_name="decorated", ledger=ledger)
            @decorate
            async def decorated() -> None:
                await client.embeddings.create(model="text-embedding-3-small", input="hi")

            await decorated()

    asyncio.run(main())
    assert paths(ledger) == [("decorated",)]


def test_recursion_and_threads_keep_nothing_between_calls(ask: Any, ledger: CostLedger):
    """One name per level; each thread its own path."""

    @tracked(function_name="down", ledger=ledger)
    def down(n: int) -> None:
        if n:
            down(n - 1)
        else:
            ask()

    threads = [threading.Thread(target=down, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(path) for path in paths(ledger)) == [1, 2, 3, 4]


def test_an_exception_passes_and_closes_the_scope(ledger: CostLedger):
    """The caller's own errors are the caller's."""

    @tracked(ledger=ledger)
    def fails() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    assert not active()


def test_tags_of_all_scopes_merge(ask: Any, ledger: CostLedger):
    """Inner ones win."""

    @tracked(tags={"team": "search", "step": "rank"})
    def inner() -> None:
        ask()

    @tracked(tags={"team": "web", "host": "a"}, ledger=ledger)
    def outer() -> None:
        inner()

    outer()
    (entry,) = ledger.entries
    assert dict(entry.tags) == {"team": "search", "step": "rank", "host": "a"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"function_name": 5}, TypeError),
        ({"function_name": ""}, ValueError),
        ({"tags": ["a"]}, TypeError),
        ({"ledger": "costs.db"}, TypeError),
    ],
)
def test_a_wrong_option_is_an_error_at_decoration(options: Any, error: type[Exception]):
    """Said at once, not at the first call."""
    with pytest.raises(error):
        tracked(**options)


def test_what_is_no_function_is_refused():
    """`tracked("name")` is a likely slip; the error shows the right way."""
    wrong: Any = "answer"
    with pytest.raises(TypeError, match="function_name='answer'"):
        tracked(wrong)
    wrong = 5
    with pytest.raises(TypeError, match="functions, not int 5"):
        tracked(wrong)


def test_a_class_is_refused(ledger: CostLedger):
    """Its methods would not be tracked, which is what its author wants."""

    class Plain:
        """Has methods."""

    for decorate in (tracked, tracked(function_name="x"), budget("alice", 1, ledger=ledger)):
        with pytest.raises(TypeError, match="not the class Plain: decorate its methods"):
            decorate(Plain)  # type: ignore[operator]

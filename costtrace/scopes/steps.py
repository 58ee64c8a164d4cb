"""Generators in a scope: entered for each step of their body, never held over a `yield`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from costtrace.scopes import leaf as leaves
from costtrace.scopes.leaf import Visit
from costtrace.scopes.scope import Scope

Y = TypeVar("Y")
S = TypeVar("S")
R = TypeVar("R")


class Step:
    """`with Step(...)`: one step of a generator, as a child of the scope of whoever asks for it.

    Made once per generator, from the arguments of `Scope` without `parent`; entered for each
    `next()`, `send()`, `throw()` and `close()`. The node is made again only when the consumer's
    scope is not the one of the step before.
    """

    __slots__ = ("_names", "_scope", "_visit")

    def __init__(
        self,
        *,
        function_name: str | None = None,
        budget: object | None = None,
        user_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        ledger: object | None = None,
    ) -> None:
        self._names: dict[str, Any] = {
            "function_name": function_name,
            "budget": budget,
            "user_id": user_id,
            "tags": tags,
            "ledger": ledger,
        }
        self._scope: Scope | None = None
        self._visit: Visit | None = None

    def __enter__(self) -> Scope:
        parent = leaves.current()
        scope = self._scope
        if scope is None or scope.parent is not parent:
            scope = self._scope = Scope(parent, **self._names)
        self._visit = leaves.enter(scope)
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visit is not None:
            leaves.leave(self._visit)


def drive(
    generator: Generator[Y, S, R], step: AbstractContextManager[object]
) -> Generator[Y, S, R]:
    """Run a generator so that `step` is entered while its own body runs, and only then."""
    value: Any = None
    error: BaseException | None = None
    while True:
        with step:
            try:
                item = generator.send(value) if error is None else generator.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                error = None
        try:
            value = yield item
        except GeneratorExit:
            with step:
                generator.close()
            raise
        except BaseException as thrown:
            error = thrown


async def drive_async(
    generator: AsyncGenerator[Y, S], step: AbstractContextManager[object]
) -> AsyncGenerator[Y, S]:
    """`drive()` for async generators; awaits inside a step belong to it."""
    value: Any = None
    error: BaseException | None = None
    while True:
        with step:
            try:
                given = generator.asend(value) if error is None else generator.athrow(error)
                item = await given
            except StopAsyncIteration:
                return
            finally:
                error = None
        try:
            value = yield item
        except GeneratorExit:
            with step:
                await generator.aclose()
            raise
        except BaseException as thrown:
            error = thrown

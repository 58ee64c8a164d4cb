"""Generators in a scope: entered for each step of their body, never held over a `yield`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

from costtrace.scopes import leaf as leaves
from costtrace.scopes.leaf import Stay, Visit
from costtrace.scopes.scope import Scope

Y = TypeVar("Y")
S = TypeVar("S")
R = TypeVar("R")


class Step:
    """`with Step(make):` one step of a generator, as a child of the scope of whoever asks for it.

    Made once per generator and entered for each `next()`, `send()` and `throw()`. The first step
    makes the scope from its parent; when somebody else asks for a later one, it is put below
    theirs, so that one generator never has more than one budget of its own.
    """

    __slots__ = ("_earlier", "_make", "_visit", "scope")

    def __init__(self, make: Callable[[Scope | None], Scope]) -> None:
        self._make = make
        self._earlier: WeakSet[Scope] | None = None
        self._visit: Visit | None = None
        self.scope: Scope | None = None

    def __enter__(self) -> Scope:
        parent = leaves.current()
        scope = self.scope
        if scope is None:
            scope = self.scope = self._make(parent)
        elif scope.parent is not parent:
            scope = self.scope = self._moved(scope, parent)
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

    def _moved(self, scope: Scope, parent: Scope | None) -> Scope:
        if self._earlier is None:
            self._earlier = WeakSet()
        self._earlier.add(scope)
        return scope.under(parent)

    def scopes(self) -> Iterator[Scope]:
        """Those of its steps: the last one, and the earlier ones that somebody still refers to."""
        yield from self._earlier or ()
        if self.scope is not None:
            yield self.scope


def _nothing(_: bool) -> None:
    return None


def drive(
    generator: Generator[Y, S, R], step: Step | Stay, ended: Callable[[bool], None] = _nothing
) -> Generator[Y, S, R]:
    """Run a generator so that `step` is entered while its own body runs, and only then.

    `ended` is called once after its last step, and told whether it was closed early: then it may
    run in a finalizer, which is at any point of any thread.
    """
    value: Any = None
    error: BaseException | None = None
    is_closed = False
    try:
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
                is_closed = True
                with _last(step):
                    generator.close()
                raise
            except BaseException as thrown:
                error = thrown
    finally:
        ended(is_closed)


async def drive_async(
    generator: AsyncGenerator[Y, S],
    step: Step | Stay,
    ended: Callable[[bool], None] = _nothing,
) -> AsyncGenerator[Y, S]:
    """`drive()` for async generators; awaits inside a step belong to it."""
    value: Any = None
    error: BaseException | None = None
    is_closed = False
    try:
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
                is_closed = True
                with _last(step):
                    await generator.aclose()
                raise
            except BaseException as thrown:
                error = thrown
    finally:
        ended(is_closed)


def _last(step: Step | Stay) -> Stay:
    """The scope of the last step: whoever closes may be a finalizer in somebody else's scope."""
    return Stay(step.scope)  # type: ignore[arg-type]  # it has yielded, so it has stood in one

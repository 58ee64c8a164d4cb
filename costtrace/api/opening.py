"""Functions that open a scope each time they are called, whatever kind of callable they are."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from types import CoroutineType
from typing import Any, Protocol

from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.instrumentation.faults import guard
from costtrace.scopes import Scope, Step, current, drive, drive_async, enter, leave


class Opener(Protocol):
    """Opens scopes for one decorated function, and closes them."""

    def scope(self, parent: Scope | None, function: Callable[..., Any]) -> Scope:
        """Return the scope of one call."""

    def closing(self, scope: Scope) -> None:
        """The call is over: enter what is still open in its scope."""


def check_function(value: object, what: str) -> None:
    """Raise `TypeError` for what cannot be decorated, on its own or in a class body."""
    if isinstance(value, type):
        raise TypeError(
            f"{what} decorates functions, not the class {value.__name__}: decorate its methods"
        )
    if not callable(value) and not isinstance(value, (staticmethod, classmethod)):
        raise TypeError(f"{what} decorates functions, not {type(value).__name__} {value!r}")


def scoped(function: Callable[..., Any], opener: Opener) -> Any:
    """Return `function` so that each call runs in a scope of its own.

    Its signature, name and kind survive. A generator's scope is entered for each of its steps and
    never held over a `yield`: whoever iterates it stands in the scope no longer than its body runs.
    """
    import wrapt

    ways: dict[bool, _Way] = {}  # by whether it is called bound; looked up once, as it is slow

    def call(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        is_bound = instance is not None
        way = ways.get(is_bound)
        if way is None:
            way = ways[is_bound] = _way_of(wrapped)
        return way(opener, wrapped, args, kwargs)

    return wrapt.FunctionWrapper(function, call)


_Way = Callable[["Opener", Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def _way_of(function: Callable[..., Any]) -> _Way:
    if inspect.iscoroutinefunction(function):
        return _call_async
    if inspect.isgeneratorfunction(function):
        return _call_generator
    return _call_async_generator if inspect.isasyncgenfunction(function) else _call


def _call(opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    scope = opener.scope(current(), function)
    visit = enter(scope)
    try:
        result = function(*args, **kwargs)
    finally:
        opener.closing(scope)
        leave(visit)
    if isinstance(result, CoroutineType):  # a coroutine function under some other decorator
        return _awaited(opener, function, result)
    return result


async def _call_async(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return await _awaited(opener, function, function(*args, **kwargs))


async def _awaited(opener: Opener, function: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
    scope = opener.scope(current(), function)
    visit = enter(scope)
    try:
        return await coroutine
    finally:
        opener.closing(scope)
        leave(visit)


def _call_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    step = _step(opener, function)
    return drive(function(*args, **kwargs), step, partial(_close, opener, step))


def _call_async_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    step = _step(opener, function)
    return drive_async(function(*args, **kwargs), step, partial(_close, opener, step))


def _step(opener: Opener, function: Any) -> Step:
    return Step(lambda parent: opener.scope(parent, function))


def _close(opener: Opener, step: Step, is_finalizing: bool) -> None:
    """A generator has ended: enter what is still open in the scopes of its steps."""
    with guard("close a generator's scope"):
        for scope in step.scopes():
            if is_finalizing:
                _put_off(scope, partial(opener.closing, scope))
            else:
                opener.closing(scope)


def _put_off(scope: Scope, closing: Callable[[], None]) -> None:
    """Leave it to whoever touches the ledger next: a finalizer may run inside any lock."""
    home = scope.ledger if isinstance(scope.ledger, CostLedger) else default_ledger()
    home.postings.dropped.put(closing)

"""Functions that open a scope each time they are called, whatever kind of callable they are."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import CoroutineType, TracebackType
from typing import Any, Protocol

from costtrace.scopes import Scope, Visit, current, drive, drive_async, enter, leave


class Opener(Protocol):
    """Opens scopes for one decorated function, and closes them."""

    def scope(self, parent: Scope | None, function: Callable[..., Any]) -> Scope:
        """Return the scope of one call."""

    def closing(self, scope: Scope) -> None:
        """The call is over: enter what is still open in its scope."""


def is_function(value: object) -> bool:
    """Tell whether a value can be decorated, on its own or in a class body."""
    return callable(value) or isinstance(value, (staticmethod, classmethod))


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


class _Steps:
    """The scopes of a generator's steps: one for each piece of work that iterates it."""

    __slots__ = ("_function", "_opener", "_scopes", "_visit")

    def __init__(self, opener: Opener, function: Any) -> None:
        self._opener = opener
        self._function = function
        self._scopes: list[Scope] = []
        self._visit: Visit | None = None

    def __enter__(self) -> None:
        parent = current()
        if not self._scopes or self._scopes[-1].parent is not parent:
            self._scopes.append(self._opener.scope(parent, self._function))
        self._visit = enter(self._scopes[-1])

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visit is not None:
            leave(self._visit)

    def close(self) -> None:
        """The generator has ended: enter what is still open."""
        for scope in self._scopes:
            self._opener.closing(scope)


def _call_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    return _generate(_Steps(opener, function), function(*args, **kwargs))


def _generate(steps: _Steps, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        return (yield from drive(inner, steps))
    finally:
        steps.close()


def _call_async_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    return drive_async(function(*args, **kwargs), _Steps(opener, function))

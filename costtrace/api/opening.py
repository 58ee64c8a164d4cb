"""Functions that open a scope each time they are called, whatever kind of callable they are."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Protocol

from costtrace.scopes import Scope, current, enter, leave


class Opener(Protocol):
    """Opens scopes for one decorated function, and closes them."""

    def scope(self, parent: Scope | None, function: Callable[..., Any]) -> Scope:
        """Return the scope of one call."""

    def closing(self, scope: Scope) -> None:
        """The call is over: enter what is still open in its scope."""


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

    __slots__ = ("_function", "_opener", "_parent", "_scopes")

    def __init__(self, opener: Opener, function: Any) -> None:
        self._opener = opener
        self._function = function
        self._parent: Scope | None = None
        self._scopes: list[Scope] = []

    def enter(self) -> Any:
        parent = current()
        if not self._scopes or parent is not self._parent:
            self._parent = parent
            self._scopes.append(self._opener.scope(parent, self._function))
        return enter(self._scopes[-1])

    def close(self) -> None:
        for scope in self._scopes:
            self._opener.closing(scope)


def _call_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    return _generate(_Steps(opener, function), function(*args, **kwargs))


def _generate(steps: _Steps, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    advance: Callable[[], Any] = lambda: next(inner)  # noqa: E731
    try:
        while True:
            visit = steps.enter()
            try:
                item = advance()
            except StopIteration as stop:
                return stop.value
            finally:
                leave(visit)
            try:
                sent = yield item
            except GeneratorExit:
                _close(steps, inner)
                raise
            except BaseException as error:
                advance = _thrower(inner.throw, error)
            else:
                advance = _sender(inner.send, sent)
    finally:
        steps.close()


def _close(steps: _Steps, inner: Generator[Any, Any, Any]) -> None:
    visit = steps.enter()
    try:
        inner.close()
    finally:
        leave(visit)


def _call_async_generator(
    opener: Opener, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    return _generate_async(_Steps(opener, function), function(*args, **kwargs))


async def _generate_async(
    steps: _Steps, inner: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    advance: Callable[[], Any] = lambda: inner.__anext__()  # noqa: E731
    try:
        while True:
            visit = steps.enter()
            try:
                item = await advance()
            except StopAsyncIteration:
                return
            finally:
                leave(visit)
            try:
                sent = yield item
            except GeneratorExit:
                await _close_async(steps, inner)
                raise
            except BaseException as error:
                advance = _thrower(inner.athrow, error)
            else:
                advance = _sender(inner.asend, sent)
    finally:
        steps.close()


async def _close_async(steps: _Steps, inner: AsyncGenerator[Any, Any]) -> None:
    visit = steps.enter()
    try:
        await inner.aclose()
    finally:
        leave(visit)


def _thrower(throw: Callable[[BaseException], Any], error: BaseException) -> Callable[[], Any]:
    return lambda: throw(error)


def _sender(send: Callable[[Any], Any], sent: Any) -> Callable[[], Any]:
    return lambda: send(sent)

"""Callables bound to a scope: the work items of pools and loops, and what `carry()` returns."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from costtrace.scopes import leaf as leaves
from costtrace.scopes import lifecycle
from costtrace.scopes.leaf import Carried, Leaf, Stay, Visit
from costtrace.scopes.scope import Scope
from costtrace.scopes.steps import drive, drive_async

P = ParamSpec("P")
R = TypeVar("R")


class Clean:
    """A callable that runs in no scope, whatever the worker's thread was left in."""

    __slots__ = ("__weakref__", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return run(None, self.function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "function"), name)

    def __repr__(self) -> str:
        return repr(self.function)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.function


class Bound(Clean):
    """A callable that runs in the scope of whoever handed it over, and leaves no trace there.

    Exists from hand-over until it is dropped; as long, the process counts as open.
    """

    __slots__ = ("carried",)

    def __init__(self, function: Callable[..., Any], carried: Carried) -> None:
        self.function = function
        self.carried = carried
        lifecycle.items.add(id(self))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return run(self.carried, self.function, args, kwargs)

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_ending():
            lifecycle.let_go_item(id(self))


class BoundOnce(Bound):
    """A work item: finished, and the process no longer held open, when its one call returns."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return run(self.carried, self.function, args, kwargs)
        finally:
            lifecycle.let_go_item(id(self))


def run(
    carried: Carried | None,
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Call `function` where `carried` says; then stand exactly where we stood before."""
    task = leaves.task_here()
    before = leaves.standing.leaf if task is None else leaves.leaf_of(task)
    visit = None if carried is None else _item_visit(carried, before)
    if leaves.stand(visit) is not None:
        leaves.on_trio()
    try:
        return function(*args, **(kwargs or {}))
    finally:
        if visit is not None:
            visit.left = True
            lifecycle.items.discard(id(visit))  # it is one in a child that was forked meanwhile
        if task is None:
            leaves.standing.leaf = before
        else:
            leaves.mark(task, before)


def _item_visit(carried: Carried, outer: Leaf | None) -> Visit:
    visit = Visit(carried.scope, outer)
    visit.is_item = True
    visit.is_followed = leaves.is_followed_loop is not None
    visit.carried = carried
    return visit


def bound(function: Any) -> Any:
    """`function` as one piece of work of the present scope; unchanged where there is none."""
    carried = leaves.to_carry() if _is_bindable(function) else None
    return function if carried is None else BoundOnce(function, carried)


def bound_item(function: Any) -> Any:
    """`function` as one item for a pool's worker, which may still stand in somebody's scope."""
    return bound_items(function, BoundOnce)


def bound_items(function: Any, kind: type[Bound] = Bound) -> Any:
    """`function` for a pool that calls it once for each element."""
    if not _is_bindable(function):
        return function
    carried = leaves.to_carry()
    return Clean(function) if carried is None else kind(function, carried)


def _is_bindable(function: Any) -> bool:
    return callable(function) and not isinstance(function, Clean)


def bound_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `bound()`, for an async function that another thread's loop will await."""
    scope = leaves.current()
    return function if scope is None else functools.wraps(function)(_await_in(function, scope))


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Bind the scope that is open here to `function`, for places that no hook reaches.

    Wherever, whenever and by whomever the result is called, it stands in this scope, which is
    kept alive as long as the result is. Works for functions, coroutine functions, generators and
    async generators; the signature stays. Without a scope `function` itself is returned.

    Raises TypeError when `function` is not callable.
    """
    if not callable(function):
        raise TypeError(f"carry() needs something callable, not {type(function).__name__}")
    scope = leaves.current()
    if scope is None:
        return function
    for is_kind, in_scope in _KINDS:
        if is_kind(function) or is_kind(type(function).__call__):
            return functools.update_wrapper(in_scope(function, scope), function)
    return functools.update_wrapper(_call_in(function, scope), function)


def _call_in(function: Callable[..., Any], scope: Scope) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with Stay(scope):
            return function(*args, **kwargs)

    return call


def _await_in(function: Callable[..., Any], scope: Scope) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with Stay(scope):
            return await function(*args, **kwargs)

    return call


def _step_in(function: Callable[..., Any], scope: Scope) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return (yield from drive(function(*args, **kwargs), Stay(scope)))

    return call


def _step_async_in(function: Callable[..., Any], scope: Scope) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return drive_async(function(*args, **kwargs), Stay(scope))

    return call


_KINDS: Final = (
    (inspect.iscoroutinefunction, _await_in),
    (inspect.isgeneratorfunction, _step_in),
    (inspect.isasyncgenfunction, _step_async_in),
)

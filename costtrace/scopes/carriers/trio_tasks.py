"""Into trio: child tasks (through an instrument), its threads, and what they send back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

from costtrace.scopes import leaf as leaves
from costtrace.scopes import lifecycle
from costtrace.scopes.binding import bound, bound_async, bound_item
from costtrace.scopes.carriers.threads import pooling
from costtrace.scopes.hook import Hook


class Follower:
    """An instrument for one run of trio: a task starts with the leaf of its creator."""

    def task_spawned(self, task: Any) -> None:
        """Called by trio in the creator's task."""
        carried = leaves.to_carry() if leaves.trio_task() is not None else None
        if carried is not None:
            lifecycle.items.add(id(task))
            leaves.mark(task, carried)

    def task_exited(self, task: Any) -> None:
        """Called by trio when the task is done."""
        leaves.mark(task, None)
        if id(task) in lifecycle.items:
            lifecycle.let_go_item(id(task))


_runs: Final[weakref.WeakKeyDictionary[Any, Follower]] = weakref.WeakKeyDictionary()
_trio: Any = None


def hooks(trio: ModuleType) -> Iterator[Hook]:
    """Work for trio's threads is bound, wherever it comes from; so is what they send back."""
    global _trio
    _trio = trio
    leaves.on_trio = follow_run
    cache: Any = getattr(getattr(trio, "_core", None), "_thread_cache", None)
    if hasattr(cache, "ThreadCache"):
        yield Hook(cache.ThreadCache, "start_thread_soon", _start_thread_soon)
    else:
        yield Hook(trio.to_thread, "run_sync", _binding(bound_item, position=0))
    yield Hook(trio.from_thread, "run", _binding(bound_async, position=0))
    yield Hook(trio.from_thread, "run_sync", _binding(bound, position=0))
    yield Hook(trio.lowlevel.TrioToken, "run_sync_soon", _binding(_bound_elsewhere, position=1))


def _start_thread_soon(original: Callable[..., Any]) -> Callable[..., Any]:
    call: Callable[..., Any] = _binding(bound_item, position=1)(pooling(original))
    return call


def _binding(bind: Callable[[Any], Any], position: int) -> Callable[..., Any]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) > position:
                args = (*args[:position], bind(args[position]), *args[position + 1 :])
            return original(*args, **kwargs)

        return call

    return make


def _bound_elsewhere(function: Any) -> Any:
    """Bind the program's callbacks; trio's own ones run nobody's code."""
    module = getattr(function, "__module__", None) or ""
    return function if module.startswith(("trio.", "costtrace.")) else bound(function)


def follow_run() -> None:
    """A scope is entered in a trio task: from now on, this run's tasks inherit."""
    if leaves.trio_thread is None or leaves.trio_thread.name != "trio":
        return
    token = _trio.lowlevel.current_trio_token()
    if token not in _runs:
        follower = _runs[token] = Follower()
        _trio.lowlevel.add_instrument(follower)


def unfollow() -> None:
    """Take the instruments off, each in its own run."""
    for token, follower in list(_runs.items()):
        del _runs[token]
        with suppress(_trio.RunFinishedError):
            token.run_sync_soon(_remove, follower)


def _remove(follower: Follower) -> None:
    with suppress(KeyError):
        _trio.lowlevel.remove_instrument(follower)

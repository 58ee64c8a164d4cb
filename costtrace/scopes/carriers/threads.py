"""Into threads, timers, and the worker threads of multiprocessing's and anyio's pools."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from costtrace.scopes import leaf as leaves
from costtrace.scopes.binding import BoundOnce, bound_item, bound_items
from costtrace.scopes.hook import Hook

# Thread classes whose instances serve one user after the other: their items are bound instead.
_pool_workers: Final[set[type]] = set()


def hooks(threading_module: ModuleType) -> Iterator[Hook]:
    """A thread may use its starter's leaf until that scope is left; a timer takes it along."""
    yield Hook(threading_module.Thread, "start", _start)


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: threading.Thread) -> Any:
        if leaves.standing.is_pooling or type(self) in _pool_workers or self.ident is not None:
            return original(self)
        if isinstance(self, threading.Timer):
            return _start_timer(original, self)
        borrowed = leaves.to_lend()
        if borrowed is not None:
            setattr(self, leaves.LEAF, borrowed)
        return _starting(original, self)

    return start


def _starting(original: Callable[..., Any], thread: threading.Thread) -> Any:
    standing = leaves.standing
    standing.is_starting = True
    try:
        return original(thread)
    finally:
        standing.is_starting = False


def _start_timer(original: Callable[..., Any], timer: threading.Timer) -> Any:
    # A timer serves nobody else and mostly fires after its scope was left: one piece of work.
    carried = leaves.to_carry()
    if carried is None or "run" in vars(timer):
        return _starting(original, timer)
    timer.run = _TimerRun(timer.run, carried)  # type: ignore[method-assign]
    try:
        return _starting(original, timer)
    except BaseException:
        del timer.run
        raise


class _TimerRun(BoundOnce):
    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        del self.function.__self__.run  # type: ignore[attr-defined]  # a bound method's timer
        return super().__call__(*args, **kwargs)


def pool_hooks(pool: ModuleType) -> Iterator[Hook]:
    """Functions given to a ThreadPool are bound; what any Pool starts inherits nothing."""
    yield Hook(pool.Pool, "__init__", pooling)
    yield Hook(pool.ThreadPool, "apply_async", binding_first(bound_item))
    for name in ("map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered"):
        yield Hook(pool.ThreadPool, name, binding_first(bound_items))


def pooling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever this call starts is a pool's worker."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        standing = leaves.standing
        before, standing.is_pooling = standing.is_pooling, True
        try:
            return original(self, *args, **kwargs)
        finally:
            standing.is_pooling = before

    return call


@functools.cache
def binding_first(bind: Callable[[Any], Any]) -> Callable[..., Any]:
    """Bind the first argument of a method."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, bind(func), *args, **kwargs)

        return call

    return make


def anyio_hooks(backend: ModuleType) -> Iterator[Hook]:
    """What anyio runs in its worker threads (FastAPI's sync endpoints) is bound."""
    _pool_workers.add(backend.WorkerThread)
    owner = getattr(backend, "AsyncIOBackend", None)
    if owner is not None:
        yield Hook(owner, "run_sync_in_worker_thread", binding_first(bound_item))
    else:  # anyio 3
        yield Hook(backend, "run_sync_in_worker_thread", _binding_only)


def _binding_only(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(func: Any, *args: Any, **kwargs: Any) -> Any:
        return original(bound_item(func), *args, **kwargs)

    return call

"""Into the work items of executors; never into the workers themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from costtrace.scopes.binding import bound, bound_item
from costtrace.scopes.carriers.threads import pooling
from costtrace.scopes.hook import Hook


def hooks(thread: ModuleType) -> Iterator[Hook]:
    """Each work item stands where it was submitted; `map` and asyncio's executors submit too."""
    yield Hook(thread.ThreadPoolExecutor, "submit", _submit)


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    start = pooling(original)

    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return start(self, bound_item(fn), *args, **kwargs)

    return submit


def future_hooks(base: ModuleType) -> Iterator[Hook]:
    """Callbacks stand where they were added, not in the worker that happens to run them."""
    yield Hook(base.Future, "add_done_callback", _add_done_callback)


def _add_done_callback(original: Callable[..., Any]) -> Callable[..., Any]:
    def add_done_callback(self: Any, fn: Any) -> Any:
        return original(self, bound(fn))

    return add_done_callback


def process_hooks(process: ModuleType) -> Iterator[Hook]:
    """A worker process that is forked inside a scope serves other users too: it starts clean."""
    yield Hook(process.ProcessPoolExecutor, "submit", pooling)

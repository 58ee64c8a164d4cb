"""Each test of scopes leaves nothing behind: no scope, no hook, nothing open."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from costtrace import scopes
from costtrace.scopes import lifecycle

HOOKED = {
    "threading": ("Thread.start",),
    "multiprocessing.pool": (
        "Pool.__init__",
        "ThreadPool.apply_async",
        "ThreadPool.map",
        "ThreadPool.imap",
    ),
    "concurrent.futures.thread": ("ThreadPoolExecutor.submit",),
    "concurrent.futures.process": ("ProcessPoolExecutor.submit",),
    "concurrent.futures._base": ("Future.add_done_callback",),
    "asyncio.base_events": (
        "BaseEventLoop._call_soon",
        "BaseEventLoop.call_soon",
        "BaseEventLoop.call_at",
        "BaseEventLoop.call_later",
        "BaseEventLoop.call_soon_threadsafe",
        "BaseEventLoop.create_task",
        "BaseEventLoop.set_task_factory",
    ),
    "uvloop": (
        "Loop.call_soon",
        "Loop.call_at",
        "Loop.call_later",
        "Loop.call_soon_threadsafe",
        "Loop.create_task",
        "Loop.set_task_factory",
    ),
    "anyio._backends._asyncio": ("AsyncIOBackend.run_sync_in_worker_thread",),
    "trio._core._thread_cache": ("ThreadCache.start_thread_soon",),
    "trio.from_thread": ("run", "run_sync"),
    "trio.lowlevel": ("TrioToken.run_sync_soon",),
}


def look() -> dict[str, Any]:
    """What lies now in each place that gets hooked."""
    found = {}
    for name, places in HOOKED.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for place in places:
            *owners, attribute = place.split(".")
            owner = getattr(module, owners[0]) if owners else module
            found[f"{name}.{place}"] = vars(owner).get(attribute, "inherited")
    return found


ORIGINALS = look()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Nothing is open and nothing is hooked, before and after."""
    assert scopes.current() is None
    assert not scopes.active()
    yield
    assert scopes.current() is None
    patience = time.monotonic() + 5
    while scopes.active() and time.monotonic() < patience:
        gc.collect()  # an exception keeps frames, which keep what they refer to
        time.sleep(0.001)  # a worker thread may be about to drop its last work item
    assert not scopes.active()
    assert not lifecycle.entered
    assert not lifecycle.items
    now = look()
    assert [place for place in now if now[place] is not ORIGINALS[place]] == []

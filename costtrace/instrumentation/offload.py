"""Store calls that may wait for a disk or a network do not belong on an event loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def off_loop(is_blocking: bool, step: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Run `step` in a thread if it may block, and wait for it; else run it here.

    Cancelled meanwhile, it is not interrupted: when it is done, `undo` gets its result.
    """
    asyncio = sys.modules.get("asyncio")
    loop = _running_loop(asyncio)
    if not is_blocking or asyncio is None or loop is None:
        return step()
    future = loop.run_in_executor(None, step)
    try:
        result: T = await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: _undo(done, undo))
        raise
    return result


def pause(seconds: float) -> None:
    """Wait in a thread of its own."""
    time.sleep(seconds)


async def pause_async(seconds: float) -> None:
    """Wait without holding up the event loop, whichever it is."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and _running_loop(asyncio) is not None:
        await asyncio.sleep(seconds)
    elif trio is not None:
        await trio.sleep(seconds)
    else:
        time.sleep(seconds)


def _running_loop(asyncio: Any) -> Any:
    return None if asyncio is None else asyncio._get_running_loop()


def _undo(done: Any, undo: Callable[[Any], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        undo(done.result())

"""Store calls that may wait for a disk or a network do not belong on an event loop."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from costtrace.accounting.steps import Ask, Steps, Wait
from costtrace.forklock import ForkLock

T = TypeVar("T")
THREADS = 4
"""Threads for store calls of event loops; a store has one writer at a time anyway."""


async def off_loop(
    is_blocking: bool, step: Callable[[], T], undo: Callable[[T], object] | None = None
) -> T:
    """Run `step` in a thread if it may block, and wait for it; else run it here.

    Cancelled meanwhile, it is not interrupted; it ends in its thread, and so does then `undo`,
    which gets its result.
    """
    if not is_blocking:
        return step()
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and (loop := asyncio._get_running_loop()) is not None:
        errand = _Errand(step, undo)
        future = _submitted(loop, errand)
        if future is not None:
            try:
                result: T = await asyncio.shield(future)
            except asyncio.CancelledError:
                errand.leave()
                future.add_done_callback(_looked_at)
                raise
            return result
    elif trio is not None and _is_in_trio(trio):
        with trio.CancelScope(shield=True):
            done: T = await trio.to_thread.run_sync(step)
        return done
    return step()


async def take_off_loop(steps: Steps, is_blocking: bool, undo: Callable[[], object]) -> Any:
    """Take steps one after another, those that may block in a thread; return what they come to.

    Cancelled while one is in its thread, it is undone as soon as it has ended there.
    """
    answer: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as done:
            return done.value
        answer, failure = None, None
        try:
            if isinstance(step, Wait):
                await pause(step.seconds)
            elif isinstance(step, Ask):
                answer = await step.later()
            elif not is_blocking:
                answer = step()
            else:
                answer = await off_loop(is_blocking, step, lambda _: undo())
        except BaseException as error:
            failure = error


async def pause(seconds: float) -> None:
    """Wait without holding up the event loop, whichever it is."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        await asyncio.sleep(seconds)
    elif trio is not None and _is_in_trio(trio):
        await trio.sleep(seconds)
    else:
        threading.Event().wait(seconds)


class _Errand(Generic[T]):
    """One step in a thread, for a task that may leave before it is done."""

    def __init__(self, step: Callable[[], T], undo: Callable[[T], object] | None) -> None:
        self._step = step
        self._undo = undo
        self._lock = threading.Lock()
        self._is_left = False
        self._results: list[T] = []

    def __call__(self) -> T:
        result = self._step()
        with self._lock:
            self._results.append(result)
            is_left = self._is_left
        if is_left:
            self._take_back()
        return result

    def leave(self) -> None:
        """The task that waited was cancelled."""
        with self._lock:
            self._is_left = True
            is_done = bool(self._results)
        if is_done and self._undo is not None:
            _threads().submit(self._take_back)

    def _take_back(self) -> None:
        if self._undo is not None:
            self._undo(self._results[0])


class _Pool:
    """Threads of our own: those of the loop may all be waiting for us, or never be free."""

    executor: Any = None
    pid = 0


_pool_lock = ForkLock()


def _threads() -> Any:
    if _Pool.executor is None or _Pool.pid != os.getpid():
        from concurrent.futures import ThreadPoolExecutor

        with _pool_lock.now:
            if _Pool.executor is None or _Pool.pid != os.getpid():
                _Pool.executor = ThreadPoolExecutor(THREADS, thread_name_prefix="costtrace")
                _Pool.pid = os.getpid()
    return _Pool.executor


def _submitted(loop: Any, errand: Callable[[], object]) -> Any:
    """Return the future of an errand; None where no thread takes any more, at the very end."""
    try:
        return loop.run_in_executor(_threads(), errand)
    except RuntimeError:
        return None


def _looked_at(future: Any) -> None:
    """Ask for the error of an errand that nobody waits for, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()


def _is_in_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True

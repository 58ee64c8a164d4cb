"""Threads that wait for a server, so that no caller waits longer than it wants to.

A driver's own defaults wait for seconds or for ever. Here the caller hands its work to a thread and
looks at the clock: when time is up the thread is left to itself, and what it was doing may or may
not have been done. From then on the server counts as silent: callers are told so at once, while a
thread in the background asks it again and again.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from costtrace.stores.forks import survive_forks
from costtrace.stores.reentry import AMID_A_STEP

_PROBE_PAUSE_S, _LONGEST_PROBE_PAUSE_S = 0.05, 1.0
_HUNG_PROBE_S, _MOST_PROBES = 5.0, 4
_CLOSE_WITHIN_S = 1.0
_inherited: list[object] = []
"""What belongs to a parent process, kept so that a forked child never closes it."""


class Unanswered(Exception):  # noqa: N818
    """The work was not done in time; whether the server still does it is unknown."""


class Seat(Protocol):
    """What a thread needs for its work, a connection for instance. Only that thread uses it."""

    def probe(self) -> None:
        """Return when the server answers; raise if it does not."""

    def interrupt(self) -> None:
        """Make work fail that waits for the server; called from another thread."""

    def close(self) -> None:
        """Let go of it."""


S = TypeVar("S", bound=Seat)
T = TypeVar("T")


class _Task(Generic[S, T]):
    __slots__ = ("done", "error", "is_abandoned", "is_done", "result", "work")

    def __init__(self, work: Callable[[S], T]) -> None:
        self.work = work
        self.done = _thread.allocate_lock()
        self.done.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None
        self.is_done = self.is_abandoned = False


class _Worker(Generic[S]):
    __slots__ = ("ended", "seat", "tasks")

    def __init__(self, seat: S) -> None:
        self.seat = seat
        self.tasks: SimpleQueue[_Task[S, Any] | None] = SimpleQueue()
        self.ended = _thread.allocate_lock()
        self.ended.acquire()


class _Crew(Generic[S]):
    """The threads of a lane, apart from it, so that they end when nobody uses it any more."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.idle: list[_Worker[S]] = []
        self.busy: set[_Worker[S]] = set()
        self.is_closed = False

    def serve(self, worker: _Worker[S]) -> None:
        """Work until told to end, or left alone."""
        is_over = False
        while not is_over and (task := worker.tasks.get()) is not None:
            try:
                task.result = task.work(worker.seat)
            except BaseException as error:
                task.error = error
            with self.lock:
                task.is_done = True
                self.busy.discard(worker)
                is_over = task.is_abandoned or self.is_closed
                if not is_over:
                    self.idle.append(worker)
            task.done.release()
            del task
        with suppress(Exception):
            worker.seat.close()
        worker.ended.release()

    def close(self) -> None:
        """Let idle threads close their seats and end; those at work do so when they are done."""
        if self.pid != os.getpid():
            return
        with self.lock:
            self.is_closed = True
            idle, self.idle = self.idle, []
        for worker in idle:
            worker.tasks.put(None)
        deadline = time.monotonic() + _CLOSE_WITHIN_S
        for worker in idle:
            worker.ended.acquire(timeout=max(deadline - time.monotonic(), 0))


class Lane(Generic[S]):
    """At most so many threads, each with a seat. Safe from any thread, and across forks."""

    def __init__(self, new_seat: Callable[[], S], *, most: int = 1) -> None:
        self._new_seat = new_seat
        self._most = most
        self._start_over()
        survive_forks(self)

    def _start_over(self) -> None:
        self._crew: _Crew[S] = _Crew()
        self._waiting: set[int] = set()
        self._free = threading.BoundedSemaphore(self._most)
        self._silence = _Silence(self._new_seat)
        self._close_at_exit = weakref.finalize(self, _Crew.close, self._crew)

    def run(self, work: Callable[[S], T], timeout_s: float) -> T:
        """Have the work done and return its result.

        Raises what the work raises, and `Unanswered` when it is not done in time.
        """
        if self._crew.pid != os.getpid():  # forked by something that told nobody
            self.after_fork_in_child()
        deadline = time.monotonic() + timeout_s
        self._silence.check()
        me = threading.get_ident()
        if me in self._waiting:  # a signal's handler: it would wait for itself
            raise Unanswered(AMID_A_STEP)
        self._waiting.add(me)
        try:
            return self._run(work, timeout_s, deadline)
        finally:
            self._waiting.discard(me)

    def _run(self, work: Callable[[S], T], timeout_s: float, deadline: float) -> T:
        if not self._free.acquire(timeout=timeout_s):
            raise Unanswered("other threads were waiting for the server all the time")
        try:
            worker = self._take()
            task: _Task[S, T] = _Task(work)
            try:
                worker.tasks.put(task)
                is_done = task.done.acquire(timeout=max(deadline - time.monotonic(), 0))
            except BaseException:
                self._abandon(worker, task)
                raise
            if not is_done and self._abandon(worker, task):
                self._silence.begin()
                raise Unanswered(f"the server has not answered within {timeout_s} s")
        finally:
            self._free.release()
        if task.error is not None:
            raise task.error
        return task.result  # type: ignore[return-value]

    def close(self) -> None:
        """Let go of all seats; closing again does nothing."""
        self._silence.is_closed = True
        self._crew.close()

    # -- forks -------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let nobody change the lists; work that goes on is the parent's and stays there."""
        self._crew.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._crew.lock.release()

    def after_fork_in_child(self) -> None:
        """Start with threads and seats of our own; the parent's are never touched."""
        crew = self._crew
        _inherited.extend((*crew.idle, *crew.busy))
        self._close_at_exit.detach()
        self._start_over()
        self._crew.is_closed = crew.is_closed

    # -- threads -----------------------------------------------------------------------------

    def _take(self) -> _Worker[S]:
        crew = self._crew
        with crew.lock:
            worker = crew.idle.pop() if crew.idle else None
            if worker is None:
                worker = _Worker(self._new_seat())
                # a plain thread: nothing that follows the user's threads has to do with it
                _thread.start_new_thread(crew.serve, (worker,))
            crew.busy.add(worker)
        return worker

    def _abandon(self, worker: _Worker[S], task: _Task[S, T]) -> bool:
        """Leave a thread to itself; False when it has just finished."""
        with self._crew.lock:
            if task.is_done:
                return False
            task.is_abandoned = True
        with suppress(Exception):
            worker.seat.interrupt()
        return True


class _Silence(Generic[S]):
    """Whether the server has stopped answering; asks it in the background until it does again."""

    def __init__(self, new_seat: Callable[[], S]) -> None:
        self._new_seat = new_seat
        self._lock = threading.RLock()
        self._since: float | None = None
        self._probes = 0
        self._probed_at = 0.0
        self.is_closed = False

    def check(self) -> None:
        """Raise `Unanswered` while the server is silent."""
        since = self._since
        if since is None:
            return
        now = time.monotonic()
        if now - self._probed_at > _HUNG_PROBE_S:  # the network may have lost the question
            self._ask()
        raise Unanswered(f"the server has been silent for {now - since:.1f} s")

    def begin(self) -> None:
        """Count the server as silent from now on."""
        if self._since is None:
            self._since = time.monotonic()
            self._ask()

    def _ask(self) -> None:
        with self._lock:
            if self._probes >= _MOST_PROBES:
                return
            self._probes += 1
            self._probed_at = time.monotonic()
        _thread.start_new_thread(self._probe, ())

    def _probe(self) -> None:
        pause_s = _PROBE_PAUSE_S
        while self._since is not None and not self.is_closed:
            seat = self._new_seat()
            try:
                self._probed_at = time.monotonic()
                seat.probe()
                self._since = None
            except Exception:
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PROBE_PAUSE_S)
            finally:
                with suppress(Exception):
                    seat.close()
        with self._lock:
            self._probes -= 1

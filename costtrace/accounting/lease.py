"""The heartbeat: renews the leases of a process's holds, so that only the dead ones lapse."""

from __future__ import annotations

import _thread
import os
import threading
import weakref
from collections.abc import Callable

LEASE_S = 60.0
"""A hold lapses this long after its process was last heard of."""
BEAT_S = 20.0
IDLE_BEATS = 3


def process_name() -> str:
    """Return a name for this process that no other ever had: a process id may be used again."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


class Heartbeat:
    """Calls a method every few seconds while there is anything to do; it starts with the first.

    The method returns how much there was: leases renewed, steps that wait. Its object is not kept
    alive by this. A forked child has no heartbeat until it needs one.
    """

    def __init__(self, beat: Callable[[], int], every_s: float = BEAT_S) -> None:
        self._beat = weakref.WeakMethod(beat)
        self._every_s = every_s
        self._lock = threading.RLock()
        self._stop: threading.Event | None = None
        self._pid = 0
        self._is_asked_for = False

    def ensure(self) -> None:
        """Make sure that it runs in this process for the next few beats at least."""
        self._is_asked_for = True
        if self._stop is not None and self._pid == os.getpid():
            return
        with self._lock:
            if self._stop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._stop = threading.Event()
                # a plain thread: nothing that follows the user's threads has to do with it
                _thread.start_new_thread(self._run, (self._stop,))

    def stop(self) -> None:
        """Let the thread end; `ensure` starts another one."""
        with self._lock:
            stop, self._stop = self._stop, None
        if stop is not None:
            stop.set()

    def _run(self, stop: threading.Event) -> None:
        idle = 0
        while not stop.wait(self._every_s):
            beat = self._beat()
            if beat is None:
                return
            idle = 0 if _renewed(beat) else idle + 1
            del beat
            with self._lock:
                if self._is_asked_for:
                    self._is_asked_for, idle = False, 0
                elif idle >= IDLE_BEATS and self._stop is stop:
                    self._stop = None
                    return


def _renewed(beat: Callable[[], int]) -> bool:
    try:
        return beat() > 0
    except Exception:
        return True  # the store is away: the next beat may find it again

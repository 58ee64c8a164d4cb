"""Where requests wait: for a test's release, for a latency, or for the end of the provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from costtrace.testing.connection import Connection

_LOOK_S = 0.02  # how often a waiting request looks whether its client has left


class Gates:
    """All waiting of one provider's requests; each wait ends when the provider stops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holds = 0
        self._waiting = 0
        self._stopped = threading.Event()

    @property
    def waiting(self) -> int:
        """Requests that wait at a hold or a gate right now."""
        with self._changed:
            return self._waiting

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let requests wait at `pass_hold` until the block is left."""
        with self._changed:
            self._holds += 1
        try:
            yield
        finally:
            with self._changed:
                self._holds -= 1
                self._changed.notify_all()

    def wait_for_waiting(self, count: int, timeout_s: float) -> None:
        """Return once `count` requests wait; `TimeoutError` after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting < count:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"{self._waiting} of {count} requests wait at the gate")

    def stop(self) -> None:
        """End every wait, now and later, with `ConnectionAbortedError`."""
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()

    def pass_hold(self) -> None:
        """Wait until nobody holds the requests."""
        with self._changed, self._counted():
            while self._holds and not self._stopped.is_set():
                self._changed.wait()
        self._check()

    def pass_gate(self, gate: threading.Event, client: Connection) -> None:
        """Wait until `gate` is set; `ConnectionAbortedError` when the client leaves before."""
        with self._changed:
            self._enter()
        try:
            while not gate.wait(_LOOK_S):
                self._check()
                if client.has_left():
                    raise ConnectionAbortedError("the client left while it waited")
        finally:
            with self._changed:
                self._leave()

    def pause(self, seconds: float) -> None:
        """Wait for so long."""
        if seconds and self._stopped.wait(seconds):
            self._check()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        self._waiting += 1
        self._changed.notify_all()

    def _leave(self) -> None:
        self._waiting -= 1

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ConnectionAbortedError("the provider was stopped")

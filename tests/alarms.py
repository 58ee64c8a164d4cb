"""Signals whose handler breaks into whatever the main thread is doing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE_S = 0.002


@contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    """A signal again and again, soon after its last handler is done."""

    def handle(*_: object) -> None:
        try:
            handler()
        finally:
            signal.setitimer(signal.ITIMER_REAL, PAUSE_S)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, PAUSE_S)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

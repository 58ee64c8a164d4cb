"""Recovery: a store that was away is asked again, and gets what waited for it meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from costtrace.accounting.backlog import Backlog
from costtrace.accounting.lease import Heartbeat
from costtrace.accounting.outage import Outage

RETRY_S = 0.5
"""Seconds between two looks whether a store that was away is back."""
ADOPT_S = 2.0
"""Seconds that opening a ledger may take for what dead processes left; the rest comes later."""


class Recovery:
    """Looks after what waits, in a thread that runs while there is anything. Safe from any thread.

    `probe` asks the store for something that it can only do when it is whole; `afterwards` is
    called after each look.
    """

    def __init__(
        self,
        backlog: Backlog,
        outage: Outage,
        probe: Callable[[], object],
        afterwards: Callable[[], None],
    ) -> None:
        self._backlog = backlog
        self._outage = outage
        self._probe = probe
        self._afterwards = afterwards
        self._thread = Heartbeat(self._look, RETRY_S)

    @property
    def is_due(self) -> bool:
        """Whether the store has failed and nobody knows that it is back."""
        return bool(self._backlog) or self._outage.is_on

    def ensure(self) -> None:
        """Let somebody come back to what waits, also when no further call is made."""
        if self.is_due:
            self._thread.ensure()

    def adopt(self, for_s: float = ADOPT_S) -> bool:
        """Write what dead processes left, for some time; return whether nothing is left of it."""
        if self.is_due:
            return False
        is_all = self._backlog.adopt(time.monotonic() + for_s)
        if not is_all:
            self._thread.ensure()
        return is_all

    def finish(self) -> bool:
        """Write all that waits, here and of dead processes; return whether that was possible."""
        self._outage.probe(self._probe)
        return self._backlog.drain(is_urgent=True) and self.adopt(math.inf)

    def stop(self) -> None:
        """Let the thread end."""
        self._thread.stop()

    def start_over(self) -> None:
        """Begin anew in a forked child, with a store that was not asked yet."""
        self._thread = Heartbeat(self._look, RETRY_S)
        self._outage.is_on = False

    def _look(self) -> int:
        self._outage.probe(self._probe)
        self._backlog.drain()
        is_left = not self.adopt()
        self._afterwards()
        return len(self._backlog) + self._outage.is_on + is_left

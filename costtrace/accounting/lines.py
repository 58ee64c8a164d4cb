"""Lines: calls that wait for the same budget, first come, first served.

Only the one at the head of a line asks the store again and again: it is asked no more often when
two hundred calls wait than when one does, and nobody who came later is served first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from costtrace.accounting.steps import Steps, Wait

AT_THE_HEAD = 1
"""Calls of a line that may try at the same time."""
PAUSE_S, HEAD_PAUSE_S, LONGEST_PAUSE_S = 0.004, 0.02, 0.1
"""Seconds between two looks: at first, at the head of a line, and further back."""


class Rejection(Protocol):
    """Why a call cannot be sent now."""

    @property
    def owner(self) -> str:
        """Whose budget it was that refused."""

    @property
    def wait_s(self) -> float:
        """For how many seconds that budget lets a call wait."""

    @property
    def may_pass_later(self) -> bool:
        """Whether waiting makes sense."""


class Lines:
    """The lines of one ledger in this process, by the owner that they wait for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lines: dict[str, dict[Ticket, None]] = {}

    def busy(self, owners: Sequence[str]) -> str | None:
        """Return the first of these owners for whom somebody waits."""
        return next((owner for owner in owners if owner in self._lines), None)

    def join(self, owner: str) -> Ticket:
        """Stand at the end of an owner's line."""
        ticket = Ticket(self, owner)
        with self._lock:
            self._lines.setdefault(owner, {})[ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer."""
        with self._lock:
            if (line := self._lines.get(ticket.owner)) is not None:
                line.pop(ticket, None)
                if not line:
                    del self._lines[ticket.owner]

    def position(self, ticket: Ticket) -> int:
        """Return how many stand before it."""
        with self._lock:
            for position, one in enumerate(self._lines.get(ticket.owner, ())):
                if one is ticket or position >= 10 * AT_THE_HEAD:
                    return position
        return 0

    def waiting(self, owner: str) -> int:
        """Return how many wait for this owner."""
        return len(self._lines.get(owner, ()))

    def renew_lock(self) -> None:
        """Start over in a forked child: those who wait are the parent's."""
        self._lock, self._lines = threading.RLock(), {}


class Ticket:
    """A place in a line."""

    __slots__ = ("lines", "owner")

    def __init__(self, lines: Lines, owner: str) -> None:
        self.lines = lines
        self.owner = owner


def patiently(
    attempt: Callable[[bool], Steps], wait_s: float, lines: Lines, owners: Sequence[str]
) -> Steps:
    """Yield the steps of an attempt until it succeeds or `wait_s` seconds are over.

    `attempt` is told whether it may be made again, and comes to None or to a `Rejection`, which is
    what this comes to in the end. Whoever waits stands in the line of the owner that refused.
    """
    started_s = time.monotonic()
    end_s = started_s + wait_s
    owner = lines.busy(owners)
    ticket = None if owner is None else lines.join(owner)
    pause_s = PAUSE_S
    try:
        while True:
            left_s = end_s - time.monotonic()
            position = 0 if ticket is None else lines.position(ticket)
            if left_s > 0 and position >= AT_THE_HEAD:
                yield Wait(min(PAUSE_S * position, LONGEST_PAUSE_S, left_s))
                continue
            rejection: Rejection | None = yield from attempt(left_s > 0)
            if rejection is None or left_s <= 0 or not rejection.may_pass_later:
                return rejection
            end_s = started_s + rejection.wait_s
            if ticket is None or ticket.owner != rejection.owner:
                if ticket is not None:
                    lines.leave(ticket)
                ticket = lines.join(rejection.owner)
            pause_s = min(pause_s * 1.3, HEAD_PAUSE_S)
            yield Wait(max(0.0, min(pause_s, end_s - time.monotonic())))
    finally:
        if ticket is not None:
            lines.leave(ticket)

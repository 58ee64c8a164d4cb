"""Retention: entries older than a number of days go, what they add to every sum stays.

A ledger that is opened lets the first batch go, and then one each day with the first call that is
settled; whatever is more than a batch goes bit by bit in the background. Every process of a ledger
does this: whoever comes second finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from costtrace.stores.base import Store

AT_ONCE = 1000
"""Entries that go while a caller waits."""
_BATCHES_PER_BEAT = 10


def checked_days(keep_days: object, name: str = "keep_days") -> int | None:
    """Return a number of days; raises `TypeError` or `ValueError` for what is none."""
    if keep_days is None:
        return None
    if isinstance(keep_days, bool) or not isinstance(keep_days, int):
        raise TypeError(f"{name} must be None or an int, not {keep_days!r}")
    if not 1 <= keep_days <= 36_500:
        raise ValueError(f"{name} must be from 1 to 36500, not {keep_days}")
    return keep_days


def days_in(text: str, name: str) -> int | None:
    """Return the number of days that a setting holds; raises `ValueError` for what is none."""
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number of days, not {text!r}")
    return checked_days(int(text), name)


class Retention:
    """Lets old entries of one store go. Any thread may do its part."""

    def __init__(self, store: Store, keep_days: int, now: Callable[[], datetime]) -> None:
        self._store, self._keep, self._now = store, timedelta(days=keep_days), now
        self._next: datetime | None = None
        self._has_more = False

    def is_due(self) -> bool:
        """Return whether a day has begun since it was last done."""
        return self._next is None or self._now() >= self._next

    def step(self) -> None:
        """Let a batch go: the first one of a day, or the next."""
        today = (
            self._now().astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        )
        self._next = today + timedelta(days=1)  # first: nobody else need do the same
        self._has_more = self._store.prune(today - self._keep, at_most=AT_ONCE) > 0

    def go_on(self) -> int:
        """Let some more go, if there is more; return whether there still is."""
        for _ in range(_BATCHES_PER_BEAT):
            if not self._has_more and not self.is_due():
                break
            self.step()
        return int(self._has_more)

    @property
    def has_more(self) -> bool:
        """Whether a batch was not enough."""
        return self._has_more

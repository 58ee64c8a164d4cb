"""Instants: aware datetimes outside, whole microseconds since the epoch inside.

Both hold the same instants exactly, so nothing is rounded on the way, and integers compare alike in
Python, in SQL and in Redis.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TypeAlias

Microseconds: TypeAlias = int

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
US_PER_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)


def to_us(instant: datetime, name: str = "instant") -> Microseconds:
    """Return an aware datetime of any zone in microseconds since the epoch.

    Raises `TypeError` for what is no datetime and `ValueError` for a naive one.
    """
    if type(instant) is datetime and instant.tzinfo is timezone.utc:  # as nearly always
        return (instant - EPOCH) // _MICROSECOND
    if not isinstance(instant, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(instant).__name__} {instant!r}")
    if instant.utcoffset() is None:
        raise ValueError(f"{name} must be aware (with a tzinfo), but {instant!r} is naive")
    return timedelta_us(instant - EPOCH)


def from_us(us: Microseconds) -> datetime:
    """Return microseconds since the epoch as an aware UTC datetime.

    >>> from_us(1_500_000)
    datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, tzinfo=datetime.timezone.utc)
    """
    return EPOCH + timedelta(microseconds=us)


def timedelta_us(delta: timedelta) -> Microseconds:
    """Return the whole length of `delta` in microseconds, which `total_seconds()` would round."""
    return (delta.days * 86_400 + delta.seconds) * US_PER_SECOND + delta.microseconds

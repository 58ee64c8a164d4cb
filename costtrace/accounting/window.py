"""Windows: the stretch of time in which a budget counts what was spent.

A call belongs to the window in which it was authorized, and stays there. Windows of the calendar
follow the local clock of a time zone, end exactly where the next one begins, and are never empty:

- A day, week or month begins at the first instant whose local date has come; it goes on when
  the clock is set back over midnight, and there is none for a date that a country has skipped.
- An hour is a stretch of one UTC offset and one hour of the local clock: the hour that the clock
  shows twice is two hours, and a clock that is set by half an hour leaves one of 30 minutes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from costtrace.instant import US_PER_SECOND, Microseconds, from_us, timedelta_us, to_us
from costtrace.stores.base import ALWAYS, ALWAYS_END, ALWAYS_START, Span

CALENDAR = ("hour", "day", "week", "month")
_NAMES = 'None, "block", "hour", "day", "week", "month" or a datetime.timedelta'
_NOTHING = Span(0, 0)
_AT_MOST: dict[str | None, timedelta] = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
}
_HOUR_US = 3_600 * US_PER_SECOND
_ROLLING = re.compile(r"rolling (?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(?:\.(\d{1,6}))?s)?")


@dataclass(frozen=True, slots=True)
class Window:
    """The window of a budget: `None` (always), `block`, one of the calendar, or a rolling one.

    Safe from any thread: the span last asked for is remembered, and replaced in one step.
    """

    name: str | None
    """As in a report: None, `block`, `hour`, `day`, `week`, `month` or `rolling 1h30m`."""
    tz: tzinfo = timezone.utc
    delta: timedelta | None = None
    """The length of a rolling window."""
    _last: Span = field(default=_NOTHING, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, window: str | timedelta | None, tz: str | tzinfo | None = None) -> Window:
        """Return the window that a caller asks for.

        `tz` is the zone of a calendar window, by its IANA name or as an object; UTC without it.
        Raises `TypeError` and `ValueError`, naming what would be right.
        """
        if isinstance(window, timedelta):
            return cls(_rolling_name(window), delta=_checked(window, tz))
        if window is not None and not isinstance(window, str):
            raise TypeError(f"window must be {_NAMES}, not {type(window).__name__} {window!r}")
        if window in (None, "block"):
            _refuse_zone(window, tz)
            return cls(window)
        if window not in CALENDAR:
            raise ValueError(f"window must be {_NAMES}, not {window!r}")
        return cls(window, timezone.utc if tz is None else _zone(tz))

    @classmethod
    def named(cls, name: str | None, tz: str | None = None) -> Window:
        """Return the window with this `name` and `tz_name`, as they stand in a store."""
        rolling = _ROLLING.fullmatch(name) if name else None
        if rolling is None:
            return cls.of(name, tz)
        days, hours, minutes, seconds, fraction = (group or "0" for group in rolling.groups())
        whole = timedelta(int(days), int(seconds), 0, 0, int(minutes), int(hours))
        return cls.of(whole + timedelta(microseconds=int(fraction.ljust(6, "0"))), tz)

    @property
    def tz_name(self) -> str | None:
        """The name of the zone as `named` reads it; None for UTC, which needs none."""
        return None if self.tz is timezone.utc else str(self.tz)

    def span(self, at: datetime | Microseconds) -> Span:
        """Return the window around `at`: an aware datetime, or microseconds since the epoch.

        A rolling span begins just after `at - delta`: a call made exactly `delta` ago counts no
        more. It has no end, so that no call is missed whose clock was read a little later than
        this one's, in another thread or on another machine.
        """
        at_us = at if isinstance(at, int) else to_us(at, "at")
        last = self._last
        if last.start_us <= at_us < last.end_us:
            return last
        span = self._span_around(at_us)
        if not span.is_rolling:
            object.__setattr__(self, "_last", span)
        return span

    def resets_at(self, at: datetime | Microseconds) -> datetime | None:
        """Return when the window around `at` is over (aware UTC); None if it never is, or rolls."""
        return from_us(self.span(at).end_us) if self.name in CALENDAR else None

    def _span_around(self, at_us: Microseconds) -> Span:
        if self.delta is not None:
            start_us = at_us - timedelta_us(self.delta) + 1
            return Span(max(start_us, ALWAYS_START), ALWAYS_END, is_rolling=True)
        if self.name == "hour":
            return self._hour_around(at_us)
        return self._days_around(at_us) if self.name in CALENDAR else ALWAYS

    def _hour_around(self, at_us: Microseconds) -> Span:
        offset_us = self._offset_us(at_us)
        start_us = at_us - (at_us + offset_us) % _HOUR_US
        end_us = start_us + _HOUR_US
        if self._offset_us(start_us) != offset_us:
            start_us = self._change_between(start_us, at_us)
        if self._offset_us(end_us - 1) != offset_us:
            end_us = self._change_between(at_us, end_us - 1)
        return Span(start_us, end_us)

    def _days_around(self, at_us: Microseconds) -> Span:
        first = self._first_day(from_us(at_us).astimezone(self.tz).date())
        start_us = self._begin_us(first)
        while True:  # again only where the clock was set back over midnight, or a date skipped
            following = self._first_day(first + _AT_MOST[self.name])
            end_us = self._begin_us(following)
            if at_us < end_us:
                return Span(start_us, end_us)
            first, start_us = following, end_us

    def _first_day(self, day: date) -> date:
        if self.name == "month":
            return day.replace(day=1)
        return day - timedelta(days=day.weekday()) if self.name == "week" else day

    def _begin_us(self, day: date) -> Microseconds:
        """Return the first instant at which the local clock has reached this day."""
        midnight = datetime.combine(day, time(tzinfo=self.tz))
        first_us, second_us = to_us(midnight), to_us(midnight.replace(fold=1))
        if second_us < first_us:  # no clock shows this midnight: the day begins with the jump
            return self._change_between(second_us, first_us)
        return first_us

    def _offset_us(self, at_us: Microseconds) -> Microseconds:
        return timedelta_us(from_us(at_us).astimezone(self.tz).utcoffset() or timedelta())

    def _change_between(self, before_us: Microseconds, after_us: Microseconds) -> Microseconds:
        """Return the first instant after `before_us` that has another UTC offset."""
        offset_us = self._offset_us(before_us)
        while after_us - before_us > 1:
            middle_us = (before_us + after_us) // 2
            if self._offset_us(middle_us) == offset_us:
                before_us = middle_us
            else:
                after_us = middle_us
        return after_us


def _checked(delta: timedelta, tz: object) -> timedelta:
    _refuse_zone(delta, tz)
    if delta <= timedelta():
        raise ValueError(f"window must be longer than nothing, but is {delta!r}")
    return delta


def _refuse_zone(window: object, tz: object) -> None:
    if tz is not None:
        raise ValueError(
            f"tz={tz!r} means nothing for window={window!r}: only "
            f"{', '.join(repr(name) for name in CALENDAR)} follow a local clock"
        )


def _zone(tz: object) -> tzinfo:
    # pytz's zones do not follow arithmetic, but have this name; a ZoneInfo is the same one again
    name = getattr(tz, "zone", None) or getattr(tz, "key", None) or tz
    if isinstance(name, tzinfo):
        return name
    if not isinstance(name, str):
        raise TypeError(f"tz must be the name of a time zone or a tzinfo, not {tz!r}")
    if name == "UTC":
        return timezone.utc  # also where the machine knows no zones at all
    try:
        return _loaded(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f'tz must be a time zone this machine knows, such as "Europe/Berlin", not {tz!r}'
        ) from None


def _loaded(name: str) -> tzinfo:
    if name.startswith(("UTC+", "UTC-")):  # as `datetime.timezone` writes itself
        return datetime.strptime(name[3:], "%z").tzinfo or timezone.utc
    from zoneinfo import ZoneInfo  # costs more than the rest of a start, and few ask for a zone

    return ZoneInfo(name)


def _rolling_name(delta: timedelta) -> str:
    hours, seconds = divmod(delta.seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{delta.microseconds:06}".rstrip("0") if delta.microseconds else ""
    parts = [f"{count}{unit}" for count, unit in ((delta.days, "d"), (hours, "h")) if count]
    parts += [f"{minutes}m"] if minutes else []
    parts += [f"{seconds}{fraction}s"] if seconds or fraction else []
    return "rolling " + "".join(parts)

"""Budget windows: where they begin and end, in every zone, over every change of the clock."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import cache
from itertools import pairwise
from threading import Thread
from zoneinfo import ZoneInfo

import pytest

from costtrace.accounting.window import Window
from costtrace.instant import from_us, to_us
from costtrace.stores.base import ALWAYS, ALWAYS_END, ALWAYS_START

UTC = timezone.utc
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kolkata",
    "America/St_Johns",
)
# two years that hold the day that Apia skipped and the years in which St. John's set the clock
# back at one minute past midnight
FROM, UNTIL = datetime(2010, 6, 1, tzinfo=UTC), datetime(2012, 6, 1, tzinfo=UTC)


def at(*parts: int, tz: tzinfo = UTC, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=tz, fold=fold)  # type: ignore[misc, arg-type]


def first_day(day: date, name: str) -> date:
    if name == "month":
        return date(day.year, day.month, 1)
    return date.fromordinal(day.toordinal() - day.weekday()) if name == "week" else day


@cache
def boundaries(name: str, zone: str) -> list[int]:
    """Walk two years minute by minute and note when a new window of the local clock begins.

    Knows nothing of the code under test: it only asks the zone what the clock shows.
    """
    tz = ZoneInfo(zone)
    found: list[int] = []
    latest: object = None
    for us in range(to_us(FROM), to_us(UNTIL), MINUTE_US):
        if us % (30 * MINUTE_US) > MINUTE_US:
            continue  # no zone here changes, and no day begins, at another minute than :00 :01 :30
        local = from_us(us).astimezone(tz)
        if name == "hour":
            shown: object = (local.replace(minute=0, second=0, tzinfo=None), local.utcoffset())
            is_new = shown != latest
        else:
            shown = first_day(local.date(), name)
            is_new = latest is None or shown > latest  # type: ignore[operator]
        if is_new:
            latest = shown
            found.append(us)
    return found[1:]  # the first one is where the walk began


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", ["hour", "day", "week", "month"])
def test_exactly_one_window_contains_each_instant(name: str, zone: str) -> None:
    """1,000 random instants of two years: each lies between two boundaries of the local clock."""
    begins = boundaries(name, zone)
    chance = random.Random(f"{name} {zone}")
    window = Window.of(name, zone)
    spans = {}
    for _ in range(1000):
        us = chance.randrange(begins[0], begins[-1])
        span = window.span(us)
        assert span.start_us <= us < span.end_us
        spans[span.start_us] = span.end_us
    following = dict(pairwise(begins))
    assert all(following[start] == end for start, end in spans.items())


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", ["hour", "day", "week", "month"])
def test_windows_follow_each_other_without_a_gap(name: str, zone: str) -> None:
    """Walking from end to end meets every boundary of two years, and no window is empty."""
    begins = boundaries(name, zone)
    window = Window.of(name, zone)
    us, walked = begins[0], [begins[0]]
    while us < begins[-1]:
        span = window.span(us)
        assert span.start_us == us < span.end_us
        assert window.span(span.end_us - 1) == span
        us = span.end_us
        walked.append(us)
    assert walked == begins


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Asia/Kolkata", (2026, 3, 29), 24),
        ("America/Santiago", (2026, 9, 6), 23),
    ],
)
def test_day_is_as_long_as_the_local_clock_makes_it(
    zone: str, day: tuple[int, int, int], hours: float
) -> None:
    """Days on which the clock is set have 23, 23.5, 24.5 or 25 hours."""
    span = Window.of("day", zone).span(at(*day, 12, tz=ZoneInfo(zone)))

    assert span.end_us - span.start_us == hours * HOUR_US


def test_day_without_a_midnight_begins_with_the_jump() -> None:
    """Santiago's clock goes from 23:59 to 01:00: the day begins at that very instant."""
    window = Window.of("day", "America/Santiago")

    span = window.span(at(2026, 9, 6, 9))

    assert from_us(span.start_us) == at(2026, 9, 6, 4)
    assert window.resets_at(span.start_us - 1) == at(2026, 9, 6, 4)


def test_gap_over_midnight_splits_where_the_clock_jumps() -> None:
    """Toronto of 1919 went from 23:30 to 00:30: the new day begins with the jump, not at 00:00."""
    window = Window.of("day", "America/Toronto")
    jump = at(1919, 3, 31, 4, 30)

    assert window.resets_at(at(1919, 3, 31, 0)) == jump
    assert from_us(window.span(at(1919, 3, 31, 12)).start_us) == jump


def test_skipped_date_has_no_window() -> None:
    """Apia had no 30 December 2011: the 29th is followed by the 31st."""
    window = Window.of("day", "Pacific/Apia")
    before = window.span(at(2011, 12, 30, 9, 59))  # the 29th, 23:59 local
    after = window.span(before.end_us)

    assert before.end_us - before.start_us == after.end_us - after.start_us == 24 * HOUR_US
    assert from_us(after.start_us).astimezone(ZoneInfo("Pacific/Apia")).day == 31


def test_day_goes_on_when_the_clock_is_set_back_over_midnight() -> None:
    """St. John's set 00:01 back to 23:01: the day that had begun for a minute is not taken back."""
    zone = ZoneInfo("America/St_Johns")
    window = Window.of("day", zone)
    second_2330 = at(2010, 11, 6, 23, 30, tz=zone, fold=1)

    assert window.span(second_2330) == window.span(at(2010, 11, 7, 12, tz=zone))
    assert window.span(second_2330).start_us == to_us(at(2010, 11, 7, tz=zone))


def test_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    """Berlin, 25 October 2026: 02:30 and 02:30 an hour later are in windows of their own."""
    berlin = ZoneInfo("Europe/Berlin")
    window = Window.of("hour", berlin)
    first = window.span(at(2026, 10, 25, 2, 30, tz=berlin))
    second = window.span(at(2026, 10, 25, 2, 30, tz=berlin, fold=1))

    assert first.end_us == second.start_us
    assert first.end_us - first.start_us == second.end_us - second.start_us == HOUR_US


def test_hour_of_an_uneven_zone_begins_with_its_own_clock() -> None:
    """Kolkata's hours begin at half past by UTC; a clock set by 30 minutes leaves a half hour."""
    kolkata = Window.of("hour", "Asia/Kolkata").span(at(2026, 5, 1, 12, 0))
    lord_howe = Window.of("hour", "Australia/Lord_Howe").span(at(2026, 4, 4, 15, 10))

    assert from_us(kolkata.start_us) == at(2026, 5, 1, 11, 30)
    assert (from_us(lord_howe.start_us), from_us(lord_howe.end_us)) == (
        at(2026, 4, 4, 15, 0),
        at(2026, 4, 4, 15, 30),
    )


def test_week_begins_on_monday() -> None:
    """Sunday's last microsecond is in the old week, Monday's first in the new one."""
    window = Window.of("week")
    monday = at(2026, 11, 23)

    assert window.span(monday).start_us == to_us(monday)
    assert window.span(to_us(monday) - 1).end_us == to_us(monday)
    assert window.span(to_us(monday) - 1).start_us == to_us(at(2026, 11, 16))


@pytest.mark.parametrize("day", [28, 29, 30, 31])
def test_month_ends_after_its_last_day(day: int) -> None:
    """From any day at the end of January, February is next, and in 2028 it has 29 days."""
    window = Window.of("month")

    assert window.resets_at(at(2028, 1, day, 23, 59, 59, 999_999)) == at(2028, 2, 1)
    assert window.resets_at(at(2028, 2, 28, 23)) == at(2028, 3, 1)
    assert window.resets_at(at(2028, 12, day)) == at(2029, 1, 1)


def test_window_without_end_never_resets() -> None:
    """`None` and `block` hold every instant; neither they nor a rolling window resets."""
    assert Window.of(None).span(0) == Window.of("block").span(at(2026, 1, 1)) == ALWAYS
    for window in (Window.of(None), Window.of("block"), Window.of(timedelta(days=1))):
        assert window.resets_at(at(2026, 1, 1)) is None


def test_rolling_window_forgets_a_call_made_exactly_its_length_ago() -> None:
    """A microsecond later than `delta` ago counts, exactly `delta` ago does not."""
    now = at(2026, 11, 22, 12)
    span = Window.of(timedelta(hours=1)).span(now)

    assert span.is_rolling
    assert span.start_us == to_us(now) - HOUR_US + 1
    assert span.end_us == ALWAYS_END, "a clock that runs ahead must not hide a call"


def test_rolling_window_moves_with_the_clock() -> None:
    """The span is not remembered: a microsecond later it is another one."""
    window = Window.of(timedelta(hours=1))

    assert window.span(10**15).start_us + 1 == window.span(10**15 + 1).start_us


def test_longest_rolling_window_still_fits_a_store() -> None:
    """A window of 2.7 million years begins where stores begin to count."""
    assert Window.of(timedelta.max).span(0).start_us == ALWAYS_START


@pytest.mark.parametrize(
    ("delta", "name"),
    [
        (timedelta(hours=1, minutes=30), "rolling 1h30m"),
        (timedelta(days=30), "rolling 30d"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4), "rolling 1d2h3m4s"),
        (timedelta(milliseconds=500), "rolling 0.5s"),
        (timedelta(seconds=10, microseconds=20), "rolling 10.00002s"),
    ],
)
def test_rolling_window_has_a_short_exact_name(delta: timedelta, name: str) -> None:
    """The name says the length, and the window can be made from it again."""
    assert Window.of(delta).name == name
    assert Window.named(name) == Window.of(delta)


@pytest.mark.parametrize(
    "window",
    [
        Window.of(None),
        Window.of("block"),
        Window.of("day", "Europe/Berlin"),
        Window.of("month", timezone(timedelta(hours=-3, minutes=-30))),
        Window.of("hour"),
        Window.of(timedelta(hours=36)),
    ],
    ids=str,
)
def test_window_comes_back_from_its_names(window: Window) -> None:
    """What a store keeps of a window, two texts, is enough to make it again."""
    assert Window.named(window.name, window.tz_name) == window


@pytest.mark.parametrize("tz", [None, "UTC", UTC, ZoneInfo("UTC")], ids=str)
def test_utc_is_one_zone(tz: str | tzinfo | None) -> None:
    """UTC however it is written is the same window, and needs no name."""
    assert Window.of("day", tz) == Window.of("day")
    assert Window.of("day", tz).tz_name is None


def test_zone_of_another_library_is_read_by_its_name() -> None:
    """An object in pytz's manner, whose own arithmetic is off by minutes, is taken by its name."""

    class Localized(tzinfo):
        zone = "Europe/Berlin"

        def utcoffset(self, instant: datetime | None) -> timedelta:
            return timedelta(minutes=53)

    assert Window.of("day", Localized()) == Window.of("day", "Europe/Berlin")


@pytest.mark.parametrize("window", ["decade", "Day", "", "days", "rolling 1h"])
def test_unknown_window_is_refused_with_the_known_ones(window: str) -> None:
    """The error names what was given and every window there is."""
    with pytest.raises(ValueError, match=r"block.*hour.*day.*week.*month.*timedelta") as caught:
        Window.of(window)
    assert repr(window) in str(caught.value)


@pytest.mark.parametrize("window", [3600, 1.5, b"day", True, date(2026, 1, 1), ("day",)])
def test_window_of_a_wrong_type_is_refused(window: object) -> None:
    """A number of seconds is no window: nobody could say which one was meant."""
    with pytest.raises(TypeError, match=r"window must be None, .block"):
        Window.of(window)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, "block", timedelta(hours=1)])
def test_zone_without_a_calendar_is_refused(window: str | timedelta | None) -> None:
    """A zone changes nothing for these windows, so giving one is a mistake."""
    with pytest.raises(ValueError, match="'hour', 'day', 'week', 'month' follow a local clock"):
        Window.of(window, "Europe/Berlin")


@pytest.mark.parametrize(
    "tz", ["Berlin", "", "Europe", "../etc/passwd", "/etc/localtime", "X\0", "UTC+99:99"]
)
def test_unknown_zone_is_refused(tz: str) -> None:
    """Whatever the zone database says to it, the caller gets one clear ValueError."""
    with pytest.raises(ValueError, match="time zone this machine knows, such as"):
        Window.of("day", tz)


def test_zone_of_a_wrong_type_is_refused() -> None:
    """An offset as a number is no zone."""
    with pytest.raises(TypeError, match="not 2"):
        Window.of("day", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [timedelta(), timedelta(microseconds=-1), timedelta(days=-1)])
def test_rolling_window_must_have_a_length(delta: timedelta) -> None:
    """Nothing, or less, is no window."""
    with pytest.raises(ValueError, match="longer than nothing"):
        Window.of(delta)


def test_naive_time_is_refused() -> None:
    """Nobody knows which instant a naive datetime is."""
    with pytest.raises(ValueError, match="naive"):
        Window.of("day").span(datetime(2026, 1, 1))


@pytest.mark.parametrize("instant", [None, "2026-01-01", date(2026, 1, 1), 1.5])
def test_time_of_a_wrong_type_is_refused(instant: object) -> None:
    """A float of seconds is no instant: it could be seconds or microseconds, and would round."""
    with pytest.raises(TypeError, match="at must be a datetime"):
        Window.of("day").span(instant)  # type: ignore[arg-type]


def test_window_cannot_be_changed_and_pickles() -> None:
    """A window is a value: frozen, equal to its like, hashable, and travels between processes."""
    window = Window.of("day", "Europe/Berlin")
    window.span(at(2026, 1, 1))

    with pytest.raises(AttributeError):
        window.name = "week"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(window)) == window == Window.of("day", "Europe/Berlin")
    assert hash(window) == hash(Window.of("day", "Europe/Berlin"))


def test_remembered_span_serves_every_thread() -> None:
    """Threads that ask one window about different days each get their own day."""
    window = Window.of("day")
    wrong: list[int] = []

    def ask(us: int) -> None:
        for _ in range(2000):
            span = window.span(us)
            if not span.start_us <= us < span.end_us:
                wrong.append(us)

    threads = [Thread(target=ask, args=(day * 24 * HOUR_US + 5,)) for day in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_instants_survive_the_way_to_microseconds_and_back() -> None:
    """No microsecond is lost over four centuries, where a float would round."""
    chance = random.Random(7)
    for _ in range(1000):
        us = chance.randrange(-(10**16), 10**16)
        assert to_us(from_us(us)) == us
    assert (
        to_us(at(2026, 10, 25, 2, 30, tz=ZoneInfo("Europe/Berlin"), fold=1))
        - to_us(at(2026, 10, 25, 2, 30, tz=ZoneInfo("Europe/Berlin")))
        == HOUR_US
    )


def test_zones_are_loaded_only_when_asked_for() -> None:
    """A budget by UTC days does not pay for the zone database."""
    program = (
        "import sys; from costtrace.accounting.window import Window;"
        "Window.of('day', 'UTC').span(0);"
        "sys.exit('zoneinfo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

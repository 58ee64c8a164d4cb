"""From dated rows to prices: what holds from when on, for one model, tier and place."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Generic, TypeVar

from costtrace.money import to_pico
from costtrace.pricing.catalogue import Catalogue, Model, Period, RateRow
from costtrace.pricing.price import MILLION, TOOLS, Price, PriceId, Rate, Rates

T = TypeVar("T")
V = TypeVar("V")

WRITES = ("cache_write_5m", "cache_write_1h", "cache_write_30m", "cache_write_12h")
_SHORT_WRITES_FIRST = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
_UNIT_PARTS = {  # part in the list -> count in the usage, units that the price is for
    "audio_minutes": ("seconds", 60),
    "video_seconds": ("seconds", 1),
    "characters": ("characters", MILLION),
    "image_each": ("images", 1),
}
_SAME_TIER = {"": "standard", "default": "standard", "auto": "standard"}
_NEVER_DEARER = frozenset({"flex", "batch", "background_2h", "background_8h", "decisions"})


@dataclass(frozen=True, slots=True)
class Span(Generic[T]):
    """What holds for short and for long requests, between two changes."""

    short: T | None
    long: T | None
    long_above: int | None

    def of(self, input_tokens: int) -> T | None:
        """Return what holds for a request of so many input tokens."""
        is_long = self.long_above is not None and input_tokens > self.long_above
        return self.long if is_long else self.short


class Timeline(Generic[T]):
    """Values by the time from which they hold; the first one also holds before its time."""

    __slots__ = ("_starts", "_values")

    def __init__(self, first: T, later: Iterable[tuple[date, T]] = ()) -> None:
        changes = list(later)
        self._starts = [_midnight(day) for day, _ in changes]
        self._values = [first, *(value for _, value in changes)]

    def at(self, moment: datetime) -> T:
        """Return the value that holds at `moment`; a change holds from its midnight UTC on."""
        if not self._starts:
            return self._values[0]
        return self._values[bisect_right(self._starts, moment)]

    @property
    def first(self) -> T:
        """What holds before any change."""
        return self._values[0]

    @property
    def days(self) -> list[date]:
        """The days of change, in order."""
        return [start.date() for start in self._starts]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which price of a model is asked for, apart from the time."""

    tier: str = "standard"
    region: str = ""
    place: str = ""
    operation: str = ""
    variant: str = ""
    rule: str = ""
    is_assumed: bool = False


def moment_of(at: datetime | date | None) -> datetime:
    """Return `at` as an aware datetime; a date is its midnight UTC, None is now."""
    if at is None:
        return datetime.now(timezone.utc)
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"{at!r} has no time zone: give an aware datetime, such as UTC")
        return at
    if isinstance(at, date):
        return _midnight(at)
    raise TypeError(f"a time must be an aware datetime or a date, not {type(at).__name__}")


def served_tier(model: Model, tier: str, operation: str = "") -> tuple[str, str]:
    """Return the tier of the row that prices a served `tier`, and the rule if that is assumed."""
    tier = _SAME_TIER.get(tier, tier)
    listed = {row.tier for period in model.periods for row in period.rows}
    if operation == "decisions" and tier == "standard" and "decisions" in listed:
        return "decisions", ""
    if model.provider == "openai" and tier == "fast":
        tier = "priority"
    if model.provider == "anthropic" and tier == "priority":
        return "standard", "capacity"  # capacity paid ahead: there is no list price by token
    if model.is_user and tier not in listed and tier in _NEVER_DEARER:
        return "standard", ""
    return tier, ""


def price_timeline(model: Model, wanted: Wanted, catalogue: Catalogue) -> Timeline[Span[Price]]:
    """Return the prices of `model` over time; where none is listed, the span holds None."""
    tier, rule = served_tier(model, wanted.tier, wanted.operation)
    rules = "+".join(each for each in (wanted.rule, rule) if each)
    wanted = replace(wanted, tier=tier, rule=rules, is_assumed=wanted.is_assumed or bool(rule))
    later = [(day, _span(model, wanted, day, catalogue)) for day in model.change_days()]
    return Timeline(_span(model, wanted, None, catalogue), later)


def together(timelines: Sequence[Timeline[T]], combine: Callable[[list[T]], V]) -> Timeline[V]:
    """Return what `combine` makes of all the timelines, for each stretch without a change."""
    days = sorted({day for timeline in timelines for day in timeline.days})
    return Timeline(
        combine([timeline.first for timeline in timelines]),
        [(day, combine([line.at(_midnight(day)) for line in timelines])) for day in days],
    )


def complete(prices: Mapping[str, Decimal], factor: Decimal = Decimal(1)) -> dict[str, Rate]:
    """Return the rate of every part of a call, given the listed ones in USD.

    A part without a price of its own costs what it would without being special: cached tokens the
    input price, audio and images the text price; a cache write of an unlisted lifetime the dearest
    listed lifetime, else the input price. Where only audio or image output is listed, all output is
    that.
    """
    usd = {part: price * factor for part, price in prices.items()}
    rates = {part: (to_pico(price, part), MILLION) for part, price in usd.items()}
    for part, (count, units) in _UNIT_PARTS.items():
        if part in rates:
            rates[count] = (rates.pop(part)[0], units)
    short_write = next((part for part in _SHORT_WRITES_FIRST if part in rates), "input")
    listed_writes = [rates[part] for part in WRITES if part in rates]
    _fall_back(rates, "cached_input", "input")
    _fall_back(rates, "cache_write", short_write)
    if "input" in rates:
        dearest_write = max(*listed_writes, rates["input"]) if listed_writes else rates["input"]
        rates.update({part: rates.get(part, dearest_write) for part in WRITES})
    _fall_back(rates, "audio_cached_input", "audio_input", "cached_input")
    _fall_back(rates, "image_cached_input", "image_input", "cached_input")
    _fall_back(rates, "audio_input", "input")
    _fall_back(rates, "image_input", "input")
    _fall_back(rates, "output", "image_output", "audio_output")
    _fall_back(rates, "audio_output", "output")
    _fall_back(rates, "image_output", "output")
    return rates


def with_id(price: Price, place: str = "") -> Price:
    """Return `price` with the id that its rates, tier and place make."""
    price_id = PriceId(
        provider=price.provider or "user",
        model=price.model,
        tier=price.tier,
        context=price.context,
        place=place,
        since="" if price.since is None else price.since.isoformat(),
        rates=checksum(price.rates, price.tools),
        rule=price.rule,
    )
    return replace(price, id=str(price_id))


def checksum(*rates: Rates | None) -> str:
    """Return eight hexadecimal digits that change with any of the rates."""
    text = repr([sorted((each or {}).items()) for each in rates])
    return f"{zlib.crc32(text.encode()):08x}"


def tool_rates(fees: Mapping[str, Decimal]) -> dict[str, Rate]:
    """Return the rates of tool calls, given the fees in USD per thousand calls."""
    named = {tool: fees.get(tool.removesuffix("_calls")) for tool in TOOLS}
    return {tool: (to_pico(fee, tool), 1000) for tool, fee in named.items() if fee is not None}


def _fall_back(rates: dict[str, Rate], part: str, *others: str) -> None:
    if part not in rates:
        other = next((other for other in others if other in rates), None)
        if other is not None:
            rates[part] = rates[other]


def _span(model: Model, wanted: Wanted, day: date | None, catalogue: Catalogue) -> Span[Price]:
    period = model.period_on(day)
    rows = {} if period is None else _rows(period, wanted, day)
    if period is None or "short" not in rows:
        return Span(None, None, None)
    factor, place, is_guess = _factor(model, period, wanted, catalogue)
    is_early = day is None and period.since is not None
    is_assumed = wanted.is_assumed or is_guess or is_early
    rules = (wanted.rule, "early" if is_early else "", "assumed" if is_assumed else "")
    fees = {**catalogue.tools(model.provider), **model.tools}
    short = Price(
        id="",
        model=model.id,
        provider=model.provider,
        tier=wanted.tier,
        rule="+".join(rule for rule in rules if rule),
        is_assumed=is_assumed,
        since=rows["short"].since or period.since,
        as_of=catalogue.as_of,
        context="short",
        long_above=period.long_above,
        short=complete(rows["short"].prices, factor),
        long=complete(rows["long"].prices, factor) if "long" in rows else None,
        tools=tool_rates(fees),
        search_content_tokens=int(fees.get("web_search_content_tokens", 0)),
    )
    long = replace(short, context="long") if "long" in rows else None
    return Span(with_id(short, place), long and with_id(long, place), period.long_above)


def _rows(period: Period, wanted: Wanted, day: date | None) -> dict[str, RateRow]:
    """Return the row of each context; a row of another variant (size, quality) is none of them."""
    variants = ("", wanted.variant.replace("-x-", "x"))
    return {
        row.context: row
        for row in period.rows
        if row.tier == wanted.tier
        and row.holds_on(day)
        and row.variant.replace("-x-", "x") in variants
    }


def _factor(
    model: Model, period: Period, wanted: Wanted, catalogue: Catalogue
) -> tuple[Decimal, str, bool]:
    """Return the multiplier of the place, its mark in the id, and whether it is assumed."""
    one = Decimal(1)
    if model.is_user:
        return one, "", False
    if wanted.place:
        cloud, _, where = wanted.place.partition(":")
        if where == "us-gov":
            return catalogue.gov_factor, wanted.place, False
        regional = period.multipliers.get("cloud_regional", one)
        if where == "global":
            return one, wanted.place, False
        if cloud == "vertex" and not where:
            return one, wanted.place, regional != one
        return regional, wanted.place, not where and regional != one
    if wanted.region and wanted.region != "global":
        name = "geo_us" if model.provider == "anthropic" else "regional_host"
        is_known = name == "regional_host" or wanted.region == "us"
        if is_known and name in period.multipliers:
            return period.multipliers[name], wanted.region, False
    return one, "", False


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)

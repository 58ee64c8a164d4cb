"""Price: what every part of a call costs, for one model, tier, place and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from costtrace.money import Picodollars, to_usd
from costtrace.usage import Usage

Rate: TypeAlias = tuple[int, int]
"""Picodollars for so many units, as in (2_500_000_000_000, 1_000_000)."""
Rates: TypeAlias = Mapping[str, Rate]
"""Part of a call -> what it costs; a part that is not there has no price."""

MILLION = 10**6
UNITS = ("seconds", "characters", "images")
TOOLS = ("web_search_calls", "web_search_preview_calls", "file_search_calls")


class Line(NamedTuple):
    """One part of what a call costs."""

    name: str
    """What is paid for: `input`, `cached_input`, `cache_write_5m` ... `web_search_calls`."""
    quantity: int
    cost: Picodollars | None
    """None where the model has no price for it."""


class _PerMtok:
    """A price in USD per million tokens, read off the rates of its name."""

    def __set_name__(self, owner: type[Price], name: str) -> None:
        self._name = name

    def __get__(self, price: Price | None, owner: type[Price]) -> Decimal | None:
        if price is None:
            return None
        rate = (price.rates or {}).get(self._name)
        return None if rate is None else to_usd(rate[0] * MILLION // rate[1])


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model at one time, in one tier and place.

    It holds both contexts, and `lines` picks by the usage's own input tokens: a request with more
    than `long_above` of them takes the long rates as a whole. Immutable.
    """

    id: str
    """Which rates these are, as in `openai/gpt-4o#batch:0a1b2c3d~alias`; see `PriceId`."""
    model: str
    provider: str
    tier: str
    rule: str
    """Which rule found the model by its name; `` for the listed id itself."""
    is_assumed: bool
    """True where the price rests on a documented assumption, not on a listed row alone."""
    since: date | None
    """The day from which these rates hold; None for ever since."""
    as_of: date
    """The day on which the table was put together."""
    context: str
    """`short` or `long`: what the price was asked for."""
    long_above: int | None
    short: Rates | None = field(hash=False)
    long: Rates | None = field(hash=False)
    tools: Rates = field(hash=False)
    search_content_tokens: int = 0
    """Input tokens billed for each web search on top, where a provider bills a fixed block."""

    input = _PerMtok()
    cached_input = _PerMtok()
    cache_write_5m = _PerMtok()
    cache_write_1h = _PerMtok()
    cache_write_30m = _PerMtok()
    cache_write_12h = _PerMtok()
    audio_input = _PerMtok()
    audio_output = _PerMtok()
    image_input = _PerMtok()
    image_output = _PerMtok()
    output = _PerMtok()

    @property
    def rates(self) -> Rates | None:
        """The rates of `context`; None where no price is known for it."""
        return self.long if self.context == "long" else self.short

    def rates_for(self, input_tokens: int) -> Rates | None:
        """Return the rates of a request with so many input tokens in total."""
        is_long = self.long_above is not None and input_tokens > self.long_above
        return self.long if is_long else self.short

    def plain_cost(self, sent: int, cached: int, made: int) -> Picodollars | None:
        """Return the sum of `lines` of a usage without any other counts.

        None where a part has no price.
        """
        rates = self.rates_for(sent)
        if rates is None:
            return None
        total = 0
        for name, count in (("input", sent - cached), ("cached_input", cached), ("output", made)):
            if count > 0:
                rate = rates.get(name)
                if rate is None:
                    return None
                total += amount(count, rate)
        return total

    def lines(self, usage: Usage) -> tuple[Line, ...]:
        """Return what `usage` costs, part by part; their sum is the cost.

        A call measured in two ways (tokens and seconds, say) is billed by those that have a price;
        a part without any other that is billed has the cost None.
        """
        rates = self.rates_for(usage.input_tokens) or {}
        tokens = [_line(name, count, rates) for name, count in _token_parts(usage) if count]
        units = [_line(name, count, rates) for name in UNITS if (count := getattr(usage, name))]
        if any(line.cost is not None for line in units):
            tokens = [line for line in tokens if line.cost is not None]
        elif any(line.cost is not None for line in tokens):
            units = []
        return (*tokens, *units, *self._tool_lines(usage, rates))

    def _tool_lines(self, usage: Usage, rates: Rates) -> Iterator[Line]:
        for name in TOOLS:
            count = getattr(usage, name)
            if count:
                yield _line(name, count, self.tools)
        if usage.web_search_calls and self.search_content_tokens:
            block = usage.web_search_calls * self.search_content_tokens
            yield Line("web_search_content", block, _line("input", block, rates).cost)


class PriceId(NamedTuple):
    """The parts of `Price.id`: `provider/model#tier+long+place@since:rates~rule`."""

    provider: str
    model: str
    tier: str
    context: str
    place: str
    since: str
    rates: str
    """Eight hexadecimal digits, a checksum of the rates themselves: other rates, other digits."""
    rule: str

    @classmethod
    def parse(cls, text: str) -> PriceId:
        """Read an id back; raises ValueError for a text that is none.

        >>> PriceId.parse("openai/o3#flex@2025-06-10:0a1b2c3d~alias").since
        '2025-06-10'
        """
        name, _, rest = text.rpartition("#")
        provider, slash, model = name.partition("/")
        rest, _, rule = rest.partition("~")
        rest, colon, rates = rest.rpartition(":")
        rest, _, since = rest.partition("@")
        tier, *marks = rest.split("+")
        if not (slash and colon and tier):
            raise ValueError(f"{text!r} is not the id of a price")
        context = "long" if "long" in marks else "short"
        place = "".join(mark for mark in marks if mark != "long")
        return cls(provider, model, tier, context, place, since, rates, rule)

    def __str__(self) -> str:
        long = "+long" if self.context == "long" else ""
        place = f"+{self.place}" if self.place else ""
        since = f"@{self.since}" if self.since else ""
        rule = f"~{self.rule}" if self.rule else ""
        return f"{self.provider}/{self.model}#{self.tier}{long}{place}{since}:{self.rates}{rule}"


def amount(count: int, rate: Rate) -> Picodollars:
    """Return `count` units at `rate`, rounded half to even where it does not divide."""
    pico, units = rate
    whole, rest = divmod(count * pico, units)
    if 2 * rest > units or (2 * rest == units and whole % 2):
        whole += 1
    return whole


_PLAIN_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
unusual_counts = attrgetter(*(one.name for one in fields(Usage) if one.name not in _PLAIN_COUNTS))
"""The counts of a usage that text alone does not have."""


def _line(name: str, count: int, rates: Rates) -> Line:
    rate = rates.get(name)
    return Line(name, count, None if rate is None else amount(count, rate))


def _token_parts(usage: Usage) -> Iterator[tuple[str, int]]:
    """Split the totals into disjoint parts.

    Where the parts that a provider states exceed its total, the parts are billed as stated and
    nothing is left for plain text.
    """
    audio_cached, image_cached = usage.audio_cache_read_tokens, usage.image_cache_read_tokens
    text_cached = max(0, usage.cache_read_tokens - audio_cached - image_cached)
    audio = max(0, usage.audio_input_tokens - audio_cached)
    image = max(0, usage.image_input_tokens - image_cached)
    writes = (
        ("cache_write_5m", usage.cache_write_5m_tokens),
        ("cache_write_1h", usage.cache_write_1h_tokens),
        ("cache_write_30m", usage.cache_write_30m_tokens),
        ("cache_write_12h", usage.cache_write_12h_tokens),
    )
    split = sum(count for _, count in writes)
    undated = max(0, usage.cache_write_tokens - split)
    taken = text_cached + audio_cached + image_cached + audio + image + split + undated
    yield "input", max(0, usage.input_tokens - taken)
    yield "cached_input", text_cached
    yield from writes
    yield "cache_write", undated
    yield "audio_input", audio
    yield "audio_cached_input", audio_cached
    yield "image_input", image
    yield "image_cached_input", image_cached
    made = usage.audio_output_tokens + usage.image_output_tokens
    yield "output", max(0, usage.output_tokens - made)
    yield "audio_output", usage.audio_output_tokens
    yield "image_output", usage.image_output_tokens

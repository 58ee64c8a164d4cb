"""Bound: the most that a call can cost, before it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from costtrace.money import Picodollars
from costtrace.pricing.price import TOOLS, UNITS, Price, Rate, Rates
from costtrace.usage import Usage

UNLIMITED = 2**62
"""What `Bound.output_for` answers where output costs nothing."""

REQUESTED_TIERS = {  # what is asked for -> what may serve it; any other tier may become standard
    "auto": ("standard", "priority"),
    "standard": ("standard",),
    "ultrafast": ("ultrafast", "priority", "standard"),
}
NEVER_DEARER = frozenset({"flex", "batch", "background_2h", "background_8h"})
"""Tiers at or below the standard price, so that this bounds one whose row is not listed."""


def tiers_that_may_serve(tier: str | None) -> tuple[str, ...]:
    """Return the tiers in which a request for `tier` may be served and billed.

    OpenAI may serve priority and flex requests as standard ones, and `auto` (also None: nothing was
    said, and it is not known what the project says) as priority too.
    """
    return REQUESTED_TIERS.get(tier or "auto", (tier or "auto", "standard"))


@dataclass(frozen=True, slots=True)
class Bound:
    """The dearest rates that may apply to a request; `cost` is never below the actual cost.

    Whole picodollars per token, rounded up. Monotone: more tokens never cost less.
    """

    input: int | None
    output: int | None
    long_above: int | None
    long_input: int | None
    long_output: int | None
    units: Rates = field(hash=False)
    tools: Rates = field(hash=False)
    search_content_tokens: int = 0

    def cost(
        self, input_tokens: int, max_output_tokens: int, beside: Usage | None = None
    ) -> Picodollars | None:
        """Return the most that a call may cost; None where a part of it has no known price.

        `beside` bounds what is not tokens: seconds, characters, images, tool calls.
        """
        if self.long_above is not None and input_tokens > self.long_above:
            each_input, each_output = self.long_input, self.long_output
        else:
            each_input, each_output = self.input, self.output
        if beside is None and each_input is not None and each_output is not None:
            return input_tokens * each_input + max_output_tokens * each_output
        return self._mixed_cost(
            ((input_tokens, each_input), (max_output_tokens, each_output)), beside or Usage()
        )

    def output_for(
        self, amount: Picodollars, input_tokens: int, beside: Usage | None = None
    ) -> int | None:
        """Return how many output tokens `amount` pays for, after the input.

        The most for which `cost` stays within `amount`; None where not even the input does, or
        where no price is known.
        """
        fixed = self.cost(input_tokens, 0, beside)
        if fixed is None or fixed > amount:
            return None
        is_long = self.long_above is not None and input_tokens > self.long_above
        each = self.long_output if is_long else self.output
        if each is None:
            return UNLIMITED if self.units else 0
        return (amount - fixed) // each if each else UNLIMITED

    def _mixed_cost(
        self, tokens: tuple[tuple[int, int | None], ...], beside: Usage
    ) -> Picodollars | None:
        is_by_unit = any(getattr(beside, name) and name in self.units for name in UNITS)
        if self.units and not is_by_unit and tokens[0][1] is None:
            return None  # billed by a unit whose count nobody bounded
        total = 0
        for count, each in tokens:
            if count and each is None and not is_by_unit:
                return None
            total += count * (each or 0)
        for name in (*UNITS, *TOOLS):
            count = getattr(beside, name)
            rate = (self.tools if name in TOOLS else self.units).get(name)
            if count and rate is None and (name in TOOLS or tokens[0][1] is None):
                return None
            if rate is not None:
                total += -(-count * rate[0] // rate[1])
        block = beside.web_search_calls * self.search_content_tokens
        return total + block * (tokens[0][1] or 0)


def bound_of(
    spans: Iterable[tuple[Price | None, Price | None]],
    cache_lifetimes: Collection[str] | None,
    modalities: Collection[str] | None,
) -> Bound | None:
    """Return the bound over the (short, long) prices of all tiers that may serve a request.

    `cache_lifetimes` are those the request may write (None: any, `()`: none), `modalities` those of
    `audio` and `image` that it may hold or bring (None: any).
    """
    pairs = [pair for pair in spans if pair[0] is not None]
    shorts = [short for short, _ in pairs if short is not None]
    if not shorts:
        return None
    longs = [long for _, long in pairs if long is not None]
    inputs, outputs = _input_parts(cache_lifetimes, modalities), _output_parts(modalities)
    each_input, each_output = _dearest(shorts, inputs), _dearest(shorts, outputs)
    return Bound(
        input=each_input,
        output=each_output,
        long_above=shorts[0].long_above,
        long_input=_dearest([*shorts, *longs], inputs) if longs else None,
        long_output=_dearest([*shorts, *longs], outputs) if longs else None,
        units={n: _max_rate(shorts, n) for n in UNITS if any(n in (p.rates or {}) for p in shorts)},
        tools=shorts[0].tools,
        search_content_tokens=shorts[0].search_content_tokens,
    )


def _input_parts(
    lifetimes: Collection[str] | None, modalities: Collection[str] | None
) -> tuple[str, ...]:
    parts = ["input", "cached_input"]
    known = ("5m", "1h", "30m", "12h") if lifetimes is None else tuple(lifetimes)
    if known:
        parts += ["cache_write", *(f"cache_write_{lifetime}" for lifetime in known)]
    for kind in ("audio", "image"):
        if modalities is None or kind in modalities:
            parts += [f"{kind}_input", f"{kind}_cached_input"]
    return tuple(parts)


def _output_parts(modalities: Collection[str] | None) -> tuple[str, ...]:
    kinds = [k for k in ("audio", "image") if modalities is None or k in modalities]
    return ("output", *(f"{kind}_output" for kind in kinds))


def _dearest(prices: Iterable[Price], parts: tuple[str, ...]) -> int | None:
    rates = [rate for price in prices for part in parts if (rate := _rate(price, part))]
    return max((-(-pico // units) for pico, units in rates), default=None)


def _rate(price: Price, part: str) -> Rate | None:
    return (price.rates or {}).get(part)


def _max_rate(prices: Iterable[Price], unit: str) -> Rate:
    rates = [rate for price in prices if (rate := _rate(price, unit))]
    return max(rates, key=lambda rate: rate[0] / rate[1])

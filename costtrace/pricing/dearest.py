"""The price that no known model of a provider exceeds, for a model that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable

from costtrace.pricing.price import Price, Rate, Rates
from costtrace.pricing.timeline import Span, with_id


def dearest_price(spans: Iterable[Span[Price]], provider: str, tier: str) -> Price:
    """Return the highest rate of each line over the prices in `spans`, both contexts."""
    prices = [price for span in spans for price in (span.short, span.long) if price is not None]
    rates: dict[str, Rate] = {}
    tools: dict[str, Rate] = {}
    for price in prices:
        _raise_to(rates, price.rates or {})
        _raise_to(tools, price.tools)
    price = Price(
        id="",
        model="*",
        provider=provider,
        tier=tier,
        rule="dearest+assumed",
        is_assumed=True,
        since=None,
        as_of=prices[0].as_of,
        context="short",
        long_above=None,
        short=rates,
        long=None,
        tools=tools,
        search_content_tokens=max(price.search_content_tokens for price in prices),
    )
    return with_id(price)


def _raise_to(highest: dict[str, Rate], rates: Rates) -> None:
    for part, rate in rates.items():
        highest[part] = max(rate, highest.get(part, rate), key=_each)


def _each(rate: Rate) -> float:
    return rate[0] / rate[1]

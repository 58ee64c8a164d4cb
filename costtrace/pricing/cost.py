"""Cost: usage times price, exact, in whole picodollars."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from costtrace.exceptions import UnknownPriceError
from costtrace.money import Picodollars, to_usd
from costtrace.pricing.price import Price, unusual_counts
from costtrace.pricing.table import PriceTable
from costtrace.usage import Usage


def cost(usage: Usage, price: Price | None) -> Picodollars | None:
    """Return what `usage` costs; None where the model, or a part of the usage, has no price.

    The sum of `price.lines(usage)`. Bundled token prices are whole picodollars; a line of a price
    that does not divide is rounded half to even.
    """
    if price is None:
        return None
    if not any(unusual_counts(usage)):
        known = price.plain_cost(usage.input_tokens, usage.cache_read_tokens, usage.output_tokens)
        if known is not None:
            return known
    total = 0
    for line in price.lines(usage):
        if line.cost is None:
            return None
        total += line.cost
    return total


def estimate_cost(
    model: str,
    input_tokens: int,
    max_output_tokens: int,
    *,
    prices: PriceTable | None = None,
    at: datetime | date | None = None,
) -> Decimal:
    """Return the standard price in US dollars of so many input and output tokens.

    The long-context price where the input passes its threshold; nothing cached, no tool fees.
    `prices` is the bundled table unless given, `at` is now. Raises `UnknownPriceError` where no
    price is known, and TypeError or ValueError for counts that are none.

    >>> estimate_cost("claude-opus-4-8", 2400, 1000)
    Decimal('0.037')
    """
    usage = Usage(input_tokens=input_tokens, output_tokens=max_output_tokens)
    table = PriceTable.bundled() if prices is None else prices
    picodollars = cost(usage, table.price(model, at, input_tokens=input_tokens))
    if picodollars is None:
        raise UnknownPriceError(model, is_limited=False, similar=table.similar(model))
    return to_usd(picodollars)

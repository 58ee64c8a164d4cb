"""What an entry costs, work at other models' prices included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costtrace.accounting.recording import price_of
from costtrace.entry import CostEntry
from costtrace.money import to_usd
from costtrace.pricing import PriceTable, cost
from costtrace.providers import Part, Reading


def valued(prices: PriceTable, entry: CostEntry, parts: Sequence[Part] = ()) -> CostEntry:
    """Return the entry with the cost and the usage of all its work; None where no price is known.

    Where the model that answered has no price, that of the model asked for is used.
    """
    price = price_of(prices, entry)
    if price is None and entry.request_model not in ("", entry.model):
        price = price_of(prices, replace(entry, model=entry.request_model))
    amount = cost(entry.usage, price)
    usage = entry.usage
    for part in parts:
        of_part = price_of(prices, replace(entry, model=part.model, usage=part.usage))
        beside = cost(part.usage, of_part)
        amount = None if amount is None or beside is None else amount + beside
        usage = usage + part.usage
    if amount is None or price is None:
        return replace(entry, usage=usage, cost_usd=None, grade="unpriced", price_id=None)
    return replace(entry, usage=usage, cost_usd=to_usd(amount), price_id=price.id)


def corrected(prices: PriceTable, entry: CostEntry, reading: Reading) -> CostEntry:
    """Return an entry made exact by what was read later."""
    if reading.usage is None:
        return entry
    exact = replace(
        entry,
        model=reading.model or entry.model,
        usage=reading.usage,
        service_tier=reading.tier or entry.service_tier,
        region=reading.region or entry.region,
        status="ok",
        grade="reported",
        gateway_cost_usd=reading.gateway_cost,
    )
    return valued(prices, exact, reading.parts)

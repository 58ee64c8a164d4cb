"""Tariff: all that a price table says of requests of one kind on one day, looked up as one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone

from costtrace.pricing.bound import Bound
from costtrace.pricing.catalogue import Limits
from costtrace.pricing.memory import remember
from costtrace.pricing.price import Price
from costtrace.pricing.table import PriceTable


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a request may cost, and how long it and its answer may be; None where unknown."""

    bound: Bound | None
    price: Price | None
    limits: Limits | None


def tariff_of(
    table: PriceTable,
    model: str,
    at: datetime,
    *,
    provider: str,
    tier: str,
    region: str = "",
    operation: str = "",
    cache_lifetimes: Collection[str] | None = None,
) -> Tariff:
    """Return the tariff of `model`; the arguments are those of `PriceTable.bound`.

    It is remembered for the day (UTC): no price changes within one.
    """
    if at.tzinfo is not timezone.utc:
        at = at.astimezone(timezone.utc)
    lifetimes = None if cache_lifetimes is None else tuple(cache_lifetimes)
    key = (model, at.toordinal(), provider, tier, region, operation, lifetimes)
    found = table.tariffs.get(key)
    if found is None:
        found = Tariff(
            table.bound(
                model,
                at,
                provider=provider,
                tier=tier,
                region=region,
                operation=operation,
                cache_lifetimes=lifetimes,
            ),
            table.price(
                model, at, provider=provider, tier=tier, region=region, operation=operation
            ),
            table.limits(model),
        )
        remember(table.tariffs, key, found)
    return found

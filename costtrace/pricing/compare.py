"""What differs between two price tables, and what is odd about one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from costtrace.money import to_usd
from costtrace.pricing.catalogue import Model

if TYPE_CHECKING:
    from costtrace.pricing.table import PriceTable

_COUNTED = {
    "audio_minutes": "seconds",
    "video_seconds": "seconds",
    "image_each": "images",
}


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One price that differs; None where a table has none. USD per million, or per unit."""

    model: str
    tier: str
    context: str
    part: str
    old: Decimal | None
    new: Decimal | None


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One name that stands for another model, or that only one table has."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class TableDiff:
    """What changes from one table to another at one time."""

    prices: tuple[PriceChange, ...]
    aliases: tuple[AliasChange, ...]

    def __bool__(self) -> bool:
        return bool(self.prices or self.aliases)


def difference(old: PriceTable, new: PriceTable, moment: datetime) -> TableDiff:
    """Return what changes at `moment` for one who goes from `old` to `new`."""
    models = dict.fromkeys((*new.models(), *old.models()))
    names = sorted({*old.aliases, *new.aliases})
    return TableDiff(
        tuple(change for model in models for change in _changes(model, old, new, moment)),
        tuple(
            AliasChange(name, old.aliases.get(name), new.aliases.get(name))
            for name in names
            if old.aliases.get(name) != new.aliases.get(name)
        ),
    )


def oddities(table: PriceTable, listed: PriceTable) -> Iterator[str]:
    """Yield what is valid in a user's table, but may not be meant."""
    for name in table.models():
        model = table.find(name)
        if model is not None and model.is_user:
            yield from _odd_prices(model, listed)
    for name, target in table.aliases.items():
        if listed.find(name) is not None and listed.aliases.get(name) != target:
            yield f"alias {name!r} hides the listed model of that name"


def _odd_prices(model: Model, listed: PriceTable) -> Iterator[str]:
    for row in (row for period in model.periods for row in period.rows):
        base, output = row.prices.get("input"), row.prices.get("output")
        cached = row.prices.get("cached_input")
        if base and cached and cached > base:
            yield f"{model.id!r}: cached input costs more than input"
        if base and output is not None and output < base:
            yield f"{model.id!r}: output costs less than input"
        if output is None:
            yield f"{model.id!r}: no price for output, so calls that bring any have no cost"
    if listed.find(model.id) is not None:
        yield f"{model.id!r}: replaces the listed price, for every date, context and region"


def _changes(
    model: str, old: PriceTable, new: PriceTable, moment: datetime
) -> Iterator[PriceChange]:
    before, after = old.find(model), new.find(model)
    if before is after:
        return
    slots = dict.fromkeys((*_slots(before), *_slots(after)))
    for tier, context, variant, part in slots:
        was = _usd(old, model, moment, tier, context, variant, part)
        now = _usd(new, model, moment, tier, context, variant, part)
        if was != now:
            yield PriceChange(model, tier, context, part, was, now)


def _slots(model: Model | None) -> Iterator[tuple[str, str, str, str]]:
    for row in (row for period in model.periods for row in period.rows) if model else ():
        for part in row.prices:
            yield row.tier, row.context, row.variant, part


def _usd(
    table: PriceTable,
    model: str,
    moment: datetime,
    tier: str,
    context: str,
    variant: str,
    part: str,
) -> Decimal | None:
    price = table.price(model, moment, tier=tier, variant=variant)
    rates = price and (price.long if context == "long" and price.long_above else price.short)
    rate = rates.get(_COUNTED.get(part, part)) if rates else None
    return None if rate is None else to_usd(rate[0])

"""Where the prices of a model come from, row by row, for a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from costtrace.pricing.catalogue import Catalogue, Limits, Model, Period, RateRow
from costtrace.pricing.names import Resolution

_UNITS = {
    "characters": "million characters",
    "audio_minutes": "minute",
    "video_seconds": "second",
    "image_each": "image",
}


@dataclass(frozen=True, slots=True)
class ExplainedPrice:
    """One number of the price list, with when and why it holds."""

    part: str
    usd: Decimal
    unit: str
    """What the price is for: `million tokens`, `minute` ..."""
    tier: str
    context: str
    since: date | None
    until: date | None
    variant: str
    sources: tuple[str, ...]
    standing: str
    """`agreed` (by two sources or more), `single`, `derived` (by a published ratio), `contested` or
    `user`."""
    note: str
    """For a contested number, who has another one and why this was kept."""


@dataclass(frozen=True, slots=True)
class Multiplier:
    """What every token price is multiplied with, where a call runs in such a place."""

    name: str
    factor: Decimal
    since: date | None
    until: date | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a table knows of a name; `model` is None, and `reason` says why, without a price."""

    name: str
    model: str | None
    rule: str
    reason: str
    provider: str = ""
    kind: str = ""
    status: str = ""
    released: str = ""
    shutdown: str = ""
    aliases: tuple[str, ...] = ()
    limits: Limits | None = None
    long_above: int | None = None
    """The threshold of the latest period."""
    prices: tuple[ExplainedPrice, ...] = ()
    multipliers: tuple[Multiplier, ...] = ()
    tools: Mapping[str, Decimal] | None = None
    """USD per thousand calls."""
    notes: tuple[str, ...] = ()


def explain(
    name: str, found: Resolution | None, model: Model | None, catalogue: Catalogue
) -> Explanation:
    """Return what is known of `name`, which was `found` to mean `model`."""
    if found is None or model is None:
        return Explanation(name, None, "", _reason(name, catalogue))
    return Explanation(
        name=name,
        model=model.id,
        rule=found.rule,
        reason="",
        provider=model.provider,
        kind=model.kind,
        status=model.status,
        released=model.released,
        shutdown=model.shutdown,
        aliases=model.aliases,
        limits=model.limits,
        long_above=model.periods[-1].long_above,
        prices=tuple(_prices(model, catalogue)),
        multipliers=tuple(
            Multiplier(each, factor, period.since, period.until)
            for period in model.periods
            for each, factor in period.multipliers.items()
        ),
        tools={**catalogue.tools(model.provider), **model.tools},
        notes=model.notes,
    )


def _reason(name: str, catalogue: Catalogue) -> str:
    known = catalogue.unpriced.get(name)
    if known is not None:
        return known
    if "/" in name and ":" in name.rpartition("/")[2]:
        return "a gateway's suffix changes the price, and this one is not listed"
    return "no listed model, alias or known spelling of one"


def _prices(model: Model, catalogue: Catalogue) -> Iterator[ExplainedPrice]:
    for period in model.periods:
        for row in period.rows:
            for part, usd in row.prices.items():
                yield _explained(part, usd, row, period, catalogue)


def _explained(
    part: str, usd: Decimal, row: RateRow, period: Period, catalogue: Catalogue
) -> ExplainedPrice:
    keys = row.sources_of(part)
    return ExplainedPrice(
        part=part,
        usd=usd,
        unit=_UNITS.get(part, "million tokens"),
        tier=row.tier,
        context=row.context,
        since=row.since or period.since,
        until=row.until or period.until,
        variant=row.variant,
        sources=tuple(catalogue.sources.get(key, key) for key in keys),
        standing=_standing(part, row, keys, catalogue),
        note=row.contested.get(part, ""),
    )


def _standing(part: str, row: RateRow, keys: tuple[str, ...], catalogue: Catalogue) -> str:
    if part in row.contested:
        return "contested"
    if not any(key in catalogue.sources for key in keys):
        return "user"
    if all(key == "derived" or key.endswith("-rule") for key in keys):
        return "derived"
    return "agreed" if len(keys) > 1 else "single"

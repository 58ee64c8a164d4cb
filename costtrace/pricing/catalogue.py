"""The price list as dated rows: what `prices.json` holds, read as it is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

_PRICES_JSON = os.path.join(os.path.dirname(__file__), "prices.json")
_ROW_WORDS = frozenset({"tier", "context", "from", "until", "variant", "src", "contested"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may hold, in tokens; None where it is not known."""

    context_window: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RateRow:
    """The prices of one tier and context, in USD per unit, with where each was read."""

    tier: str
    prices: Mapping[str, Decimal]
    context: str = "short"
    since: date | None = None
    until: date | None = None
    variant: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Part of the price, several joined by `+`, or `*` for the others -> keys of the sources."""
    contested: Mapping[str, str] = field(default_factory=dict)
    """Part of the price -> who contradicts it, and why this number was kept."""

    def holds_on(self, day: date | None) -> bool:
        """Tell whether the row holds on `day`; None is before every date."""
        return _holds(self.since, self.until, day)

    def sources_of(self, part: str) -> tuple[str, ...]:
        """Return the keys of the sources that give the price of `part`."""
        for parts, keys in self.sources.items():
            if part in parts.split("+"):
                return tuple(keys.split())
        return tuple(self.sources.get("*", "").split())


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time between two price changes, `since` inclusive, `until` exclusive (UTC)."""

    rows: tuple[RateRow, ...]
    since: date | None = None
    until: date | None = None
    long_above: int | None = None
    """More input tokens than this make a request long: all of it takes the long row."""
    multipliers: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the price list."""

    id: str
    provider: str
    periods: tuple[Period, ...]
    kind: str = ""
    status: str = ""
    released: str = ""
    shutdown: str = ""
    limits: Limits = Limits()
    tools: Mapping[str, Decimal] = field(default_factory=dict)
    """What differs from the provider's tool fees."""
    notes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    is_user: bool = False
    """True where a user gave the price: it holds for every date, context and region."""

    def period_on(self, day: date | None) -> Period | None:
        """Return the period of `day`; a day before all of them (or None) takes the first."""
        first = self.periods[0]
        if day is None or (first.since is not None and day < first.since):
            return first
        return next((p for p in self.periods if _holds(p.since, p.until, day)), None)

    def change_days(self) -> list[date]:
        """Return the days on which any price of this model starts or ends, in order."""
        days = {day for period in self.periods for day in (period.since, period.until)}
        for period in self.periods:
            days |= {day for row in period.rows for day in (row.since, row.until)}
        return sorted(day for day in days if day is not None)


class Catalogue:
    """The bundled list; a model's rows are read when it is first asked for. Immutable."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._read: dict[str, Model] = {}
        self.as_of = date.fromisoformat(data["as_of"])
        self.unpriced: Mapping[str, str] = data["unpriced"]
        self.sources: Mapping[str, str] = data["sources"]
        self.not_in_usage: Mapping[str, str] = data["not_in_usage"]
        self.gov_factor: Decimal = data["multipliers"]["cloud_gov"]["factor"]

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Every listed name -> the id of its model."""
        names = {model_id: model_id for model_id in self._data["models"]}
        for model_id, raw in self._data["models"].items():
            for alias in raw.get("aliases", ()):
                names[alias] = model_id
        return names

    def model(self, model_id: str) -> Model:
        """Return a listed model by its id."""
        model = self._read.get(model_id)
        if model is None:
            model = self._read[model_id] = _model(model_id, self._data["models"][model_id])
        return model

    def model_ids(self, provider: str | None = None) -> tuple[str, ...]:
        """Return the ids of all models, or of one provider's, newest first as listed."""
        models = self._data["models"]
        return tuple(i for i in models if provider is None or models[i]["provider"] == provider)

    def tools(self, provider: str) -> Mapping[str, Decimal]:
        """Return a provider's tool fees in USD per thousand calls; `""` takes the dearest."""
        listed = self._data["tools"]
        if provider in listed:
            return _numbers(listed[provider])
        dearest: dict[str, Decimal] = {}
        for fees in listed.values():
            for tool, fee in _numbers(fees).items():
                dearest[tool] = max(fee, dearest.get(tool, fee))
        return dearest


@lru_cache(maxsize=1)
def bundled_catalogue() -> Catalogue:
    """Read the list that comes with the package, once."""
    with open(_PRICES_JSON, encoding="utf-8") as file:
        return Catalogue(json.load(file, parse_float=Decimal))


def _holds(since: date | None, until: date | None, day: date | None) -> bool:
    if day is None:
        return since is None
    return (since is None or since <= day) and (until is None or day < until)


def _model(model_id: str, raw: Mapping[str, Any]) -> Model:
    return Model(
        id=model_id,
        provider=raw["provider"],
        periods=tuple(_period(period) for period in raw["periods"]),
        kind=raw["kind"],
        status=raw["status"],
        released=raw.get("released", ""),
        shutdown=raw.get("shutdown", ""),
        limits=Limits(raw.get("context_window"), raw.get("max_input"), raw.get("max_output")),
        tools=_numbers(raw.get("tools", {})),
        notes=tuple(raw.get("notes", ())),
        aliases=tuple(raw.get("aliases", ())),
    )


def _period(raw: Mapping[str, Any]) -> Period:
    return Period(
        rows=tuple(_row(row) for row in raw["rates"]),
        since=_day(raw.get("from")),
        until=_day(raw.get("until")),
        long_above=raw.get("long_above"),
        multipliers=_numbers(raw.get("multipliers", {})),
    )


def _row(raw: Mapping[str, Any]) -> RateRow:
    sources = raw["src"]
    return RateRow(
        tier=raw["tier"],
        prices={part: Decimal(usd) for part, usd in raw.items() if part not in _ROW_WORDS},
        context=raw.get("context", "short"),
        since=_day(raw.get("from")),
        until=_day(raw.get("until")),
        variant=raw.get("variant", ""),
        sources={"*": sources} if isinstance(sources, str) else sources,
        contested=raw.get("contested", {}),
    )


def _numbers(raw: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in raw.items() if name != "src"}


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)

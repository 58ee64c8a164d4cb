"""What changed between two ledgers, per call: tokens, the models used, their prices.

Costs are split so that the parts sum to the whole exactly. Every call of both ledgers is priced
anew by one price table as of one moment: what differs then is tokens and models; what is left of
the change of the actual cost is prices. Within the constant prices, each model's part of the calls
and its cost per call are moved one after the other and averaged over both orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import TypeAlias

from costtrace.entry import CostEntry
from costtrace.money import to_pico
from costtrace.pricing import PriceTable, cost

Key: TypeAlias = Callable[[CostEntry], str]
ZERO = Fraction(0)


@dataclass(slots=True)
class Calls:
    """The calls of one group in one ledger; money is picodollars."""

    entries: list[CostEntry] = field(default_factory=list)

    @property
    def tokens_per_call(self) -> Fraction:
        """Input and output tokens of a call, on the average."""
        return _mean([entry.usage.total_tokens for entry in self.entries])

    @property
    def cost_per_call(self) -> Fraction | None:
        """What a call did cost, on the average; None where that is not known of all of them."""
        costs = [entry.cost_usd for entry in self.entries]
        known = [to_pico(one) for one in costs if one is not None]
        return _mean(known) if len(known) == len(costs) else None

    def by_model(self) -> dict[str, list[CostEntry]]:
        """Return the calls of each model."""
        found: dict[str, list[CostEntry]] = {}
        for entry in self.entries:
            found.setdefault(entry.model, []).append(entry)
        return found


@dataclass(frozen=True, slots=True)
class Drift:
    """How one group changed; amounts are picodollars per call."""

    key: str
    before: Calls
    after: Calls
    by_tokens: Fraction | None
    """The change that more or fewer tokens make; None where it cannot be told."""
    by_models: Fraction | None
    by_prices: Fraction | None

    @property
    def is_in_both(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.before.entries and self.after.entries)

    @property
    def token_growth(self) -> Fraction | None:
        """The growth of the tokens per call: 0.2 for 20% more; None where none were before."""
        before = self.before.tokens_per_call
        if not self.is_in_both or not before:
            return None
        return self.after.tokens_per_call / before - 1


def drifts(
    before: Iterable[CostEntry],
    after: Iterable[CostEntry],
    key: Key,
    prices: PriceTable,
    at: datetime,
) -> list[Drift]:
    """Return the drift of each group, in order of its name.

    Corrections of other entries and calls that failed before any work are no calls to compare.
    """
    groups: dict[str, tuple[Calls, Calls]] = {}
    for side, entries in enumerate((before, after)):
        for entry in entries:
            if entry.adjusts is None and entry.status != "error":
                groups.setdefault(key(entry), (Calls(), Calls()))[side].entries.append(entry)
    pricer = _Pricer(prices, at)
    return [_drift(name, *groups[name], pricer) for name in sorted(groups)]


def _drift(name: str, before: Calls, after: Calls, pricer: _Pricer) -> Drift:
    was, now = before.cost_per_call, after.cost_per_call
    parts = pricer.parts(before, after) if before.entries and after.entries else None
    if parts is None or was is None or now is None:
        return Drift(name, before, after, None, None, None)
    tokens, models = parts
    return Drift(name, before, after, tokens, models, now - was - tokens - models)


class _Pricer:
    """Prices calls by one table as of one moment, as calls of any model."""

    def __init__(self, prices: PriceTable, at: datetime) -> None:
        self._prices = prices
        self._at = at

    def parts(self, before: Calls, after: Calls) -> tuple[Fraction, Fraction] | None:
        """Return the change that tokens and that models make, at constant prices."""
        old, new = before.by_model(), after.by_model()
        tokens = models = ZERO
        for model in {**old, **new}:
            share_old = Fraction(len(old.get(model, ())), len(before.entries))
            share_new = Fraction(len(new.get(model, ())), len(after.entries))
            # a model of one side only: as if the other side's calls had gone to it
            cost_old = self._mean(old.get(model, before.entries), model)
            cost_new = self._mean(new.get(model, after.entries), model)
            if cost_old is None or cost_new is None:
                return None
            tokens += (share_old + share_new) / 2 * (cost_new - cost_old)
            models += (cost_old + cost_new) / 2 * (share_new - share_old)
        return tokens, models

    def _mean(self, entries: list[CostEntry], model: str) -> Fraction | None:
        costs = [self._cost(entry, model) for entry in entries]
        known = [one for one in costs if one is not None]
        return _mean(known) if len(known) == len(costs) else None

    def _cost(self, entry: CostEntry, model: str) -> int | None:
        same = entry.model == model
        price = self._prices.price(
            model,
            self._at,
            provider=(entry.provider or None) if same else None,
            tier=entry.service_tier if same else "standard",
            input_tokens=entry.usage.input_tokens,
            region=entry.region if same else "",
            operation=entry.operation if same else "",
        )
        return cost(entry.usage, price)


def _mean(numbers: list[int]) -> Fraction:
    return Fraction(sum(numbers), len(numbers)) if numbers else ZERO

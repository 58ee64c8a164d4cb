"""Advice from a ledger: what would have cost less, computed from recorded usage and list prices.

Nothing here guesses. Each line says what it was computed from, and where it assumes something that
usage cannot tell (that answers stay good, that nobody waits), it says "if" or "up to".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from costtrace.accounting.histories import History, histories
from costtrace.accounting.savings import (
    Saving,
    by_batch,
    by_caching,
    by_max_tokens,
    by_other_models,
    by_shorter_history,
)
from costtrace.instant import to_us
from costtrace.money import to_usd
from costtrace.pricing import PriceTable
from costtrace.stores.base import Store

AdviceKind: TypeAlias = Literal["caching", "batch", "model", "max_tokens", "history"]
_WORTH_SAYING = 100
"""A saving below one part in so many of what the calls cost is not mentioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing that would have cost less; `str()` is what to do and how that was computed.

    Several of them rarely add up: a batch at another model saves less than the two alone.
    """

    kind: AdviceKind
    function_name: str
    model: str
    text: str
    """What to do, and what it comes to."""
    how: str
    """How that was computed, and what was assumed."""
    saving_usd: Decimal | None
    """What it would have saved at most, US dollars; None where it saves no money itself."""
    freed_usd: Decimal | None = None
    """What would have been reserved less at most, over all calls, US dollars."""
    alternative: str | None = None
    """The other model."""
    calls: int
    """How many entries it rests on: those of `function_name` and `model` between two times."""
    cost_usd: Decimal
    """What those cost, US dollars."""
    first: datetime
    last: datetime

    def __str__(self) -> str:
        return f"{self.text}\n    {self.how}"


def advise(
    source: Any, since: datetime | None = None, until: datetime | None = None
) -> list[Advice]:
    """Return what would have cost less, the largest saving first; nothing if nothing is to say.

    `source` is a `CostLedger` or a store. It looks at the latest 100,000 entries (from `since`
    on, before `until`), for each function and model: prompt caching, batches, cheaper models of
    the same generation, shorter histories, and reservations that are far above what calls cost.
    Alternatives are priced at today's list prices, at the usage that was recorded.
    """
    store: Store = getattr(source, "store", source)
    if not isinstance(store, Store):
        raise TypeError(f"advice comes from a CostLedger or a store, not {type(source).__name__}")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None:
            to_us(moment, name)
    prices = getattr(source, "prices", None) or PriceTable.bundled()
    now = source.now() if hasattr(source, "now") else datetime.now(timezone.utc)
    found = [
        advice
        for history in histories(store, prices, since, until)
        for advice in _on(history, prices, now)
    ]
    return sorted(found, key=lambda one: (one.saving_usd or 0, one.freed_usd or 0), reverse=True)


_Rule: TypeAlias = "Callable[[History, PriceTable, datetime], Iterator[Saving]]"
_RULES: tuple[tuple[AdviceKind, _Rule], ...] = (
    ("caching", by_caching),
    ("batch", by_batch),
    ("model", by_other_models),
    ("history", by_shorter_history),
    ("max_tokens", by_max_tokens),
)


def _on(history: History, prices: PriceTable, now: datetime) -> Iterator[Advice]:
    for kind, rule in _RULES:
        for saving in rule(history, prices, now):
            if saving.pico is None or saving.pico * _WORTH_SAYING >= history.cost_pico > 0:
                yield _worded(kind, history, saving)


def _worded(kind: AdviceKind, history: History, saving: Saving) -> Advice:
    return Advice(
        kind=kind,
        function_name=history.function_name,
        model=history.model,
        text=f"{history.function_name}, {history.model}: {saving.text}",
        how=saving.how,
        saving_usd=None if saving.pico is None else to_usd(saving.pico),
        freed_usd=None if saving.freed_pico is None else to_usd(saving.freed_pico),
        alternative=saving.alternative,
        calls=len(history.calls),
        cost_usd=history.cost_usd,
        first=history.first,
        last=history.last,
    )

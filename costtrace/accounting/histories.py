"""What advice rests on: the calls of each function with each model, as they were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice, pairwise
from typing import NamedTuple

from costtrace.entry import CostEntry
from costtrace.instant import Microseconds, from_us, to_us
from costtrace.money import Picodollars, to_pico, to_usd
from costtrace.pricing import Price, PriceTable
from costtrace.stores.base import Query, Store
from costtrace.usage import Usage

MOST_ENTRIES = 100_000
"""The latest entries that are looked at: more would tell little, and take long."""
_TEXT = ("", "chat", "completions", "responses", "messages")
"""Operations that turn tokens into tokens; `` is what was recorded by hand."""


class PastCall(NamedTuple):
    """One answered call with known usage and cost."""

    us: Microseconds
    user_id: str
    usage: Usage
    cost_pico: Picodollars
    reserved_pico: Picodollars | None
    is_streamed: bool


@dataclass(slots=True)
class History:
    """The calls of one function with one model, in one tier and place; the earliest first."""

    function_name: str
    model: str
    """The listed model that was called, whatever its name was spelled like."""
    provider: str
    tier: str
    region: str
    operation: str
    calls: list[PastCall] = field(default_factory=list)

    @property
    def cost_pico(self) -> Picodollars:
        """What they cost together."""
        return sum(call.cost_pico for call in self.calls)

    @property
    def cost_usd(self) -> Decimal:
        """What they cost together, US dollars."""
        return to_usd(self.cost_pico)

    @property
    def first(self) -> datetime:
        """When the earliest was made."""
        return from_us(self.calls[0].us)

    @property
    def last(self) -> datetime:
        """When the latest was made."""
        return from_us(self.calls[-1].us)

    def price(
        self,
        prices: PriceTable,
        now: datetime,
        *,
        model: str | None = None,
        tier: str | None = None,
    ) -> Price | None:
        """Return today's list price for calls like these, or with another model or tier."""
        return prices.price(
            model or self.model,
            now,
            provider=self.provider,
            tier=tier or self.tier,
            region=self.region,
            operation=self.operation,
        )


def histories(
    store: Store, prices: PriceTable, since: datetime | None, until: datetime | None
) -> list[History]:
    """Return the history of each function with each model, of the latest 100,000 entries.

    Calls without an answer, without reported usage or without a price are left out.
    """
    latest = store.entries(Query(since=since, until=until), newest_first=True)
    found: dict[tuple[str, ...], History] = {}
    for entry in islice(latest, MOST_ENTRIES):
        if _counts(entry):
            _add(found, entry, prices)
    for history in found.values():
        history.calls.sort(key=lambda call: call.us)
    return list(found.values())


def soon_after(calls: Iterable[PastCall], longest_gap_us: int) -> int:
    """Return how many calls came within so long after the one before, `calls` being in order."""
    times = [call.us for call in calls]
    return sum(later - earlier <= longest_gap_us for earlier, later in pairwise(times))


def _counts(entry: CostEntry) -> bool:
    return (
        entry.operation in _TEXT
        and entry.adjusts is None
        and entry.status != "error"
        and entry.grade in ("reported", "estimated")
        and entry.cost_usd is not None
        and entry.usage.total_tokens > 0
    )


def _add(found: dict[tuple[str, ...], History], entry: CostEntry, prices: PriceTable) -> None:
    model = prices.find(entry.model)
    if model is None or entry.cost_usd is None:
        return
    tier = entry.service_tier or "standard"
    key = (entry.function_name, model.id, tier, entry.region, entry.operation)
    history = found.get(key)
    if history is None:
        history = found[key] = History(
            entry.function_name, model.id, model.provider, tier, entry.region, entry.operation
        )
    reserved = entry.reserved_usd
    history.calls.append(
        PastCall(
            us=to_us(entry.timestamp),
            user_id=entry.user_id,
            usage=entry.usage,
            cost_pico=to_pico(entry.cost_usd),
            reserved_pico=None if reserved is None else to_pico(reserved),
            is_streamed=entry.streamed,
        )
    )

"""Tightness: how much of what was reserved for calls they did cost, for each model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from costtrace.entry import CostEntry
from costtrace.money import Picodollars, format_usd, to_usd
from costtrace.stores.base import Query, Store
from costtrace.stores.rows import exact_pico

LATEST = 2_000
"""Entries that a report looks at, so that it stays quick however long the ledger is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tightness:
    """The bounds of one model's calls beside what they came to; amounts are US dollars."""

    model: str
    calls: int
    reserved_usd: Decimal
    cost_usd: Decimal
    overruns: int
    """Calls that cost more than was reserved for them."""
    overrun_usd: Decimal
    largest_overrun_usd: Decimal

    @property
    def ratio(self) -> float | None:
        """How many times their cost was reserved; None where they cost nothing."""
        return float(self.reserved_usd / self.cost_usd) if self.cost_usd else None


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    reserved: Picodollars = 0
    cost: Picodollars = 0
    overruns: int = 0
    over: Picodollars = 0
    largest: Picodollars = 0

    def add(self, reserved: Picodollars, cost: Picodollars) -> None:
        self.calls += 1
        self.reserved += reserved
        self.cost += cost
        if cost > reserved:
            self.overruns += 1
            self.over += cost - reserved
            self.largest = max(self.largest, cost - reserved)


def tightness_of(entries: Iterable[CostEntry]) -> list[Tightness]:
    """Return one row for each model, the one with the most reserved first."""
    models: dict[str, _Sums] = {}
    for entry in entries:
        if entry.reserved_usd is None or entry.grade != "reported" or entry.adjusts is not None:
            continue
        reserved, cost = exact_pico(entry.reserved_usd), exact_pico(entry.cost_usd)
        if entry.status != "error" and reserved is not None and cost is not None:
            models.setdefault(entry.model, _Sums()).add(reserved, cost)
    rows = sorted(models.items(), key=lambda row: (-row[1].reserved, row[0]))
    return [
        Tightness(
            model=model,
            calls=sums.calls,
            reserved_usd=to_usd(sums.reserved),
            cost_usd=to_usd(sums.cost),
            overruns=sums.overruns,
            overrun_usd=to_usd(sums.over),
            largest_overrun_usd=to_usd(sums.largest),
        )
        for model, sums in rows
    ]


def tightness_notes(store: Store, query: Query) -> list[str]:
    """Return what a report says of the latest calls' bounds; nothing where nothing was reserved."""
    rows = tightness_of(islice(store.entries(query, newest_first=True), LATEST))
    notes = []
    held = [f"{row.model} {row.ratio:.1f}x" for row in rows[:4] if row.ratio is not None]
    if held:
        notes.append(f"Reserved before the call, as a multiple of its cost: {', '.join(held)}.")
    overruns = sum(row.overruns for row in rows)
    if overruns:
        total = sum((row.overrun_usd for row in rows), Decimal(0))
        largest = max(row.largest_overrun_usd for row in rows)
        notes.append(
            f"{overruns:,} calls cost more than was reserved for them: {format_usd(total)} in all, "
            f"{format_usd(largest)} at most."
        )
    return notes

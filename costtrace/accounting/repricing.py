"""What a ledger would have cost at other prices; history itself is never rewritten.

An entry keeps its usage, its cost and the id of its price. Repricing computes the cost of that
usage anew and, if asked, enters the difference as a line of its own, which names the call that it
corrects and stands at the call's time: totals, balances and windows follow, and both are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Literal, TypeAlias

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.recording import price_of
from costtrace.entry import CostEntry
from costtrace.money import exact_sum, to_usd
from costtrace.pricing import Price, PriceTable, cost
from costtrace.usage import Usage

Cause: TypeAlias = Literal["other rates", "now priced", "no price any more"]


@dataclass(frozen=True, slots=True)
class Change:
    """One call that costs something else at the new prices; amounts are US dollars."""

    entry: CostEntry
    before_usd: Decimal | None
    """The cost with all its corrections so far; None where no price was known."""
    after_usd: Decimal | None
    price_id: str | None
    cause: Cause

    @property
    def difference_usd(self) -> Decimal:
        """What is to be added to the ledger; 0 where the new prices know none."""
        if self.after_usd is None:
            return Decimal(0)
        before = self.before_usd or Decimal(0)
        return exact_sum((self.after_usd, before.copy_negate()))


@dataclass(frozen=True, slots=True)
class Repricing:
    """All calls of a ledger at other prices."""

    changes: tuple[Change, ...]
    calls: int
    unchanged: int
    not_recomputed: int
    """Calls whose cost is not their usage at one price: assumed, by hand, or of several models."""

    @property
    def difference_usd(self) -> Decimal:
        """The sum of all differences."""
        return exact_sum(change.difference_usd for change in self.changes)


def reprice(
    ledger: CostLedger, prices: PriceTable, *, as_of: date | datetime | None = None
) -> Repricing:
    """Compute every call's cost at `prices`: those of its own time, or those of `as_of`."""
    at = _instant(as_of)
    corrected = _corrections(ledger.entries)
    changes: list[Change] = []
    calls = skipped = 0
    for entry in ledger.entries:
        if entry.adjusts is not None:
            continue
        calls += 1
        if not _can_be_recomputed(entry, ledger.prices):
            skipped += 1
            continue
        price = price_of(prices, entry if at is None else replace(entry, timestamp=at))
        change = _change(entry, price, corrected.get(entry.call_id, Decimal(0)))
        if change is not None:
            changes.append(change)
    return Repricing(tuple(changes), calls, calls - skipped - len(changes), skipped)


def write_adjustments(ledger: CostLedger, repricing: Repricing) -> int:
    """Enter the differences as lines of their own; return how many. Again, it adds nothing."""
    written = 0
    for entry in _adjustments(repricing.changes):
        ledger.enter(entry, ledger.postings.limits.owners(entry.user_id, ()))
        written += 1
    return written


def _adjustments(changes: Iterable[Change]) -> Iterator[CostEntry]:
    for change in changes:
        if change.after_usd is None or not change.difference_usd:
            continue
        entry = change.entry
        yield replace(
            entry,
            usage=Usage(),
            cost_usd=change.difference_usd,
            call_id=f"{entry.call_id}+price:{change.price_id}:{change.before_usd}",
            adjusts=entry.call_id,
            reserved_usd=None,
            duration_s=None,
            gateway_cost_usd=None,
            price_id=change.price_id,
            grade="reported" if entry.grade == "unpriced" else entry.grade,
        )


def _corrections(entries: Iterable[CostEntry]) -> dict[str, Decimal]:
    """Return what earlier corrections have added to each call."""
    added: dict[str, Decimal] = {}
    for entry in entries:
        if entry.adjusts is not None and entry.cost_usd is not None and _is_price_change(entry):
            before = added.get(entry.adjusts, Decimal(0))
            added[entry.adjusts] = exact_sum((before, entry.cost_usd))
    return added


def _is_price_change(entry: CostEntry) -> bool:
    return entry.call_id.startswith(f"{entry.adjusts}+price:")


def _can_be_recomputed(entry: CostEntry, prices: PriceTable) -> bool:
    """Tell whether an entry's cost is its usage at its price, and nothing else."""
    if entry.grade == "unpriced":
        return True
    if entry.grade == "assumed" or entry.price_id is None or entry.cost_usd is None:
        return False
    price = price_of(prices, entry)
    if price is None or price.id != entry.price_id:
        return True  # its rates have changed since: only the usage is left to go by
    amount = cost(entry.usage, price)
    return amount is not None and to_usd(amount) == entry.cost_usd


def _change(entry: CostEntry, price: Price | None, added: Decimal) -> Change | None:
    amount = cost(entry.usage, price)
    after = None if amount is None else to_usd(amount)
    before = entry.cost_usd
    if added:
        before = exact_sum((before or Decimal(0), added))
    if after == before:
        return None
    cause: Cause = "other rates"
    if before is None:
        cause = "now priced"
    elif after is None:
        cause = "no price any more"
    return Change(entry, before, after, None if price is None else price.id, cause)


def _instant(as_of: date | datetime | None) -> datetime | None:
    if as_of is None or isinstance(as_of, datetime):
        return as_of
    return datetime.combine(as_of, time(), timezone.utc)

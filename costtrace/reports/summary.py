"""What a report shows, as data: one snapshot of a ledger's totals, grouped in every way at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Context, Decimal
from typing import TypeAlias

from costtrace.entry import Total

Totals: TypeAlias = Callable[[Sequence[str]], Iterable[Total]]
"""Asks a store for the totals of a grouping; the keys are tuples, one name for each dimension."""

_EXACT = Context(prec=60)  # the caller's own decimal context may round
_ALWAYS = ("function_name", "model", "user_id", "grade")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """Where one budget stands; amounts are US dollars."""

    user_id: str | None
    """None for the ledger's own budget."""
    window: str | None
    limit_usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal = Decimal(0)
    resets_at: datetime | None = None

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left, never below zero; None without a limit."""
        if self.limit_usd is None:
            return None
        used = _EXACT.add(self.spent_usd, self.reserved_usd)
        return max(_EXACT.subtract(self.limit_usd, used), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All that a report shows. Each grouping sums to `total` exactly and has the dearest first."""

    created_at: datetime
    source: str = "memory"
    """Which ledger: the name of its file, or `memory`."""
    total: Total
    by_function: tuple[Total, ...] = ()
    by_model: tuple[Total, ...] = ()
    by_user: tuple[Total, ...] = ()
    by_grade: tuple[Total, ...] = ()
    by_day: tuple[Total, ...] = ()
    """In the order of the days; empty unless asked for."""
    by_path: tuple[Total, ...] = ()
    """By the functions around the calls, joined by ` > `; empty unless asked for."""
    budgets: tuple[BudgetRow, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    """What else was asked for, such as `user_id`."""
    prices_date: date | None = None
    notes: tuple[str, ...] = ()


def summarize(
    totals: Totals,
    *,
    created_at: datetime,
    source: str = "memory",
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Mapping[str, str] | None = None,
    budgets: Iterable[BudgetRow] = (),
    prices_date: date | None = None,
    notes: Iterable[str] = (),
    has_days: bool = False,
    has_paths: bool = False,
) -> Summary:
    """Return the summary of the entries that `totals` knows.

    It asks once, so that all groupings show the same moment however busy the ledger is. `totals`
    has applied `since`, `until` and `filters` already; they are only shown.
    """
    extra = ("day",) * has_days + ("call_path",) * has_paths
    rows = [(names_of(total), total) for total in totals((*_ALWAYS, *extra))]
    return Summary(
        created_at=created_at,
        source=source,
        total=added("", (total for _, total in rows)),
        by_function=_grouped(rows, 0),
        by_model=_grouped(rows, 1),
        by_user=_grouped(rows, 2),
        by_grade=_grouped(rows, 3),
        by_day=tuple(sorted(_grouped(rows, 4), key=names_of)) if has_days else (),
        by_path=_grouped([(_with_path(key), total) for key, total in rows], -1) * has_paths,
        budgets=tuple(budgets),
        since=since,
        until=until,
        filters=dict(filters or {}),
        prices_date=prices_date,
        notes=tuple(notes),
    )


def names_of(total: Total) -> tuple[str, ...]:
    """Return the names in a total's key, also when it is a single one."""
    return (total.key,) if isinstance(total.key, str) else total.key


def added(key: str, totals: Iterable[Total]) -> Total:
    """Return the sum of some totals, exactly."""
    calls = prompt_tokens = completion_tokens = unpriced_calls = 0
    cost_usd = Decimal(0)
    for total in totals:
        calls += total.calls
        prompt_tokens += total.prompt_tokens
        completion_tokens += total.completion_tokens
        unpriced_calls += total.unpriced_calls
        cost_usd = _EXACT.add(cost_usd, total.cost_usd)
    return Total(
        key=key,
        calls=calls,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost_usd,
        unpriced_calls=unpriced_calls,
    )


def has_known_cost(total: Total) -> bool:
    """Tell whether at least one of its calls has a price, so that its cost says something."""
    return bool(total.cost_usd) or total.calls > total.unpriced_calls or not total.unpriced_calls


def _grouped(rows: Sequence[tuple[tuple[str, ...], Total]], index: int) -> tuple[Total, ...]:
    groups: dict[str, list[Total]] = {}
    for names, total in rows:
        groups.setdefault(names[index], []).append(total)
    sums = [added(key, groups[key]) for key in sorted(groups)]
    return tuple(sorted(sums, key=lambda one: (one.cost_usd, one.unpriced_calls), reverse=True))


def _with_path(names: tuple[str, ...]) -> tuple[str, ...]:
    """Put the function in the place of an empty path: recorded by hand, it has no other."""
    return names if names[-1] else (*names[:-1], names[0])

"""What the readable formats share: the sections of a report and the words in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction

from costtrace.entry import Total
from costtrace.money import format_usd
from costtrace.reports.stacks import function_costs
from costtrace.reports.summary import BudgetRow, Summary, added, has_known_cost, names_of
from costtrace.reports.table import Column

MOST_ROWS = 20
NO_CALLS, NO_SUCH_CALLS = "No calls yet.", "No such calls."
_MOST_NAMES = 5
_WORDING = {
    "reported": "from reported usage",
    "estimated": "estimated",
    "assumed": "assumed as the worst case",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a report."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None
    shares: tuple[float, ...] = ()
    """From 0 to 1, one for each row, where a bar says more than a number."""


def sections(summary: Summary) -> list[Section]:
    """Return the tables of a report; groups beyond the dearest 20 are summed up in one row."""
    found = [budget_section(summary.budgets)] if summary.budgets else []
    if is_empty(summary):
        return found
    total = summary.total
    groups = [
        _group("Function", total, _dearest(summary.by_function)),
        _group("Model", total, _dearest(summary.by_model)),
        _group("User", total, _dearest(summary.by_user)),
    ]
    if summary.by_day:
        groups.append(_group("Day (UTC)", total, summary.by_day))
    if summary.by_path:
        groups.append(_stack(summary))
    return groups + found


def budget_section(budgets: Sequence[BudgetRow]) -> Section:
    """Return the table of where budgets stand."""
    names = ("Limit", "Spent", "Reserved", "Remaining", "Used")
    return Section(
        title="Budgets",
        columns=(
            Column("Budget", can_shrink=True),
            Column("Window"),
            *(Column(name, is_number=True) for name in names),
            Column("Resets at"),
        ),
        rows=tuple(_budget_row(one) for one in budgets),
        shares=tuple(_fraction(one.spent_usd, one.limit_usd or Decimal(0)) for one in budgets),
    )


def is_empty(summary: Summary) -> bool:
    """Tell whether there is nothing to report on."""
    return not summary.by_grade


def heading(summary: Summary) -> str:
    """Return the line that says what this report is of."""
    return f"costtrace report of {summary.source}, {moment(summary.created_at)}"


def selection(summary: Summary) -> str:
    """Return which entries were asked for; empty if it was all of them."""
    parts = [f"{name} = {value}" for name, value in summary.filters.items()]
    if summary.since:
        parts.append(f"since {moment(summary.since)}")
    if summary.until:
        parts.append(f"until {moment(summary.until)}")
    return ", ".join(parts)


def remarks(summary: Summary) -> Iterator[str]:
    """Yield the lines below the tables: how exact the cost is, the prices' age, the notes."""
    if is_empty(summary):
        yield NO_SUCH_CALLS if selection(summary) else NO_CALLS
    else:
        yield accuracy(summary)
        if summary.total.unpriced_calls:
            yield unpriced(summary)
    if summary.prices_date:
        yield f"Prices of {summary.prices_date}."
    yield from summary.notes


def accuracy(summary: Summary) -> str:
    """Return how much of the cost is known how well."""
    costs = {names_of(one)[0]: abs(Fraction(one.cost_usd)) for one in summary.by_grade}
    whole = sum(costs.values())
    parts = [
        f"{share(costs[grade], whole)} {'' if place else 'of the cost '}is {words}"
        for place, (grade, words) in enumerate(
            (grade, words) for grade, words in _WORDING.items() if costs.get(grade)
        )
    ]
    if not parts:
        parts = ["Nothing was charged" if has_known_cost(summary.total) else "No cost is known"]
    return f"{', '.join(parts)}."


def unpriced(summary: Summary) -> str:
    """Return how many calls are in no amount, and of which models they were."""
    calls = summary.total.unpriced_calls
    models = [names_of(one)[0] for one in summary.by_model if one.unpriced_calls]
    more = [f"and {len(models) - _MOST_NAMES} more"] if len(models) > _MOST_NAMES else []
    names = ", ".join(models[:_MOST_NAMES] + more)
    return f"{counted(calls, 'call', 'calls')} unpriced, in no amount: {names}."


def counted(number: int, one: str, several: str) -> str:
    """Return a number with its noun, and with what else follows it: `1 call`, `1,200 calls`."""
    return f"{number:,} {one if number == 1 else several}"


def share(part: Fraction | Decimal, whole: Fraction | Decimal | int) -> str:
    """Return a share in percent; only nothing is 0%, and only all of it is 100%."""
    if not whole:
        return "-"
    exact = Fraction(part) / Fraction(whole) * 100
    if 0 < exact < 1:
        return "<1%"
    if 99 < exact < 100:
        return ">99%"
    return f"{round(exact)}%"


def cost_cell(total: Total) -> str:
    """Return a group's known cost; `unpriced` where none of its calls has a price."""
    return _known(total.cost_usd if has_known_cost(total) else None)


def moment(instant: datetime) -> str:
    """Return an instant to the minute; reports speak UTC."""
    return f"{instant.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _known(amount: Decimal | None) -> str:
    return "unpriced" if amount is None else format_usd(amount)


def _dearest(totals: Sequence[Total]) -> Sequence[Total]:
    if len(totals) <= MOST_ROWS:
        return totals
    others = totals[MOST_ROWS - 1 :]
    return [*totals[: MOST_ROWS - 1], added(f"({len(others):,} others)", others)]


def _group(title: str, total: Total, totals: Sequence[Total]) -> Section:
    titles = ["Calls", "Input tokens", "Output tokens", "Cost", "Share"]
    titles += ["Unpriced"] if total.unpriced_calls else []
    columns = (Column(title, can_shrink=True), *(Column(one, is_number=True) for one in titles))
    return Section(
        title=f"By {title[0].lower()}{title[1:]}",
        columns=columns,
        rows=tuple(_row(names_of(one)[0], one, total)[: len(columns)] for one in totals),
        total=_row("Total", total, total)[: len(columns)],
        shares=tuple(_fraction(one.cost_usd, total.cost_usd) for one in totals),
    )


def _row(name: str, one: Total, whole: Total) -> tuple[str, ...]:
    return (
        name,
        f"{one.calls:,}",
        f"{one.prompt_tokens:,}",
        f"{one.completion_tokens:,}",
        cost_cell(one),
        share(one.cost_usd, whole.cost_usd) if has_known_cost(one) else "-",
        f"{one.unpriced_calls:,}" if one.unpriced_calls else "-",
    )


def _stack(summary: Summary) -> Section:
    costs = function_costs(summary.by_path)[:MOST_ROWS]
    names = ("Calls", "Own cost", "With callees", "Share")
    return Section(
        title="By call path",
        columns=(Column("Function", can_shrink=True), *(Column(one, True) for one in names)),
        rows=tuple(
            (
                one.function_name,
                f"{one.calls:,}",
                _known(one.own_usd) if one.own_calls else "-",
                _known(one.inclusive_usd),
                share(one.inclusive_usd or Decimal(0), summary.total.cost_usd),
            )
            for one in costs
        ),
        shares=tuple(
            _fraction(one.inclusive_usd or Decimal(0), summary.total.cost_usd) for one in costs
        ),
    )


def _budget_row(budget: BudgetRow) -> tuple[str, ...]:
    is_limited = budget.limit_usd is not None
    return (
        "(ledger)" if budget.user_id is None else budget.user_id,
        budget.window or "always",
        format_usd(budget.limit_usd) if budget.limit_usd is not None else "no limit",
        format_usd(budget.spent_usd),
        format_usd(budget.reserved_usd),
        format_usd(budget.remaining_usd) if budget.remaining_usd is not None else "-",
        share(budget.spent_usd, budget.limit_usd or 0) if is_limited else "-",
        moment(budget.resets_at) if budget.resets_at else "-",
    )


def _fraction(part: Decimal, whole: Decimal) -> float:
    return min(max(float(Fraction(part) / Fraction(whole)), 0.0), 1.0) if whole else 0.0

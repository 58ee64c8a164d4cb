"""The report as CSV: one row for each group, safe to open in a spreadsheet.

The columns only grow, to the right. A cell of text that a spreadsheet would take for a formula
begins with an apostrophe. A cost that is not known is an empty cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal
from io import StringIO
from typing import TypeAlias

from costtrace.entry import Total
from costtrace.money import exact_text
from costtrace.reports.summary import Summary, has_known_cost, names_of

Cell: TypeAlias = "str | int | Decimal | None"
COLUMNS = (
    "group",
    "key",
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "unpriced_calls",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def render_csv(summary: Summary) -> str:
    """Return all groups of the report; `group` says by what, and is `total` in the first row.

    Every other `group` sums to that row: filter by one of them before adding up.
    """
    return csv_text(_rows(summary), COLUMNS)


def csv_text(rows: Iterable[Iterable[Cell]], columns: Iterable[str]) -> str:
    """Return rows under their titles as CSV (RFC 4180); None is an empty cell.

    Texts are made harmless for spreadsheets; amounts stand in plain digits, all of them.
    """
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _rows(summary: Summary) -> Iterator[tuple[Cell, ...]]:
    yield _row("total", "", summary.total)
    groups = (
        ("function_name", summary.by_function),
        ("model", summary.by_model),
        ("user_id", summary.by_user),
        ("grade", summary.by_grade),
        ("day", summary.by_day),
        ("call_path", summary.by_path),
    )
    for group, totals in groups:
        for total in totals:
            yield _row(group, names_of(total)[0], total)


def _row(group: str, key: str, total: Total) -> tuple[Cell, ...]:
    return (
        group,
        key,
        total.calls,
        total.prompt_tokens,
        total.completion_tokens,
        total.cost_usd if has_known_cost(total) else None,
        total.unpriced_calls,
    )


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_FORMULA) else cell
    return exact_text(cell) if isinstance(cell, Decimal) else str(cell)

"""One table of totals, grouped by what the user named, in every format of a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from costtrace.cli.output import money
from costtrace.entry import Total
from costtrace.reports import Column, csv_text, markdown_table, table
from costtrace.reports.section import cost_cell, share
from costtrace.reports.summary import added, has_known_cost, names_of
from costtrace.reports.table import visible

_TITLES = {
    "function_name": "Function",
    "user_id": "User",
    "call_path": "Call path",
    "day": "Day (UTC)",
    "service_tier": "Tier",
}
_NUMBERS = ("Calls", "Input tokens", "Output tokens", "Cost", "Share", "Unpriced")
_COUNTS = ("calls", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced_calls")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 14px/1.5 system-ui, sans-serif; color-scheme: light dark; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .25rem .6rem; text-align: left; }}
.number {{ text-align: right; }} tfoot td {{ font-weight: 600; }}</style></head>
<body><h1>{title}</h1>
<table>
<thead>{head}</thead>
<tbody>
{body}
</tbody>
<tfoot>{foot}</tfoot>
</table></body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Totals by one or more dimensions, dearest first, of which the first `top` are wanted."""

    by: tuple[str, ...]
    totals: tuple[Total, ...]
    top: int | None
    source: str
    created_at: datetime

    @property
    def shown(self) -> tuple[Total, ...]:
        """The groups to show: the dearest, or in order of time where the first one is the day."""
        dearest = self.totals[: self.top]
        return tuple(sorted(dearest, key=names_of)) if self.by[0] == "day" else dearest

    @property
    def others(self) -> Total | None:
        """The sum of what is not shown."""
        rest = self.totals[len(self.shown) :]
        return added(f"({len(rest):,} others)", rest) if rest else None

    @property
    def whole(self) -> Total:
        """The sum of all groups."""
        return added("Total", self.totals)


def render_grouping(grouping: Grouping, format_: str) -> str:
    """Return the table in one of the formats of a report."""
    if format_ == "json":
        return json.dumps(_document(grouping), indent=2, ensure_ascii=False)
    if format_ == "csv":
        return csv_text(map(_csv_row, grouping.shown), (*grouping.by, *_COUNTS))
    columns, rows, total = _columns(grouping), _rows(grouping), _cells(grouping, grouping.whole)
    if format_ == "markdown":
        return markdown_table([*rows, total], columns)
    if format_ == "html":
        return _page(grouping, columns, rows, total)
    return table(rows, columns, total=total) if rows else "No calls."


def _columns(grouping: Grouping) -> list[Column]:
    names = [_TITLES.get(one, one.removeprefix("tag:").capitalize()) for one in grouping.by]
    numbers = _NUMBERS if grouping.whole.unpriced_calls else _NUMBERS[:-1]
    return [
        *(Column(name, can_shrink=True) for name in names),
        *(Column(name, is_number=True) for name in numbers),
    ]


def _rows(grouping: Grouping) -> list[list[str]]:
    others = [grouping.others] if grouping.others else []
    return [_cells(grouping, total) for total in (*grouping.shown, *others)]


def _cells(grouping: Grouping, total: Total) -> list[str]:
    names = list(names_of(total))
    names += [" "] * (len(grouping.by) - len(names))  # the sums stand under the first name
    cells = [
        *names,
        f"{total.calls:,}",
        f"{total.prompt_tokens:,}",
        f"{total.completion_tokens:,}",
        cost_cell(total),
        share(total.cost_usd, grouping.whole.cost_usd) if has_known_cost(total) else "-",
        f"{total.unpriced_calls:,}" if total.unpriced_calls else "-",
    ]
    return cells if grouping.whole.unpriced_calls else cells[:-1]


def _csv_row(total: Total) -> tuple[Any, ...]:
    cost = total.cost_usd if has_known_cost(total) else None
    counts = (total.calls, total.prompt_tokens, total.completion_tokens)
    return (*names_of(total), *counts, cost, total.unpriced_calls)


def _document(grouping: Grouping) -> dict[str, Any]:
    return {
        "schema": "costtrace.totals",
        "schema_version": 1,
        "created_at": grouping.created_at.isoformat(),
        "source": grouping.source,
        "by": list(grouping.by),
        "currency": "USD",
        "total": _facts(grouping.whole),
        "groups": [
            {**dict(zip(grouping.by, names_of(total), strict=True)), **_facts(total)}
            for total in grouping.shown
        ],
        "others": _facts(grouping.others) if grouping.others else None,
    }


def _facts(total: Total) -> dict[str, Any]:
    return {
        "calls": total.calls,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "cost_usd": money(total.cost_usd) if has_known_cost(total) else None,
        "unpriced_calls": total.unpriced_calls,
    }


def _page(
    grouping: Grouping,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    total: Sequence[str],
) -> str:
    return _PAGE.format(
        title=escape(f"costtrace: {grouping.source} by {', '.join(grouping.by)}"),
        head=_html_row([column.title for column in columns], columns, "th"),
        body="\n".join(_html_row(row, columns, "td") for row in rows),
        foot=_html_row(total, columns, "td"),
    )


def _html_row(cells: Sequence[str], columns: Sequence[Column], tag: str) -> str:
    parts = (
        f"<{tag}{' class=number' * column.is_number}>{escape(visible(cell))}</{tag}>"
        for cell, column in zip(cells, columns, strict=True)
    )
    return f"<tr>{''.join(parts)}</tr>"

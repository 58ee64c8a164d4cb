"""The report as one JSON document.

The schema only grows; what would break a reader gets a new `schema_version`. Money is text, since
JSON's numbers are floats elsewhere; a cost that is not known is null. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from costtrace.entry import Total
from costtrace.money import exact_text
from costtrace.reports.summary import BudgetRow, Summary, has_known_cost, names_of

SCHEMA_VERSION = 1


def render_json(summary: Summary) -> str:
    """Return the report as JSON, all groups of it."""
    return json.dumps(report_document(summary), indent=2, ensure_ascii=False) + "\n"


def report_document(summary: Summary) -> dict[str, Any]:
    """Return the report as plain data: what `render_json` writes."""
    return {
        "schema": "costtrace.report",
        "schema_version": SCHEMA_VERSION,
        "created_at": _time(summary.created_at),
        "source": summary.source,
        "since": _time(summary.since),
        "until": _time(summary.until),
        "filters": dict(summary.filters),
        "currency": "USD",
        "prices_date": str(summary.prices_date) if summary.prices_date else None,
        "total": _facts(summary.total),
        "by_function": _groups(summary.by_function),
        "by_model": _groups(summary.by_model),
        "by_user": _groups(summary.by_user),
        "by_grade": _groups(summary.by_grade),
        "by_day": _groups(summary.by_day),
        "by_path": _groups(summary.by_path),
        "budgets": [_budget(budget) for budget in summary.budgets],
        "notes": list(summary.notes),
    }


def _groups(totals: Iterable[Total]) -> list[dict[str, Any]]:
    return [{"key": names_of(total)[0], **_facts(total)} for total in totals]


def _facts(total: Total) -> dict[str, Any]:
    return {
        "calls": total.calls,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "cost_usd": _money(total.cost_usd) if has_known_cost(total) else None,
        "unpriced_calls": total.unpriced_calls,
    }


def _budget(budget: BudgetRow) -> dict[str, Any]:
    return {
        "user_id": budget.user_id,
        "window": budget.window,
        "limit_usd": _money(budget.limit_usd),
        "spent_usd": _money(budget.spent_usd),
        "reserved_usd": _money(budget.reserved_usd),
        "remaining_usd": _money(budget.remaining_usd),
        "resets_at": _time(budget.resets_at),
    }


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else exact_text(amount)


def _time(instant: datetime | None) -> str | None:
    return instant.astimezone(timezone.utc).isoformat() if instant else None

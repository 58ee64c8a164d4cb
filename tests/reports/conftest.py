"""Two ledgers to report on: one in use, and an empty one."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from report_rows import NOW, entry, totals_of

from costtrace.reports import BudgetRow, Summary, summarize


@pytest.fixture
def summary() -> Summary:
    """Four functions, three models, three users, one model without a price, two budgets."""
    entries = [
        entry("0.9", "answer_question", "search", day=20),
        entry("3.6", "answer_question", model="claude-sonnet-4-5"),
        entry("0.45", "summarize", user_id="bob", grade="estimated"),
        entry("0.05", "summarize", user_id="bob", grade="assumed"),
        entry(None, "experiment", model="new-model", user_id="carol"),
        entry(None, "experiment", model="new-model", user_id="carol"),
    ]
    budgets = [
        BudgetRow(
            user_id="alice",
            window="month",
            limit_usd=Decimal(5),
            spent_usd=Decimal("4.5"),
            reserved_usd=Decimal("0.2"),
            resets_at=datetime(2026, 12, 1, tzinfo=timezone.utc),
        ),
        BudgetRow(user_id=None, window=None, limit_usd=None, spent_usd=Decimal("5")),
    ]
    return summarize(
        totals_of(entries),
        created_at=NOW,
        source="costs.db",
        since=datetime(2026, 11, 1, tzinfo=timezone.utc),
        budgets=budgets,
        prices_date=date(2026, 11, 20),
        notes=["2 calls are charged at their worst case."],
        has_days=True,
        has_paths=True,
    )


@pytest.fixture
def empty() -> Summary:
    """A ledger in which nothing has happened yet."""
    return summarize(totals_of([]), created_at=NOW)

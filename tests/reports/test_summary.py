"""The snapshot behind a report: one question to the store, every grouping exact."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext

import pytest
from report_rows import NOW, entry, totals_of

from costtrace.entry import Total
from costtrace.reports import BudgetRow, Summary, summarize


def test_every_grouping_sums_to_the_total_exactly() -> None:
    """Three hundred random costs: functions, models, users, grades and days add up to the digit."""
    chance = random.Random(5)
    entries = [
        entry(
            None if chance.random() < 0.1 else f"0.{chance.randrange(10**12):012}",
            chance.choice("abc"),
            model=chance.choice("xyz"),
            user_id=chance.choice("uvw"),
            day=chance.randrange(1, 20),
        )
        for _ in range(300)
    ]
    with localcontext(Context(prec=3)):
        summary = summarize(totals_of(entries), created_at=NOW, has_days=True, has_paths=True)

    cost = sum(int(one.cost_usd * 10**12) for one in entries if one.cost_usd)
    assert summary.total.cost_usd * 10**12 == cost
    for groups in (
        summary.by_function,
        summary.by_model,
        summary.by_user,
        summary.by_grade,
        summary.by_day,
        summary.by_path,
    ):
        assert sum(one.cost_usd for one in groups) == summary.total.cost_usd
        assert sum(one.calls for one in groups) == 300
        assert sum(one.unpriced_calls for one in groups) == summary.total.unpriced_calls > 0
        assert sum(one.prompt_tokens for one in groups) == summary.total.prompt_tokens


def test_store_is_asked_once() -> None:
    """All groupings come from one answer, so a call made meanwhile is in all of them or in none."""
    asked: list[tuple[str, ...]] = []
    totals = totals_of([entry("1", "f")])

    def counting(by: Sequence[str]) -> list[Total]:
        asked.append(tuple(by))
        return totals(by)

    summarize(counting, created_at=NOW, has_days=True)

    assert asked == [("function_name", "model", "user_id", "grade", "day")]


def test_dearest_group_comes_first(summary: Summary) -> None:
    """Groups are in the order of their cost, and the unpriced ones last; days in their own."""
    assert [one.key for one in summary.by_function] == [
        "answer_question",
        "search",
        "summarize",
        "experiment",
    ]
    assert [one.key for one in summary.by_day] == ["2026-11-20", "2026-11-22"]


def test_order_is_right_under_a_coarse_decimal_context() -> None:
    """Costs that differ in their last digit are told apart, whatever the caller's precision."""
    entries = [entry("1.000000000001", "cheaper"), entry("1.000000000002", "dearer")]
    with localcontext(Context(prec=2)):
        summary = summarize(totals_of(entries), created_at=NOW)

    assert [one.key for one in summary.by_function] == ["dearer", "cheaper"]


def test_call_without_a_path_stands_under_its_function() -> None:
    """A call recorded by hand has a function but no path around it."""
    recorded = entry("1")

    summary = summarize(totals_of([recorded]), created_at=NOW, has_paths=True)

    assert [one.key for one in summary.by_path] == ["unknown"]


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "remaining"),
    [
        (Decimal(5), Decimal("4.5"), Decimal("0.2"), Decimal("0.3")),
        (Decimal(5), Decimal("4.9"), Decimal("0.2"), Decimal(0)),
        (None, Decimal(1), Decimal(1), None),
    ],
)
def test_remaining_is_never_below_zero_and_none_without_a_limit(
    limit: Decimal | None, spent: Decimal, reserved: Decimal, remaining: Decimal | None
) -> None:
    """What is left of a budget is limit less spent less reserved."""
    row = BudgetRow(
        user_id="a", window=None, limit_usd=limit, spent_usd=spent, reserved_usd=reserved
    )

    assert row.remaining_usd == remaining

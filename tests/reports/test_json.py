"""The report as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Decimal

from report_rows import NOW, entry, totals_of

from costtrace.reports import Summary, render, report_document, summarize


def test_document_has_a_stable_versioned_schema(summary: Summary) -> None:
    """These are the keys of version 1; a reader may rely on each of them."""
    document = json.loads(render(summary, "json"))

    assert (document["schema"], document["schema_version"]) == ("costtrace.report", 1)
    assert list(document) == [
        "schema",
        "schema_version",
        "created_at",
        "source",
        "since",
        "until",
        "filters",
        "currency",
        "prices_date",
        "total",
        "by_function",
        "by_model",
        "by_user",
        "by_grade",
        "by_day",
        "by_path",
        "budgets",
        "notes",
    ]
    assert document["by_function"][0] == {
        "key": "answer_question",
        "calls": 1,
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "cost_usd": "3.6",
        "unpriced_calls": 0,
    }
    assert document["budgets"][0] == {
        "user_id": "alice",
        "window": "month",
        "limit_usd": "5",
        "spent_usd": "4.5",
        "reserved_usd": "0.2",
        "remaining_usd": "0.3",
        "resets_at": "2026-12-01T00:00:00+00:00",
    }


def test_empty_report_has_the_same_keys(summary: Summary, empty: Summary) -> None:
    """A script need not ask whether there were any calls."""
    document = json.loads(render(empty, "json"))

    assert list(document) == list(report_document(summary))
    assert document["total"]["cost_usd"] == "0"
    assert document["by_function"] == document["budgets"] == []


def test_money_is_text_with_all_its_digits() -> None:
    """No float and no exponent: a picodollar survives, and trailing zeros do not matter."""
    entries = [entry("0.000000000001", "a"), entry("0.50", "b"), entry("100", "c")]
    groups = json.loads(render(summarize(totals_of(entries), created_at=NOW), "json"))

    assert [one["cost_usd"] for one in groups["by_function"]] == ["100", "0.5", "0.000000000001"]
    assert groups["total"]["cost_usd"] == "100.500000000001"
    assert sum(Decimal(one["cost_usd"]) for one in groups["by_user"]) == Decimal(
        groups["total"]["cost_usd"]
    )


def test_unknown_cost_is_null(summary: Summary) -> None:
    """Never zero; the count of such calls stands beside it."""
    document = json.loads(render(summary, "json"))

    unpriced = next(one for one in document["by_model"] if one["key"] == "new-model")
    assert (unpriced["cost_usd"], unpriced["unpriced_calls"]) == (None, 2)


def test_any_name_survives() -> None:
    """Quotes, control characters and other scripts come back as they were."""
    name = 'a"b\\c\n\x1b分析 \u2028'
    document = render(summarize(totals_of([entry("1", name)]), created_at=NOW), "json")

    assert json.loads(document)["by_function"][0]["key"] == name


def test_times_are_written_in_utc(empty: Summary) -> None:
    """Whatever zone they were asked for in."""
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    document = report_document(replace(empty, since=local))

    assert document["since"] == "2026-11-22T12:00:00+00:00"

"""The report as CSV."""

from __future__ import annotations

import csv
from decimal import Decimal
from io import StringIO

import pytest
from report_rows import NOW, entry, totals_of

from costtrace.reports import Summary, csv_text, render, summarize


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline="")))


def test_each_group_has_a_row_and_sums_to_the_first(summary: Summary) -> None:
    """The first row is the total; the rows of any one `group` add up to it."""
    total, *rows = rows_of(render(summary, "csv"))

    assert (total["group"], total["key"], total["calls"]) == ("total", "", "6")
    for group in ("function_name", "model", "user_id", "grade", "day", "call_path"):
        members = [row for row in rows if row["group"] == group]
        assert sum(int(row["calls"]) for row in members) == 6
        assert sum(Decimal(row["cost_usd"] or 0) for row in members) == Decimal(total["cost_usd"])


def test_unknown_cost_is_an_empty_cell(summary: Summary) -> None:
    """A spreadsheet's sum leaves it out; the next column says how many calls that were."""
    row = next(row for row in rows_of(render(summary, "csv")) if row["key"] == "new-model")

    assert (row["cost_usd"], row["unpriced_calls"]) == ("", "2")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_name_cannot_become_a_formula(start: str) -> None:
    """A user id from outside that begins like a formula is text in every spreadsheet."""
    evil = f"{start}cmd|' /C calc'!A0"
    summary = summarize(totals_of([entry("1", "f", user_id=evil)]), created_at=NOW)

    row = next(row for row in rows_of(render(summary, "csv")) if row["group"] == "user_id")

    assert row["key"] == "'" + evil


def test_negative_amount_stays_a_number() -> None:
    """A correction begins with a minus and is no formula; small amounts have no exponent."""
    rows = [("-x", Decimal("-0.5"), -3), ("y", Decimal("1E-12"), None)]

    assert csv_text(rows, ["name", "cost", "calls"]) == (
        "name,cost,calls\r\n'-x,-0.5,-3\r\ny,0.000000000001,\r\n"
    )


def test_names_with_separators_stay_in_their_cell() -> None:
    """Commas, quotes and line ends in a name are quoted."""
    name = 'a,"b"\nc'
    summary = summarize(totals_of([entry("1", name)]), created_at=NOW)

    row = next(row for row in rows_of(render(summary, "csv")) if row["group"] == "function_name")

    assert row["key"] == name


def test_empty_report_is_one_row_of_zeros(empty: Summary) -> None:
    """The titles and the total are always there."""
    assert render(empty, "csv").splitlines()[1:] == ["total,,0,0,0,0,0"]

"""The report as Markdown."""

from __future__ import annotations

from report_rows import NOW, entry, totals_of

from costtrace.reports import Column, Summary, markdown_table, render, summarize


def test_report_has_a_table_for_each_grouping(summary: Summary) -> None:
    """Numbers are aligned right, and the total is the last row."""
    text = render(summary, "markdown")

    assert text.startswith("## costtrace report of costs.db, 2026-11-22 12:00 UTC\n")
    assert "### By model\n\n| Model | Calls |" in text
    assert "| --- | ---: | ---: |" in text
    assert "| new-model | 2 | 2,000 | 200 | unpriced | - | 2 |" in text
    assert "| Total | 6 | 6,000 | 600 | $5.0000 | 100% | 2 |" in text
    assert "2 calls unpriced, in no amount: new-model." in text


def test_name_cannot_leave_its_cell() -> None:
    """Pipes, line ends, tags and links in a name are text."""
    name = "a|b\n<img src=x>[y](http://z)"
    text = render(summarize(totals_of([entry("1", name)]), created_at=NOW), "markdown")

    row = next(line for line in text.splitlines() if "img" in line)
    assert row.startswith(r"| a\|b\\n\<img src=x\>\[y\](http://z) | 1 |")
    assert row.replace(r"\|", "").count("|") == 7


def test_name_calls_nobody() -> None:
    """A user id such as @team in a pull request's comment must not notify anyone."""
    table = markdown_table([("@team", "a@example.com")], [Column("User"), "Mail"])

    assert table.splitlines()[2] == "| @&#8203;team | a@example.com |"


def test_empty_ledger_says_so(empty: Summary) -> None:
    """One heading and one sentence."""
    assert render(empty, "markdown").endswith("UTC\n\nNo calls yet.\n")

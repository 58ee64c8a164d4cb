"""`costtrace report`: exact sums, in every grouping and format."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from command_line import Cli

from costtrace import CostLedger


def test_the_report_shows_functions_models_and_users(cli: Cli, costs: Path):
    """Data on standard output, nothing else anywhere."""
    done = cli("report", costs)

    assert (done.status, done.err) == (0, "")
    for name in ("answer", "summarise", "gpt-4o-mini", "claude-haiku-4-5", "alice", "bob"):
        assert name in done.out
    assert "$0.0019" in done.out


def test_json_holds_all_digits_as_text(cli: Cli, costs: Path):
    """Money is text, so that nobody reads it into a float unasked."""
    report = cli("report", costs, "--json").json

    assert report["schema"] == "costtrace.report"
    assert report["total"]["cost_usd"] == "0.00192"
    assert {row["key"]: row["cost_usd"] for row in report["by_user"]} == {
        "alice": "0.00042",
        "bob": "0.0015",
    }


def test_filters_pick_the_calls(cli: Cli, costs: Path):
    """By user, function, model, provider, tag and time; `--until` is exclusive."""

    def total(*words: str) -> str:
        return cli("report", costs, "--json", *words).json["total"]["cost_usd"]

    assert total("--user", "alice") == "0.00042"
    assert total("--function", "summarise") == "0.0015"
    assert total("--model", "gpt-4o-mini") == "0.00042"
    assert total("--tag", "team=search") == "0.00042"
    assert total("--since", "2026-11-21") == "0.00171"
    assert total("--until", "2026-11-21T10:00Z") == "0.00021"
    assert total("--since", "2026-11-21T11:00+01:00") == "0.00171"
    assert total("--user", "nobody") == "0"


def test_one_table_by_anything(cli: Cli, costs: Path):
    """Several dimensions with commas, or by repeating the option."""
    together = cli("report", costs, "--by", "user_id,model", "--json").json
    repeated = cli("report", costs, "--by", "user_id", "--by", "model", "--json").json

    assert together["groups"] == repeated["groups"]
    assert together["groups"][0] == {
        "user_id": "bob",
        "model": "claude-haiku-4-5",
        "calls": 1,
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "cost_usd": "0.0015",
        "unpriced_calls": 0,
    }
    assert sum(Decimal(row["cost_usd"]) for row in together["groups"]) == Decimal("0.00192")


def test_days_stand_in_their_order(cli: Cli, costs: Path):
    """Other groups have the dearest first."""
    days = cli("report", costs, "--by", "day", "--json").json["groups"]

    assert [row["day"] for row in days] == ["2026-11-20", "2026-11-21"]


def test_tags_are_a_dimension(cli: Cli, costs: Path):
    """Calls without the tag are a group of their own."""
    done = cli("report", costs, "--by", "tag:team", "--format", "csv")

    assert done.out.splitlines() == [
        "tag:team,calls,prompt_tokens,completion_tokens,cost_usd,unpriced_calls",
        ",1,1000,100,0.0015,0",
        "search,2,2000,200,0.00042,0",
    ]


def test_the_rest_is_summed_up(cli: Cli, costs: Path):
    """`--top` leaves nothing out of the total."""
    report = cli("report", costs, "--top", "1", "--json").json
    text = cli("report", costs, "--top", "1").out

    assert [row["function_name"] for row in report["groups"]] == ["summarise"]
    assert report["others"]["cost_usd"] == "0.00042"
    assert report["total"]["cost_usd"] == "0.00192"
    assert "(1 others)" in text
    assert "answer" not in text


@pytest.mark.parametrize("format_", ["text", "json", "csv", "markdown", "html"])
@pytest.mark.parametrize("by", [(), ("--by", "function_name")])
def test_every_format_holds_every_function(
    cli: Cli, costs: Path, format_: str, by: tuple[str, ...]
):
    """Of the whole report, and of one table."""
    done = cli("report", costs, "--format", format_, *by)

    assert done.status == 0
    assert "summarise" in done.out
    assert "answer" in done.out
    if format_ == "json":
        json.loads(done.out)
    if format_ == "csv":
        assert len({len(row) for row in csv.reader(StringIO(done.out))}) == 1


def test_names_are_no_html(cli: Cli, tmp_path: Path):
    """A user's name comes from outside; in a page it is text, whatever it holds."""
    with CostLedger(path=tmp_path / "x.db") as ledger:
        ledger.record("gpt-4o-mini", "answer", "<script>alert(1)</script>", 10, 10)

    page = cli("report", "x.db", "--by", "user_id", "--format", "html").out

    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_stacks_are_for_flame_graphs(cli: Cli, costs: Path):
    """One line for each path, in whole picodollars."""
    done = cli("report", costs, "--stacks")

    assert done.out == "answer 420000000\nsummarise 1500000000\n"


def test_unpriced_calls_are_told(cli: Cli, tmp_path: Path):
    """Their cost is null, never zero, and a column counts them."""
    with CostLedger(path=tmp_path / "x.db") as ledger, pytest.warns(match="no price is known"):
        ledger.record("secret-model", "answer", "alice", 10, 10)

    report = cli("report", "x.db", "--by", "model", "--json").json
    text = cli("report", "x.db", "--by", "model").out

    assert report["groups"][0]["cost_usd"] is None
    assert report["total"]["unpriced_calls"] == 1
    assert "unpriced" in text
    assert "Unpriced" in text


def test_a_file_can_take_the_report(cli: Cli, costs: Path, tmp_path: Path):
    """Then nothing goes to standard output; a folder that is not there is said."""
    done = cli("report", costs, "--format", "csv", "-o", "out.csv")
    lost = cli("report", costs, "-o", "no/such/folder.txt")

    assert (done.status, done.out) == (0, "")
    assert (tmp_path / "out.csv").read_text().startswith("group,key,calls")
    assert lost.status == 2
    assert "no/such/folder.txt cannot be written" in lost.err


def test_calls_that_are_not_there_are_told_from_none_at_all(cli: Cli, costs: Path):
    """A ledger in which nothing matches is not called empty."""
    assert "\nNo such calls.\n" in cli("report", costs, "--user", "zoe").out
    assert "\nNo such calls.\n" in cli("report", costs, "--since", "2027-01-01").out


def test_an_empty_ledger_has_a_report(cli: Cli, tmp_path: Path):
    """It says that nothing was called yet."""
    CostLedger(path=tmp_path / "x.db").close()

    assert "No calls yet." in cli("report", "x.db").out
    assert cli("report", "x.db", "--by", "day").out == "No calls.\n"
    assert cli("report", "x.db", "--by", "day", "--json").json["groups"] == []

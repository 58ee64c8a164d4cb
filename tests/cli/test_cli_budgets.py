"""`costtrace budgets`: where budgets stand, and what others would have done."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import FIRST, SECOND, Cli

from costtrace import CostLedger, budget


@pytest.fixture
def spent(tmp_path: Path) -> Path:
    """Ten calls of alice at 0.10 USD each, one each hour; one of bob at 5 USD; one unpriced."""
    path = tmp_path / "spent.db"
    with CostLedger(path=path) as ledger:
        for hour in range(10):
            ledger.record(
                "gpt-4o",
                "answer",
                "alice",
                10,
                10,
                cost_usd="0.10",
                call_id=f"a{hour}",
                timestamp=FIRST + timedelta(hours=hour),
                reserved_usd="0.15",
            )
        ledger.record("gpt-4o", "draft", "bob", 10, 10, cost_usd=5, timestamp=SECOND)
        with pytest.warns(match="no price is known"):
            ledger.record("mystery", "draft", "bob", 10, 10, timestamp=SECOND)
    return path


def test_budgets_say_where_they_stand(cli: Cli, tmp_path: Path):
    """Every budget that was used, with its window and what is left of it."""
    now = datetime(2026, 11, 22, tzinfo=timezone.utc)
    with CostLedger(path=tmp_path / "x.db", clock=lambda: now) as ledger:
        with budget("alice", 5, ledger=ledger) as purse:
            purse.record("1.25")
        with budget("bob", ledger=ledger):
            pass
    text = cli("budgets", "x.db").out
    (alice,) = cli("budgets", "x.db", "--json").json["budgets"]

    assert "alice" in text
    assert "25%" in text
    assert alice == {
        "user_id": "alice",
        "window": None,
        "limit_usd": "5",
        "spent_usd": "1.25",
        "reserved_usd": "0",
        "remaining_usd": "3.75",
        "resets_at": None,
    }


def test_without_budgets_it_says_so(cli: Cli, costs: Path):
    """A ledger can do without."""
    assert cli("budgets", costs).out == "No budget was ever used in costs.db.\n"
    assert cli("budgets", costs, "--json").json["budgets"] == []


def test_a_replay_tells_what_would_have_been_refused(cli: Cli, spent: Path):
    """Exactly the calls that no longer fit, decided by the accounting that decides for real."""
    found = cli("budgets", "--replay", spent, "--limit", "alice=0.55", "--json").json

    (alice,) = found["users"]
    assert alice["calls"] == 10
    assert alice["spent_usd"] == "0.5"
    assert alice["refused_usd"] == "0.5"
    assert [call["call_id"] for call in found["refused"]] == ["a5", "a6", "a7", "a8", "a9"]


def test_a_replay_follows_the_windows(cli: Cli, spent: Path):
    """A limit for each day starts anew at midnight, by the time of the calls."""

    def refused(limit: str) -> int:
        found = cli("budgets", "--replay", spent, "--limit", limit, "--json").json
        return sum(user["refused_calls"] for user in found["users"])

    assert refused("alice=0.10/hour") == 0
    assert refused("alice=0.50/day") == 5
    assert refused("alice=0.20/2h") == 0
    assert refused("alice=0.20/3h") == 3  # two in three hours: the third call of each three waits
    assert refused("alice=0/month") == 10


def test_a_replay_tells_alerts_and_what_was_tight(cli: Cli, spent: Path):
    """When 90% were reached; which calls fitted at their cost, but not with their reservation."""
    found = cli("budgets", "--replay", spent, "--limit", "alice=1", "--json").json

    assert found["alerts"] == [
        {
            "timestamp": (FIRST + timedelta(hours=8)).isoformat(),
            "user_id": "alice",
            "text": "90% of budget used: $0.9000 / $1.0000 (user alice)",
        }
    ]
    assert found["users"][0]["tight_calls"] == 1
    assert found["users"][0]["highest_usd"] == "1"


def test_everyone_may_be_limited_at_once(cli: Cli, spent: Path):
    """`*` is each user without a limit of their own; unpriced calls go through, and are counted."""
    done = cli("budgets", spent, "--replay", "--limit", "*=4", "--limit", "alice=0.1", "--json")

    users = {user["user_id"]: user["refused_calls"] for user in done.json["users"]}
    assert done.status == 0
    assert users == {"alice": 9, "bob": 1}
    assert done.json["unpriced_calls"] == 1
    assert sum(Decimal(call["cost_usd"]) for call in done.json["refused"]) == Decimal("5.9")


def test_a_replay_reads_well(cli: Cli, spent: Path):
    """The first refusal of each user with its time, and what the columns mean."""
    text = cli("budgets", "--replay", spent, "--limit", "alice=0.55/month").out

    assert "$0.55/month" in text
    assert "2026-11-20 15:00 UTC  alice is refused gpt-4o in answer ($0.1000)" in text
    assert "90% of budget used" in text
    assert "Refused: what the call did cost no longer fitted." in text


def test_a_replay_fits_the_terminal(cli: Cli, spent: Path, monkeypatch: pytest.MonkeyPatch):
    """What its words mean is told in lines that do not run over the edge."""
    monkeypatch.setenv("COLUMNS", "70")

    _, _, remarks = cli("budgets", spent, "--replay", "--limit", "*=1").out.partition("Refused:")

    assert "reserved for it: it would have been sent" in " ".join(remarks.split())
    assert max(map(len, remarks.splitlines())) <= 70


def test_a_replay_leaves_the_ledger_alone(cli: Cli, spent: Path):
    """Nothing on paper is written anywhere."""
    before = cli("export", spent).out

    cli("budgets", "--replay", spent, "--limit", "*=0.01")

    assert cli("export", spent).out == before
    assert cli("budgets", spent, "--json").json["budgets"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one ledger: costtrace budgets costs.db"),
        (["costs.db", "--limit", "alice=5"], "--replay and --limit go together"),
        (["--replay", "costs.db"], "--replay and --limit go together"),
        (["--replay", "costs.db", "--limit", "alice"], "'alice' is no limit: write alice=5/month"),
        (["--replay", "costs.db", "--limit", "alice=x"], "'x' is no amount of US dollars"),
        (["--replay", "costs.db", "--limit", "a=5/year"], "'a=5/year' has no window that there is"),
        (["--replay", "costs.db", "--limit", "a=5/0h"], "'a=5/0h' has no window that there is"),
        (
            ["--replay", "costs.db", "--limit", "a=5", "--limit", "a=6/day"],
            "--limit names 'a' twice",
        ),
        (["--replay", "no.db", "--limit", "a=5"], "there is no ledger no.db"),
    ],
)
def test_wrong_limits_are_explained(cli: Cli, costs: Path, words: list[str], said: str):
    """What is wrong with them, and how they are written."""
    done = cli("budgets", *words)

    assert (done.status, done.out) == (2, "")
    assert said in done.err

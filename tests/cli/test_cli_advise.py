"""`costtrace advise`: what would have cost less, with what it was computed from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from costtrace import CostLedger

Cli = Callable[..., Any]
AT = datetime(2026, 11, 20, 10, 0, tzinfo=timezone.utc)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Ten calls of 1,000 and 1,000 tokens that nobody waited for."""
    path = tmp_path / "large.db"
    with CostLedger(path=path) as ledger:
        for _ in range(10):
            ledger.record("claude-sonnet-4-6", "digest", "alice", 1_000, 1_000, timestamp=AT)
    return path


def test_each_advice_says_how_it_was_computed(cli: Cli, large: Path):
    """The largest saving first; the notes are no data."""
    done = cli("advise", large)

    assert done.status == 0
    assert done.out.startswith("digest, claude-sonnet-4-6: claude-haiku-4-5 saves $0.1200 of $0.18")
    assert "    10 calls that were not streamed" in done.out
    assert "list prices" in done.err


def test_advice_as_json(cli: Cli, large: Path):
    """Amounts are texts, with all digits."""
    done = cli("advise", large, "--json", "--top", 1)

    (advice,) = done.json["advice"]
    assert advice["saving_usd"] == "0.12"
    assert advice["cost_usd"] == "0.18"
    assert (advice["kind"], advice["alternative"]) == ("model", "claude-haiku-4-5")
    assert advice["first"] == "2026-11-20T10:00:00+00:00"


def test_a_stretch_of_time_can_be_asked_for(cli: Cli, large: Path):
    """Before the calls there is nothing to say, and that is said."""
    done = cli("advise", large, "--until", "2026-11-20")

    assert (done.status, done.out) == (0, "")
    assert done.err.startswith("Nothing in these calls")
    assert cli("advise", large, "--until", "2026-11-20", "--json").json["advice"] == []


def test_a_ledger_that_is_not_there_is_not_made(cli: Cli, tmp_path: Path):
    """A mistyped name is wrong usage."""
    done = cli("advise", tmp_path / "cost.db")

    assert done.status == 2
    assert "there is no ledger" in done.err
    assert list(tmp_path.iterdir()) == []

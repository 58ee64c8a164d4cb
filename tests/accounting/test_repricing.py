"""Repricing: a difference by model and cause, entered beside history and never over it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from costtrace import CostLedger, PriceTable
from costtrace.accounting.repricing import reprice, write_adjustments
from costtrace.cli import main

OLD = datetime(2025, 6, 1, tzinfo=timezone.utc)  # before o3 went from 10/40 to 2/8 on 2025-06-10
NEGOTIATED = {"gpt-4o": {"input": "2", "output": "8"}}  # listed at 2.50 and 10


@pytest.fixture
def full(any_ledger: CostLedger) -> CostLedger:
    any_ledger.record("gpt-4o", "f", "alice", 1_000_000, 100_000)
    any_ledger.record("gpt-4o-mini", "f", "bob", 1_000_000, 0)
    any_ledger.record("o3", "f", "bob", 1_000_000, 0, timestamp=OLD)
    return any_ledger


def test_the_same_prices_change_nothing(full: CostLedger):
    """Each call at the price of its own time is what it was."""
    found = reprice(full, PriceTable.bundled())
    assert (found.calls, found.unchanged, found.changes) == (3, 3, ())


def test_other_prices_are_shown_by_call(full: CostLedger):
    """Only what differs, with its cause."""
    found = reprice(full, PriceTable.bundled().with_prices(NEGOTIATED))
    (change,) = found.changes
    assert (change.before_usd, change.after_usd) == (Decimal("3.5"), Decimal("2.8"))
    assert (change.cause, found.difference_usd) == ("other rates", Decimal("-0.7"))


def test_the_prices_of_another_day(full: CostLedger):
    """`as_of` prices every call as if it were made then."""
    found = reprice(full, PriceTable.bundled(), as_of=datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert {change.entry.model: change.difference_usd for change in found.changes} == {
        "o3": Decimal(-8)
    }


def test_writing_adds_lines_and_edits_none(full: CostLedger):
    """Totals follow exactly; the entries stay; again it adds nothing; back again it takes off."""
    before = list(full.entries)
    table = PriceTable.bundled().with_prices(NEGOTIATED)
    total = full.total_cost

    assert write_adjustments(full, reprice(full, table)) == 1
    assert list(full.entries)[:3] == before
    assert full.total_cost == total - Decimal("0.7")
    assert full.spent(user_id="alice") == Decimal("2.8")
    assert sum(row.calls for row in full.totals()) == 3
    assert write_adjustments(full, reprice(full, table)) == 0

    write_adjustments(full, reprice(full, PriceTable.bundled()))
    assert full.total_cost == total


@pytest.mark.filterwarnings("ignore:no price is known")
def test_what_had_no_price_gets_one(any_ledger: CostLedger):
    """A price that is known now makes a cost of a recorded usage."""
    any_ledger.record("house-model", "f", "alice", 1_000_000, 0)
    table = PriceTable.bundled().with_prices({"house-model": {"input": 3, "output": 6}})
    found = reprice(any_ledger, table)
    assert [change.cause for change in found.changes] == ["now priced"]
    write_adjustments(any_ledger, found)
    assert any_ledger.total_cost == 3


def test_what_is_not_usage_times_price_is_left(any_ledger: CostLedger):
    """Costs entered by hand are nobody's usage."""
    any_ledger.record("gpt-4o", "f", "alice", 10, 10, cost_usd="1.00")
    found = reprice(any_ledger, PriceTable.bundled().with_prices(NEGOTIATED))
    assert (found.changes, found.not_recomputed) == ((), 1)


def test_the_command_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Text and JSON; nothing is written unless asked."""
    db, prices = tmp_path / "costs.db", tmp_path / "prices.json"
    prices.write_text(json.dumps({"models": NEGOTIATED}))
    with CostLedger(path=db) as ledger:
        ledger.record("gpt-4o", "f", "alice", 1_000_000, 100_000)

    assert main(["reprice", str(db), "--prices", str(prices)]) == 0
    out = capsys.readouterr()
    assert "-$0.7000" in out.out
    assert "--write" in out.err
    assert main(["reprice", str(db), "--prices", str(prices), "--json", "--write"]) == 0
    document: Any = json.loads(capsys.readouterr().out)
    assert (document["difference_usd"], document["lines_written"]) == ("-0.7", 1)
    with CostLedger(path=db) as ledger:
        assert ledger.total_cost == Decimal("2.8")
    assert main(["reprice", str(db), "--prices", str(tmp_path / "none.json")]) == 2

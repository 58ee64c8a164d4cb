"""A signal's handler that uses the ledger in the middle of a step is served or told so, at once."""

from __future__ import annotations

import gc
import io
import time
from pathlib import Path

import pytest
from alarms import alarms
from homes import KINDS, empty_home

from costtrace import CostLedger, budget
from costtrace.exceptions import BudgetStoreError

SECONDS = 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_handler_may_ask_for_a_report(kind: str, tmp_path: Path) -> None:
    """Nobody hangs, the step it broke into goes on, and all sums are right."""
    ledger = CostLedger(store=empty_home(kind, "reentry", tmp_path)())
    ledger.render("text")  # loads what it needs before anything may break in
    told: list[str] = []
    waits: list[float] = []

    def report() -> None:
        began = time.monotonic()
        try:
            ledger.report(file=io.StringIO())
            told.append("")
        except BudgetStoreError as error:
            told.append(str(error))
        waits.append(time.monotonic() - began)

    spender, pairs, end = budget("alice", 100, ledger=ledger), 0, time.monotonic() + SECONDS
    thresholds = gc.get_threshold()
    gc.set_threshold(50, 1, 1)
    try:
        with alarms(report):
            while time.monotonic() < end or (told.count("") < 3 and time.monotonic() < end + 20):
                spender.authorize("0.0001").settle("0.00005")
                pairs += 1
    finally:
        gc.set_threshold(*thresholds)

    assert told.count("") >= 3
    assert all("in the middle of a step" in text for text in told if text)
    assert max(waits) < 10
    assert ledger.spent(user_id="alice") == spender.spent_usd
    assert len(ledger.entries) == pairs
    assert ledger.verify() == []
    ledger.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_handler_that_spends_is_entered_sooner_or_later(kind: str, tmp_path: Path) -> None:
    """What it records amid a step waits for the step's end; nothing is lost or counted twice."""
    ledger = CostLedger(store=empty_home(kind, "reentry", tmp_path)())
    recorded = 0

    def spend() -> None:
        nonlocal recorded
        ledger.record("gpt-4o", "handler", "bob", 100, 10)
        recorded += 1

    spender, pairs, end = budget("alice", 100, ledger=ledger), 0, time.monotonic() + SECONDS
    with alarms(spend):
        while time.monotonic() < end:
            spender.authorize("0.0001").settle("0.00005")
            pairs += 1

    assert recorded > 3
    assert ledger.flush()
    assert len(ledger.entries) == pairs + recorded
    assert ledger.verify() == []
    ledger.close()

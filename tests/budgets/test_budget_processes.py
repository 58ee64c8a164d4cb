"""Several processes under one budget: no limit passed, no alert twice, none lost."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import budget_storm as storm
import pytest
from budget_workers import run_all

from costtrace import CostLedger, SharedBudgetWarning, budget
from costtrace.stores.base import Span
from costtrace.testing import LoopbackProvider


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty ledger."""
    CostLedger(path=tmp_path / "costs.db").close()
    return tmp_path / "costs.db"


def test_a_race_admits_exactly_what_fits(path: Path):
    """Eight processes try 60 times each to take 7 of 1000: 142 times it fits."""
    assert run_all("race", 8, path) == ["admitted"] * 142
    with CostLedger(path=path) as ledger:
        b = budget("alice", "0.000000001", ledger=ledger)
        assert (b.spent_usd, b.reserved_usd) == (Decimal("0.000000000994"), 0)
        assert ledger.verify() == []


def test_each_alert_is_heard_once_in_all_processes(path: Path):
    """Eight processes cross two thresholds of ten budgets together."""
    heard = Counter(run_all("cross", 8, path))
    assert heard == {f"u{k} {share}": 1 for k in range(10) for share in (0.5, 0.9)}


def test_an_alert_whose_process_died_is_delivered_by_another(path: Path):
    """Latched, and gone before it was sent: the next to come sends it, once."""
    assert run_all("die_before_delivery", 1, path) == []
    heard: list[str] = []
    now = datetime.now(timezone.utc).timestamp() + 30

    def clock() -> datetime:
        return datetime.fromtimestamp(now, timezone.utc)

    for _ in range(2):
        with CostLedger(path=path, clock=clock) as ledger:
            ledger.on_alert(lambda alert: heard.append(str(alert)))
            budget("alice", 1, ledger=ledger).record("0.01")
    assert heard == ["90% of budget used: $0.9500 / $1.0000 (user alice)"]


def test_no_storm_of_processes_passes_the_limit(provider: LoopbackProvider, path: Path):
    """Four processes with 50 calls each, of every kind and every fate, on one file."""
    provider.script(storm.script)
    said = Counter(run_all("calls", 4, path, provider.url, "0.01"))
    with CostLedger(path=path) as ledger:
        storm.check(provider, ledger, budget("alice", "0.01", ledger=ledger))
    assert said["sent"] > 10
    assert said["refused"] > 0


def test_nothing_is_lost_when_a_window_ends(path: Path):
    """Eight processes work across midnight: each call counts in the day that authorized it."""
    run_all("rollover", 8, path)
    days = [datetime(2026, 11, day, tzinfo=timezone.utc).timestamp() for day in (20, 21, 22)]
    with CostLedger(path=path) as ledger:
        spent = [
            ledger.store.balance("user:alice", Span(int(a * 1e6), int(b * 1e6))).spent_pico
            for a, b in pairwise(days)
        ]
        assert spent == [8 * 20 * 10**9, 8 * 20 * 10**9]
        assert ledger.verify() == []


def child(work: object) -> int:
    """Run in a forked child; return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = int(work())  # type: ignore[operator]
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warnings_of(ledger: CostLedger, **options: object) -> int:
    """Count the warnings of three reservations."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            budget("alice", 5, ledger=ledger, **options).authorize(1).release()  # type: ignore[arg-type]
    return sum(one.category is SharedBudgetWarning for one in seen)


def test_a_budget_in_memory_that_processes_share_warns_once(tmp_path: Path):
    """Each of them allows the whole limit; not in the first process, a block, or a file."""
    ledger = CostLedger()
    assert warnings_of(ledger) == 0
    assert child(lambda: warnings_of(ledger)) == 1
    assert child(lambda: warnings_of(ledger, window="block")) == 0
    with CostLedger(path=tmp_path / "costs.db") as shared:
        assert child(lambda: warnings_of(shared)) == 0


def test_what_a_parent_holds_is_the_parents(any_ledger: CostLedger):
    """A forked child neither settles nor charges its parent's calls when it forgets them."""
    b = budget("alice", 5, ledger=any_ledger)
    hold = b.authorize(1)

    def forget() -> int:
        b._holds.clear()
        hold.__dict__.clear()
        any_ledger.postings.collect()
        return 0

    assert child(forget) == 0
    assert (b.spent_usd, b.reserved_usd) == (0, 1)
    hold.settle("0.5")
    assert (b.spent_usd, b.reserved_usd) == (Decimal("0.5"), 0)

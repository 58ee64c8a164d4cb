"""keep_days: old entries go by themselves, and every sum stays exact."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))
from homes import KINDS, empty_home

from costtrace import CostLedger, budget, configure
from costtrace.exceptions import BudgetExceededError, BudgetStoreError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


class Time:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    """Time that moves by hand."""
    return Time()


@pytest.fixture(params=KINDS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Each kind: what opens the same ledger again and again."""
    return empty_home(request.param, "retention", tmp_path)


def record_days(ledger: CostLedger, days: int) -> None:
    """A call on each of the last days, none on the minute where a rolling window begins."""
    for ago in range(days):
        at = NOW - timedelta(days=ago, minutes=5)
        ledger.record("gpt-4o", "f", "alice", 100, 10, timestamp=at, call_id=f"{ago} days ago")


def sums(ledger: CostLedger, time: Time) -> Any:
    """All that must stay."""
    del time
    return (
        ledger.total_cost,
        [ledger.totals(by) for by in ("function_name", "user_id", "day", "model")],
        ledger.spent(since=NOW.replace(hour=0) - timedelta(days=25)),
        budget("alice", 5, ledger=ledger).spent_usd,
        budget("alice", 5, window="month", ledger=ledger).spent_usd,
        budget("alice", 5, window=timedelta(days=20), ledger=ledger).spent_usd,
        ledger.render("csv"),
    )


def days_kept(ledger: CostLedger) -> int:
    """How many single entries there are."""
    return len(list(ledger.store.entries()))


def test_old_entries_go_when_a_ledger_is_opened(open_store: Callable[[], Any], time: Time) -> None:
    """Reports, spent and balances of every window are what they were."""
    with CostLedger(store=open_store(), clock=time) as ledger:
        record_days(ledger, 30)
        before = sums(ledger, time)
        assert days_kept(ledger) == 30

        with CostLedger(store=open_store(), clock=time, keep_days=7) as keeping:
            assert days_kept(keeping) == 8  # of seven whole days and today
            assert sums(keeping, time) == before
            assert keeping.verify() == []
            assert keeping.health().store_failures == {}


def test_more_go_once_a_day(open_store: Callable[[], Any], time: Time) -> None:
    """With the first call that is settled on it, and not with every one."""
    with CostLedger(store=open_store(), clock=time, keep_days=7) as ledger:
        record_days(ledger, 8)
        assert days_kept(ledger) == 8
        asked: list[datetime] = []
        prune = ledger.store.prune

        def counted(before: datetime, **options: Any) -> int:
            asked.append(before)
            return prune(before, **options)

        ledger.store.prune = counted  # type: ignore[method-assign]
        time.now = NOW + timedelta(days=3)
        for _ in range(3):
            ledger.record("gpt-4o", "f", "alice", 100, 10)

        assert days_kept(ledger) == 8 - 3 + 3
        assert asked == [NOW.replace(hour=0) - timedelta(days=4)]
        assert ledger.total_cost == Decimal("0.00035") * 11
        assert ledger.verify() == []


def test_limits_know_what_is_gone(open_store: Callable[[], Any], time: Time) -> None:
    """A budget that was used up stays used up."""
    with CostLedger(store=open_store(), clock=time) as ledger:
        with budget("alice", 1, ledger=ledger) as b:
            b.record(1)
        time.now = NOW + timedelta(days=30)
    with CostLedger(store=open_store(), clock=time, keep_days=1) as ledger:
        assert days_kept(ledger) == 0
        with pytest.raises(BudgetExceededError):
            budget("alice", 1, ledger=ledger).authorize("0.01")


def test_calls_of_unknown_fate_stay(open_store: Callable[[], Any], time: Time) -> None:
    """They are listed until somebody resolves them."""
    with CostLedger(store=open_store(), clock=time) as ledger:
        record_days(ledger, 10)
        ledger.record("gpt-4o", "f", "u", 1, 1, timestamp=NOW - timedelta(days=9), call_id="late")
    with CostLedger(store=open_store(), clock=time) as ledger:
        hold = budget("alice", 5, ledger=ledger).authorize("0.5")
        time.now = NOW + timedelta(days=60)
        ledger.store.lapse()
        keeping = CostLedger(store=open_store(), clock=time, keep_days=5)
        provisional = keeping.provisional() or list(keeping.store.standing())
        assert len(provisional) == 1
        del hold
        keeping.close()


def test_many_go_batch_by_batch(open_store: Callable[[], Any], time: Time) -> None:
    """Opening takes one batch; the heartbeat takes the rest, a bounded number at a time."""
    from costtrace.accounting.retention import AT_ONCE, Retention

    with CostLedger(store=open_store(), clock=time) as ledger:
        for number in range(AT_ONCE + 300):
            at = NOW - timedelta(days=30, seconds=number % 100)
            ledger.record("gpt-4o", "f", "alice", 1, 1, timestamp=at)
        record_days(ledger, 2)
        before = ledger.total_cost
        retention = Retention(ledger.store, 7, time)

        assert retention.is_due()
        retention.step()
        left = days_kept(ledger)
        assert 0 < left - 2 <= 600
        assert retention.has_more
        assert not retention.is_due()
        while retention.go_on():
            pass
        assert days_kept(ledger) <= 2 + 256  # in memory a block stays until all of it is old
        assert ledger.total_cost == before
        assert ledger.verify() == []


def test_store_that_is_away_harms_nothing(tmp_path: Path, time: Time) -> None:
    """The ledger opens, the failure is counted, and the next day it is tried again."""
    store = empty_home("sqlite", "away", tmp_path)()

    def fails(before: datetime, **options: Any) -> int:
        raise BudgetStoreError("away")

    store.prune = fails
    with CostLedger(store=store, clock=time, keep_days=7) as ledger:
        ledger.record("gpt-4o", "f", "alice", 1, 1)
        assert ledger.health().store_failures == {"let old entries go": 1}
        time.now = NOW + timedelta(days=1)
        ledger.record("gpt-4o", "f", "alice", 1, 1)
        assert ledger.health().store_failures == {"let old entries go": 2}


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "7", 10**6])
def test_wrong_numbers_of_days_are_refused(wrong: Any) -> None:
    """Before anything is opened."""
    with pytest.raises((ValueError, TypeError), match="keep_days must be"):
        CostLedger(keep_days=wrong)


def test_environment_says_how_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """COSTTRACE_KEEP_DAYS, for the process's own ledger."""
    monkeypatch.setenv("COSTTRACE_DB", str(tmp_path / "costs.db"))
    long_ago = datetime.now(timezone.utc) - timedelta(days=20)
    with configure() as ledger:
        ledger.record("gpt-4o", "f", "alice", 1, 1, timestamp=long_ago)
    try:
        monkeypatch.setenv("COSTTRACE_KEEP_DAYS", "7")
        with configure() as ledger:
            assert list(ledger.entries) == []
            assert ledger.spent(user_id="alice") > 0
        monkeypatch.setenv("COSTTRACE_KEEP_DAYS", "a week")
        with pytest.raises(ValueError, match="COSTTRACE_KEEP_DAYS must be a whole number"):
            configure()
    finally:
        monkeypatch.delenv("COSTTRACE_KEEP_DAYS", raising=False)
        monkeypatch.delenv("COSTTRACE_DB")
        configure()

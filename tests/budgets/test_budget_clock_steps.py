"""Clocks that are set while calls are in flight, and limits that change while they are spent."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, MemoryStore, SQLiteStore, budget

BOOT = datetime(1970, 1, 1, tzinfo=timezone.utc)
STEPS = (
    timedelta(hours=-1),
    timedelta(hours=1),
    timedelta(days=30 * 365),
    timedelta(days=-30 * 365),
    timedelta(seconds=90),
)


@pytest.fixture(params=["memory", "sqlite"])
def stepped(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """A ledger whose clock begins in 1970, as on a machine without a battery, and can be set."""
    now = [BOOT]
    if request.param == "memory":
        store: Any = MemoryStore()
    else:
        store = SQLiteStore(tmp_path / "costs.db", synchronous="NORMAL")
    with CostLedger(store=store, clock=lambda: now[0]) as ledger:
        yield ledger, now
        assert ledger.verify() == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("window", [None, "day", timedelta(hours=2)])
def test_no_step_of_the_clock_loses_or_invents_money(stepped: Any, window: Any, seed: int):
    """Set back, forward and by thirty years: each limit holds, and the sum is what was paid.

    A rolling window may come to hold two spans that were apart; then it admits nothing.
    """
    ledger, now = stepped
    dice = random.Random(seed)
    b = budget("alice", 1, window=window, ledger=ledger, alert_at=None)
    open_holds, paid = [], Decimal(0)

    def settle(hold: Any) -> Decimal:
        actual = Decimal(dice.randrange(10)) / 100
        assert hold.settle(actual) is True
        return actual

    for _ in range(60):
        with suppress(BudgetExceededError):
            open_holds.append(b.authorize("0.09"))
            assert b.spent_usd + b.reserved_usd <= 1
        if dice.random() < 0.3:
            now[0] = max(now[0] + dice.choice(STEPS), BOOT)
        if open_holds and dice.random() < 0.7:
            paid += settle(open_holds.pop(dice.randrange(len(open_holds))))
        assert b.spent_usd >= 0
        assert b.reserved_usd >= 0
    paid += sum(map(settle, open_holds))

    assert ledger.total_cost == paid
    assert ledger.provisional() == []
    assert b.reserved_usd == 0


def test_a_changed_limit_counts_from_the_next_call(stepped: Any):
    """Lowered below what is spent, raised, removed: nothing that was spent is forgotten."""
    ledger, _ = stepped
    budget("alice", 1, ledger=ledger).record("0.60")

    lowered = budget("alice", "0.50", ledger=ledger)
    with pytest.raises(BudgetExceededError) as refused:
        lowered.authorize("0.01")
    assert (refused.value.limit_usd, refused.value.spent_usd) == (Decimal("0.50"), Decimal("0.60"))
    assert lowered.remaining_usd == 0

    raised = budget("alice", 2, ledger=ledger)
    raised.authorize("1.40").settle("1.40")
    assert raised.remaining_usd == 0

    removed = budget("alice", ledger=ledger)
    removed.authorize(5).settle(5)
    assert removed.spent_usd == 7
    assert removed.remaining_usd is None

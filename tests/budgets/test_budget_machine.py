"""The invariant, whatever happens: spent and reserved together never pass a limit by our doing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from costtrace import BudgetExceededError, CostLedger, MemoryStore, SQLiteStore, budget
from costtrace.money import to_pico

pytestmark = pytest.mark.slow

SETTINGS = settings(
    max_examples=int(os.environ.get("COSTTRACE_TEST_EXAMPLES", "40")),
    stateful_step_count=30,
    database=None,
    suppress_health_check=list(HealthCheck),
)
CENT = Decimal("0.01")
cents = st.integers(0, 40).map(lambda n: n * CENT)
positions = st.integers(0, 10**6)


class BudgetMachine(RuleBasedStateMachine):
    """Three budgets, nested in any way, in windows that end, and everything done by hand.

    What may legally take a budget past its limit is counted beside it: what was recorded without
    asking, and what a call cost more than was held for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 11, 20, 22, 30, tzinfo=timezone.utc)
        self.ledger = CostLedger(store=self.open_store(), clock=lambda: self.now)
        self.alerts: list[tuple[Any, ...]] = []
        self.ledger.on_alert(
            lambda a: self.alerts.append((a.user_id, a.window, a.threshold, a.resets_at))
        )
        options: list[tuple[str, int, Any]] = [
            ("app", 3, None),
            ("team", 2, "day"),
            ("alice", 1, "hour"),
            ("alice", 2, timedelta(minutes=90)),
        ]
        self.budgets = [
            budget(user, limit, window=window, alert_at=(0.5, 0.9), ledger=self.ledger)
            for user, limit, window in options
        ]
        self.holds: list[tuple[Any, Decimal, tuple[Any, ...], datetime]] = []
        self.excess = Decimal(0)
        self.spends: list[tuple[datetime, str, Decimal]] = []

    def open_store(self) -> Any:
        raise NotImplementedError

    def teardown(self) -> None:
        for hold, _, _, _ in self.holds:
            hold.release()
        assert self.ledger.verify() == []
        assert self.ledger.health().overrun_usd <= self.excess
        assert sum((amount for *_, amount in self.spends), Decimal(0)) == self.ledger.total_cost
        self.ledger.close()

    def taken(self) -> dict[Any, Decimal]:
        """What is spent and reserved together of each budget."""
        return {one: one.spent_usd + one.reserved_usd for one in self.budgets}

    def inside(self, chosen: set[int]) -> Any:
        """Enter these budgets, from the outside in."""
        stack = ExitStack()
        for n in sorted(chosen):
            stack.enter_context(self.budgets[n])
        return stack

    @rule(chosen=st.sets(st.integers(0, 2)), own=st.integers(0, 3), amount=cents)
    def authorize(self, chosen: set[int], own: int, amount: Decimal) -> None:
        """A refusal names a budget that would really have been passed, and takes nothing.

        It may charge a hold whose lease has run out: what was reserved is then spent.
        """
        asked = {self.budgets[n] for n in chosen} | {self.budgets[own]}
        before = self.taken()
        fits = all(before[one] + amount <= (one.limit_usd or 0) for one in asked)
        with self.inside(chosen):
            try:
                hold = self.budgets[own].authorize(amount)
            except BudgetExceededError as error:
                refused = error
            else:
                refused = None
            if refused is not None:
                assert not fits
                assert refused.spent_usd + refused.reserved_usd + amount > (refused.limit_usd or 0)
                assert self.taken() == before
                return
        assert fits
        users = {one.user_id for one in asked}
        if any(one.user_id in users and one not in asked for one in self.budgets):
            self.excess += amount  # the user's other budget was not around this call
        self.holds.append((hold, amount, tuple(asked), self.now))

    @precondition(lambda self: self.holds)
    @rule(position=positions, percent=st.sampled_from([0, 50, 100, 130]))
    def settle(self, position: int, percent: int) -> None:
        """Once, whatever it did cost; a second time changes nothing."""
        hold, amount, _, at = self.holds.pop(position % len(self.holds))
        actual = amount * percent / 100
        assert hold.settle(actual) is True
        assert hold.settle(amount + 5) is False
        assert hold.release() is False
        self.excess += max(actual - amount, Decimal(0))
        self.spends.append((at, hold.call_id, actual))

    @precondition(lambda self: self.holds)
    @rule(position=positions)
    def release(self, position: int) -> None:
        """Gives back exactly what was held."""
        hold, _, _, _ = self.holds.pop(position % len(self.holds))
        assert hold.release() is True
        assert hold.settle(1) is False

    @rule(own=st.integers(0, 3), amount=cents)
    def record(self, own: int, amount: Decimal) -> None:
        """Adds what was spent elsewhere, whatever the limit."""
        user = self.budgets[own].user_id
        self.ledger.record("gpt-4o-mini", "f", user, 1, 1, cost_usd=amount)
        self.excess += amount
        self.spends.append((self.now, "", amount))

    @rule(minutes=st.sampled_from([1, 29, 61, 90, 24 * 60]))
    def pass_time(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def no_limit_is_passed(self) -> None:
        """But for what was recorded without asking or cost more than was held for it."""
        for one in self.budgets:
            balance = one._balance()
            together = balance.spent_pico + balance.reserved_pico
            assert together <= to_pico(one.limit_usd or 0) + to_pico(self.excess)
            assert one.remaining_usd is not None
            assert one.remaining_usd >= 0

    @invariant()
    def what_is_held_is_reserved(self) -> None:
        """Or charged, where the clock has passed its lease and nobody renewed it."""
        app = self.budgets[0]
        lapsed = {entry.call_id for entry in self.ledger.provisional()}
        held = [
            amount
            for hold, amount, asked, _ in self.holds
            if app in asked and hold.call_id not in lapsed
        ]
        assert app.reserved_usd == sum(held, Decimal(0))

    @invariant()
    def no_alert_is_sent_twice(self) -> None:
        fixed = [alert for alert in self.alerts if not str(alert[1]).startswith("rolling")]
        assert len(fixed) == len(set(fixed))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, for many short-lived files."""
    shared_memory = Path("/dev/shm")
    where = tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None)
    yield Path(where)
    shutil.rmtree(where)


def test_budgets_hold_in_memory():
    """Nested budgets, moving windows, holds, records, releases and overruns in any order."""

    class Machine(BudgetMachine):
        def open_store(self) -> Any:
            return MemoryStore()

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_budgets_hold_in_a_file(folder: Path):
    """The same, kept by SQLite."""
    numbers = iter(range(10**9))

    class Machine(BudgetMachine):
        def open_store(self) -> Any:
            return SQLiteStore(folder / f"{next(numbers)}.db", synchronous="NORMAL")

    run_state_machine_as_test(Machine, settings=SETTINGS)

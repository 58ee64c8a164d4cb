"""A back-test: the calls of a ledger, sent again on paper under budgets that were never there.

The real accounting decides, in a ledger in memory whose clock is that of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from costtrace.accounting import CostLedger
from costtrace.accounting.summaries import source_of
from costtrace.api import Budget, budget
from costtrace.cli.limits import EVERYONE, Limit
from costtrace.cli.output import progress
from costtrace.entry import Alert, CostEntry
from costtrace.exceptions import BudgetExceededError
from costtrace.instant import EPOCH
from costtrace.stores import MemoryStore
from costtrace.stores.base import Query

_EVERY = 2_000


@dataclass(slots=True)
class UserReplay:
    """What became of one user's calls."""

    user_id: str
    limit: Limit
    calls: int = 0
    spent_usd: Decimal = Decimal(0)
    """What went through."""
    refused: list[CostEntry] = field(default_factory=list)
    tight_calls: int = 0
    """Calls that went through at what they cost, though not all that was reserved fitted."""
    highest_usd: Decimal = Decimal(0)
    """The most that was spent in one window."""

    @property
    def refused_usd(self) -> Decimal:
        """What the refused calls had cost."""
        return sum((entry.cost_usd or Decimal(0) for entry in self.refused), Decimal(0))


@dataclass(slots=True)
class Replay:
    """What a back-test found."""

    source: str
    users: list[UserReplay]
    calls: int = 0
    unpriced_calls: int = 0
    alerts: list[tuple[datetime, Alert]] = field(default_factory=list)


def replay(
    ledger: CostLedger,
    limits: Mapping[str, Limit],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Replay:
    """Send the ledger's calls again under these limits, in the order they were authorized in."""
    entries = ledger.store.entries(Query(since=since, until=until))
    calls = sorted((e for e in entries if e.adjusts is None), key=lambda e: e.timestamp)
    found = Replay(source_of(ledger.store), [])
    runner = _Runner(limits, found)
    for position, entry in enumerate(calls):
        if position % _EVERY == 0:
            progress(f"{position:,} of {len(calls):,} calls")
        runner.send(entry)
    progress("")
    runner.ledger.close()
    return found


class _Runner:
    """The ledger on paper, and the budgets of those who have a limit in it."""

    def __init__(self, limits: Mapping[str, Limit], found: Replay) -> None:
        self._limits = limits
        self._found = found
        self._now = EPOCH
        self._budgets: dict[str, tuple[Budget, UserReplay]] = {}
        self.ledger = CostLedger(
            store=MemoryStore(), clock=lambda: self._now, alert_at=None, on_alert=self._hear
        )

    def send(self, entry: CostEntry) -> None:
        """Send one call again."""
        limit = self._limits.get(entry.user_id) or self._limits.get(EVERYONE)
        if limit is None:
            return
        self._now = entry.timestamp
        self._found.calls += 1
        purse, user = self._purse(entry.user_id, limit)
        user.calls += 1
        cost_usd = entry.cost_usd
        if cost_usd is None:
            self._found.unpriced_calls += 1
            return
        left = purse.remaining_usd or Decimal(0)
        try:
            purse.authorize(cost_usd).settle(cost_usd)
        except BudgetExceededError:
            user.refused.append(entry)
            return
        user.spent_usd += cost_usd
        user.tight_calls += (entry.reserved_usd or cost_usd) > left
        user.highest_usd = max(user.highest_usd, purse.spent_usd)

    def _purse(self, user_id: str, limit: Limit) -> tuple[Budget, UserReplay]:
        if user_id not in self._budgets:
            user = UserReplay(user_id, limit)
            self._found.users.append(user)
            purse = budget(user_id, limit.amount, window=limit.window, ledger=self.ledger)
            self._budgets[user_id] = (purse, user)
        return self._budgets[user_id]

    def _hear(self, alert: Alert) -> None:
        self._found.alerts.append((self._now, alert))

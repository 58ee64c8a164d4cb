"""The parts of a ledger sum to its total exactly, however it is grouped."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from costtrace import CostLedger, Usage

ENTRIES = int(os.environ.get("COSTTRACE_TEST_ENTRIES", "3000"))
MODELS = ("gpt-4o", "gpt-4o-mini", "o3", "claude-opus-4-8", "claude-haiku-4-5", "gpt-5.6-sol")
DIMENSIONS = ("function_name", "user_id", "model", "provider", "day", "call_path", "tag:team")
START = datetime(2026, 10, 1, tzinfo=timezone.utc)


def fill(ledger: CostLedger) -> Decimal:
    """Record random calls of every kind; return the sum of what each did cost."""
    rng, total = random.Random(7), Decimal(0)
    for n in range(ENTRIES):
        sent, made = rng.randrange(1, 400_000), rng.randrange(1, 9_000)
        cached = rng.randrange(sent)
        cost = ledger.record(
            rng.choice(MODELS),
            f"function{n % 7}",
            f"user{n % 11}",
            sent,
            made,
            usage=Usage(input_tokens=sent, output_tokens=made, cache_read_tokens=cached),
            service_tier=rng.choice(("standard", "batch")),
            tags={"team": f"team{n % 3}"} if n % 5 else {},
            call_path=("main", f"function{n % 7}"),
            timestamp=START + timedelta(minutes=n % 40_000),
        )
        assert cost is not None
        total += cost
    return total


def test_every_grouping_is_exact(any_ledger: Any):
    """By each dimension and by every pair of them, equal to the sum of the single calls."""
    total = fill(any_ledger)
    assert any_ledger.total_cost == total
    for by in (*combinations(DIMENSIONS, 1), *combinations(DIMENSIONS, 2)):
        rows = any_ledger.totals(by)
        assert sum((row.cost_usd for row in rows), Decimal(0)) == total, by
        assert sum(row.calls for row in rows) == ENTRIES
    middle = START + timedelta(days=3)
    assert any_ledger.spent(until=middle) + any_ledger.spent(since=middle) == total


@pytest.mark.parametrize("amount", [2**53 - 1, 2**53 + 1, 2**61 + 1])
def test_large_sums_stay_exact(any_ledger: Any, amount: int):
    """Beyond what a double can hold, to the picodollar."""
    cost = Decimal(amount).scaleb(-12)
    any_ledger.record("gpt-4o", "f", "alice", 0, 0, cost_usd=cost)
    any_ledger.record("gpt-4o", "f", "alice", 0, 0, cost_usd=Decimal("1e-12"))
    assert any_ledger.total_cost == Decimal(amount + 1).scaleb(-12)
    assert any_ledger.totals("user_id")[0].cost_usd == any_ledger.total_cost

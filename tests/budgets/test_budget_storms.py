"""At no moment can what was billed pass the limit: hundreds of parallel calls of every kind."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import budget_storm as storm
import pytest

from costtrace import CostLedger, budget
from costtrace.testing import LoopbackProvider

LIMITS = ("0.004", "0.02", "5")


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("run", [storm.in_threads, storm.in_tasks])
def test_no_storm_passes_the_limit(
    run: Any, limit: str, provider: LoopbackProvider, any_ledger: CostLedger
):
    """Plain, streamed, with and without a cap, with tools, cut, late, refused, cancelled."""
    provider.script(storm.script)
    purse = budget("alice", limit, ledger=any_ledger, alert_at=None)
    with storm.watched(purse) as left:
        said = Counter(run(provider, purse, storm.plan(seed=int(limit[-1]), count=200)))
    storm.check(provider, any_ledger, purse)
    assert min(left, default=Decimal(0)) >= 0
    assert said["sent"] > 0
    assert (said["refused"] > 0) == (limit != "5")

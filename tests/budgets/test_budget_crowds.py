"""Tasks and threads on one ledger object at once: what was acknowledged is what is counted."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from costtrace import CostLedger, MemoryStore, SQLiteStore, budget

CALLS = int(os.environ.get("COSTTRACE_TEST_CALLS", "2000"))
TASKS, THREADS = 64, 8
CENT = Decimal("0.01")


@pytest.fixture(params=["memory", "sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    store: Any = MemoryStore()
    if request.param == "sqlite":
        store = SQLiteStore(tmp_path / "costs.db", synchronous="NORMAL", timeout_s=60)
    with CostLedger(store=store) as ledger:
        yield ledger
        assert ledger.verify() == []


def test_tasks_and_threads_on_one_ledger(shared: CostLedger, openai_client: Any, provider: Any):
    """Half of the calls by hand in threads, half through the async SDK in tasks; none is lost."""
    purse = budget("alice", 10_000, ledger=shared, alert_at=None)
    acknowledged: list[Decimal] = []

    def by_hand(count: int) -> None:
        for number in range(count):
            purse.authorize(CENT).settle(CENT * (number % 3) / 2)
            acknowledged.append(CENT * (number % 3) / 2)

    async def in_task(client: Any, count: int) -> None:
        for _ in range(count):
            with purse:
                await client.chat.completions.create(
                    model="gpt-4o-mini", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
                )

    async def in_tasks() -> None:
        async with provider.async_openai(max_retries=0) as client:
            each = max(CALLS // 20 // TASKS, 1)
            await asyncio.gather(*(in_task(client, each) for _ in range(TASKS)))

    with ThreadPoolExecutor(THREADS) as pool:
        loop = threading.Thread(target=lambda: asyncio.run(in_tasks()))
        loop.start()
        for done in [pool.submit(by_hand, CALLS // THREADS) for _ in range(THREADS)]:
            done.result()
        loop.join()

    sdk = [entry for entry in shared.entries if entry.operation == "chat"]
    assert len(sdk) == max(CALLS // 20 // TASKS, 1) * TASKS
    assert len(shared.entries) == len(sdk) + CALLS // THREADS * THREADS
    known = sum((entry.cost_usd or Decimal(0) for entry in sdk), Decimal(0))
    assert purse.spent_usd == known + sum(acknowledged, Decimal(0))
    assert purse.reserved_usd == 0

"""Processes that work under one budget: `python budget_workers.py NAME PATH ...`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run_all(name: str, count: int, *arguments: object) -> list[str]:
    """Run several of a kind at once; return all that they said."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, name, *map(str, arguments), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for n in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = []
    for worker in workers:
        lines, _ = worker.communicate(timeout=100)
        assert worker.returncode in (0, 9)
        said += lines.splitlines()
    return said


def ready() -> None:
    """Wait for the others."""
    print("ready", flush=True)
    sys.stdin.readline()


def shared(path: str, **options: Any) -> Any:
    """The ledger in a file; a loaded machine may let a process wait for long."""
    from costtrace import CostLedger, SQLiteStore

    return CostLedger(store=SQLiteStore(path, timeout_s=60), **options)


def race(path: str, n: str) -> None:
    """Take 7 of 1000 as often as it fits."""
    from costtrace import BudgetExceededError, budget

    with shared(path) as ledger:
        b = budget("alice", "0.000000001", ledger=ledger)
        ready()
        for _ in range(60):
            try:
                b.authorize("0.000000000007").settle("0.000000000007")
            except BudgetExceededError:
                continue
            print("admitted")


def cross(path: str, n: str) -> None:
    """Spend on ten budgets until all are beyond both thresholds."""
    from costtrace import budget

    with shared(path) as ledger:
        purses = [
            budget(f"u{k}", 1, window="month", alert_at=(0.5, 0.9), ledger=ledger)
            for k in range(10)
        ]
        ledger.on_alert(lambda alert: print(alert.user_id, alert.threshold))
        ready()
        for _ in range(16):
            for purse in purses:
                purse.record("0.01")


def die_before_delivery(path: str, n: str) -> None:
    """Cross a threshold, and be gone before anybody hears of it."""
    from costtrace import budget

    ledger = shared(path)
    ledger.on_alert(lambda _: os._exit(9))
    ready()
    budget("alice", 1, ledger=ledger).record("0.95")


def calls(path: str, url: str, limit: str, n: str) -> None:
    """Make the calls of a storm against the provider of another process."""
    import anthropic
    import budget_storm as storm
    import openai

    from costtrace import budget

    class Provider:
        def openai(self, **options: object) -> object:
            return openai.OpenAI(api_key="x", base_url=f"{url}/v1", **options)

        def anthropic(self, **options: object) -> object:
            return anthropic.Anthropic(api_key="x", base_url=url, **options)

    with shared(path) as ledger:
        purse = budget("alice", limit, ledger=ledger, alert_at=None)
        ready()
        for outcome in storm.in_threads(Provider(), purse, storm.plan(int(n), 50), threads=8):
            print(outcome)


def rollover(path: str, n: str) -> None:
    """Work across the boundary of a window, on a clock that moves with the steps."""
    from datetime import datetime, timedelta, timezone

    from costtrace import budget

    now = [datetime(2026, 11, 20, 23, 59, 30, tzinfo=timezone.utc)]
    with shared(path, clock=lambda: now[0]) as ledger:
        b = budget("alice", 1, window="day", ledger=ledger)
        ready()
        for _ in range(40):
            hold = b.authorize("0.001")
            now[0] += timedelta(seconds=1.5)
            hold.settle(Decimal("0.001"))


WORKERS: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (race, cross, die_before_delivery, calls, rollover)
}

if __name__ == "__main__":
    WORKERS[sys.argv[1]](*sys.argv[2:])

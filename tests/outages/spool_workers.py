"""Processes whose store is away: `python spool_workers.py WORK KIND ADDRESS ...`.

KIND and ADDRESS are `sqlite` and a path, `postgres` and a connection string, or `redis` and a port.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def opened(kind: str, address: str, timeout_s: float = 0.3) -> Any:
    """The store at this address."""
    from costtrace import DBAPIStore, RedisStore, SQLiteStore

    if kind == "sqlite":
        return SQLiteStore(address, timeout_s=timeout_s)
    if kind == "postgres":
        import psycopg

        return DBAPIStore(lambda: psycopg.connect(address), timeout_s=timeout_s)
    import redis

    return RedisStore(redis.Redis(host="127.0.0.1", port=int(address)), timeout_s=timeout_s)


def started(work: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that reads lines and says lines."""
    return subprocess.Popen(
        [sys.executable, __file__, work, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
    )


def heard(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def told(process: subprocess.Popen[str], line: str = "") -> None:
    """Let it go on."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def record(kind: str, address: str, prefix: str, count: str) -> None:
    """Open the ledger; when told, record calls for as long as nobody kills us."""
    from costtrace import CostLedger

    ledger = CostLedger(store=opened(kind, address))
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        ledger.record("gpt-4o-mini", "f", "alice", 1_000, 0, call_id=f"{prefix}-{number}")
        print(f"{prefix}-{number}", flush=True)
    print("all", flush=True)
    sys.stdin.readline()


def adopt(kind: str, address: str) -> None:
    """Open the ledger when told, and say how much of dead processes was found."""
    from costtrace import CostLedger

    print("ready", flush=True)
    sys.stdin.readline()
    ledger = CostLedger(store=opened(kind, address, 30))
    ledger.flush()
    print(ledger.health().recovered, flush=True)
    ledger.close()


def fill(address: str, calls: str) -> None:
    """Record with no room left on the disk from the middle on; then there is room again."""
    from costtrace import CostLedger

    ledger = CostLedger(store=opened("sqlite", address))
    for number in range(int(calls)):
        if number == int(calls) // 4:
            largest = max(os.stat(address + end).st_size for end in ("", "-wal"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        ledger.record("gpt-4o-mini", "f", "alice", 1_000, 0, call_id=f"c{number}")
    print(ledger.health().waiting, ledger.health().unspooled, ledger.flush(), flush=True)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    print(ledger.flush(), len(ledger.entries), len(ledger.verify()), flush=True)


WORK: dict[str, Callable[..., None]] = {work.__name__: work for work in (record, adopt, fill)}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])

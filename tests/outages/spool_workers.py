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
    from workers import at_work  # of the stores' tests; what is started here does not see them

    process = subprocess.Popen(
        [sys.executable, __file__, work, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
    )
    at_work.append(process)
    return process


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


def fork_and_call(path: str, url: str, user: str, state: str) -> None:
    """As that user call a provider under a budget; when told, fork, and call under two policies."""
    from openai import OpenAI

    from costtrace import BudgetStoreError, CostLedger, budget

    def call(ledger: CostLedger, user_id: str, on_store_error: Any = "refuse") -> None:
        with budget(user_id, 1, on_store_error=on_store_error, ledger=ledger):
            client.chat.completions.create(
                model="gpt-4o-mini", max_tokens=20, messages=[{"role": "user", "content": "hi"}]
            )

    client = OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0)
    with CostLedger(path=f"{path}-first") as ledger:
        call(ledger, "first")  # what is imported late, that user may not be able to read
    if os.getuid() != int(user):
        os.setgid(int(user))
        os.setuid(int(user))
    os.environ["XDG_STATE_HOME"] = state
    ledger = CostLedger(path=path)
    call(ledger, "parent")
    print("called", flush=True)
    sys.stdin.readline()
    if (child := os.fork()) != 0:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    try:
        call(ledger, "child")
    except BudgetStoreError as error:
        print(type(error).__name__, error, flush=True)
    call(ledger, "child", "allow")
    print(f"answered, flushed: {ledger.flush()}", flush=True)
    sys.stdin.readline()
    print(f"flushed: {ledger.flush()}", flush=True)
    sys.stdin.readline()


def call_when_told(kind: str, address: str, url: str, limit: str) -> None:
    """Call a provider in the name of each user that a line says; say what became of it."""
    from openai import OpenAI

    from costtrace import CostLedger, CosttraceError, budget
    from costtrace.accounting import outage

    outage.SLOW_S = 60.0  # the server says no at once, however busy the machine is
    ledger = CostLedger(store=opened(kind, address, 30))
    client = OpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0)
    ask: Any = [{"role": "user", "content": "0123456789abcdef"}]
    print("open", flush=True)
    for line in sys.stdin:
        if line.strip() == "reseed":
            print(ledger.store.reseed(), flush=True)  # type: ignore[attr-defined]
            continue
        if line.strip() == "flush":
            print(ledger.flush(), flush=True)
            continue
        try:
            with budget(line.strip(), limit, ledger=ledger):
                client.chat.completions.create(model="gpt-4o-mini", messages=ask, max_tokens=20)
            print("answered", flush=True)
        except CosttraceError as error:
            print(type(error).__name__, flush=True)


WORK: dict[str, Callable[..., None]] = {
    work.__name__: work for work in (record, adopt, fill, fork_and_call, call_when_told)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])

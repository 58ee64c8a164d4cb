"""What a ledger in a file costs: `python -m tests.benchmarks.stores`, and `... sizes [entries]`.

The store is measured beside the bare minimum for the same guarantee, in turns within one run; see
`writers`. The ratio is the figure; the absolute numbers are the machine's. The least is:

    record   one transaction: a row, unless its id is there, and a sum that it is added to
    pair     two: check the sum and hold an amount; replace the hold by a row and move the sum

with the same `synchronous`, one process or eight. The bare side waits for SQLite's own lock
(`busy_timeout`: quick, since it starves all but one: see the column `even`), and, with eight, as
another side also for a blocking `flock`. What a ledger in memory costs is in `records`.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from costtrace.entry import CostEntry
from costtrace.stores import MemoryStore, SQLiteStore
from costtrace.stores.base import ALWAYS, Hold, Limit, Store
from costtrace.stores.rows import facts_of
from costtrace.stores.upkeep import Upkeep
from costtrace.usage import Usage
from tests.benchmarks.writers import HEADING, Side, Step, Steps, compare

OWNERS = ("ledger", "user:alice")
LIMITS = (Limit("user:alice", ALWAYS, 10**18),)
START = datetime(2026, 11, 22, tzinfo=timezone.utc)


def calls(count: int) -> Iterator[CostEntry]:
    """Calls with every common field filled in, of 100 users, over 30 days."""
    for n in range(count):
        yield CostEntry(
            model="gpt-4o-mini-2024-07-18",
            function_name=f"function_{n % 20}",
            user_id=f"user-{n % 100}",
            usage=Usage(1200 + n % 500, n % 700, 1024, reasoning_tokens=n % 64),
            cost_usd=Decimal(315_000 + n).scaleb(-9),
            timestamp=START + timedelta(microseconds=n * 2_592_000),
            call_id=os.urandom(16).hex(),
            provider="openai",
            operation="chat",
            request_model="gpt-4o-mini",
            call_path=("serve", f"function_{n % 20}"),
            tags={"team": "blue"},
            reserved_usd=Decimal("0.0012"),
            duration_s=0.731 + n / 1e7,
            response_id=f"chatcmpl-{os.urandom(15).hex()[:29]}",
            price_id="gpt-4o-mini@2024-07-18",
        )


BARE_TABLES = (
    "CREATE TABLE entry (call_id TEXT UNIQUE, cost INTEGER)",
    "CREATE TABLE hold (call_id TEXT PRIMARY KEY, cost INTEGER) WITHOUT ROWID",
    "CREATE TABLE budget (spent INTEGER, reserved INTEGER)",
    "INSERT INTO budget VALUES (0, 0)",
)


class BareMemory:
    """A dict and a lock: what a budget needs at the very least."""

    def __init__(self) -> None:
        self._lock, self._held, self._spent, self._entries = threading.Lock(), {}, [0, 0], []

    def pair(self, call: CostEntry) -> None:
        """Reserve and settle."""
        with self._lock:
            if self._spent[0] + self._spent[1] + 700 <= 10**18:
                self._held[call.call_id] = 700
                self._spent[1] += 700
        with self._lock:
            self._spent[1] -= self._held.pop(call.call_id)
            self._spent[0] += 700
            self._entries.append(call)


class BareFile:
    """A table of rows, one of holds, and a sum: what a durable budget needs at the very least."""

    def __init__(self, path: Path, synchronous: str, *, with_flock: bool = False) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._run = self._file.execute
        self._run("PRAGMA journal_mode=WAL")
        self._run(f"PRAGMA synchronous={synchronous}")
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT) if with_flock else None

    def make(self) -> None:
        """Make the tables."""
        for statement in BARE_TABLES:
            self._run(statement)

    def steps(self) -> Steps:
        """Return what a record and a pair do."""
        return {
            "record": [self._alone(self._record)],
            "pair": [self._alone(self._reserve), self._alone(self._settle)],
        }

    def _alone(self, work: Callable[[str], None]) -> Step:
        def step(call: CostEntry) -> None:
            if self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._run("BEGIN IMMEDIATE")
            work(call.call_id)
            self._run("COMMIT")
            if self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

        return step

    def _record(self, call_id: str) -> None:
        if self._run("INSERT OR IGNORE INTO entry VALUES (?, 700)", (call_id,)).rowcount:
            self._run("UPDATE budget SET spent = spent + 700")

    def _reserve(self, call_id: str) -> None:
        spent, reserved = self._run("SELECT spent, reserved FROM budget").fetchone()
        if spent + reserved + 700 > 10**18:
            return
        if self._run("INSERT OR IGNORE INTO hold VALUES (?, 700)", (call_id,)).rowcount:
            self._run("UPDATE budget SET reserved = reserved + 700")

    def _settle(self, call_id: str) -> None:
        if self._run("DELETE FROM hold WHERE call_id = ?", (call_id,)).rowcount:
            self._run("INSERT INTO entry VALUES (?, 700)", (call_id,))
            self._run("UPDATE budget SET reserved = reserved - 700, spent = spent + 700")


def record_in(store: Store) -> Callable[[CostEntry], None]:
    """Return what enters a call."""
    return lambda call: store.settle(call, OWNERS) and None


def pair_in(store: Store) -> Callable[[CostEntry], None]:
    """Return what reserves and settles a call."""

    def pair(call: CostEntry) -> None:
        store.reserve(Hold(call, OWNERS, LIMITS))
        store.settle(call, OWNERS)

    return pair


def ours(store: Store) -> Steps:
    """Return what a record and a pair do."""
    return {"record": [record_in(store)], "pair": [pair_in(store)]}


def speeds() -> None:
    """Print the stores next to the bare minimum."""
    print(HEADING)
    for synchronous in ("NORMAL", "FULL"):
        with tempfile.TemporaryDirectory() as folder:
            compare(f"sqlite {synchronous}", file_sides(Path(folder), synchronous))


def file_sides(folder: Path, synchronous: Any) -> list[Side]:
    """Return the bare files and the store."""
    bare, locked, ledger = (folder / name for name in ("bare.db", "locked.db", "ledger.db"))
    BareFile(bare, synchronous).make()
    BareFile(locked, synchronous).make()
    SQLiteStore(ledger).close()
    return [
        Side("bare", lambda: BareFile(bare, synchronous).steps()),
        Side(
            "bare with flock",
            lambda: BareFile(locked, synchronous, with_flock=True).steps(),
            writers=(8,),
        ),
        Side(
            "SQLiteStore",
            lambda: ours(SQLiteStore(ledger, synchronous=synchronous, timeout_s=30)),
        ),
    ]


def sizes(count: int) -> None:
    """Print what many entries take, and how long a report over them does."""
    for name, fill in (("memory", fill_memory), ("sqlite", fill_sqlite)):
        with tempfile.TemporaryDirectory() as folder:
            store, note = fill(count, Path(folder))
            print(f"{name}: {count:,} entries, {note}")
            for by in (["function_name"], ["user_id", "model"], ["day"], ["tag:team"]):
                begin = time.perf_counter()
                groups = len(store.totals(by))
                print(f"  totals by {by}: {groups} in {time.perf_counter() - begin:.3f} s")
            begin = time.perf_counter()
            gc.collect()
            print(f"  full garbage collection: {(time.perf_counter() - begin) * 1000:.0f} ms")
            begin, first = time.perf_counter(), list(zip(range(20_000), store.entries()))  # noqa: B905
            took = time.perf_counter() - begin
            print(f"  reading entries: {took / len(first) * 1e6:.1f} us each", flush=True)
            begin = time.perf_counter()
            found = store.verify()
            print(f"  verify: {time.perf_counter() - begin:.1f} s, {found}", flush=True)
            store.close()


def fill_memory(count: int, _: Path) -> tuple[Store, str]:
    """Return a full MemoryStore and what it takes."""
    store, rates, before = MemoryStore(), [], resident()
    for part in range(10):
        begin = time.process_time()
        for call in calls(count // 10):
            moved = replace(call, timestamp=call.timestamp + timedelta(days=3 * part))
            store.settle(moved, ("ledger", f"user:{call.user_id}"))
        rates.append((time.process_time() - begin) / (count // 10) * 1e6)
    each = (resident() - before) / count
    return store, f"{each:.0f} bytes each, first tenth {rates[0]:.1f} us, last {rates[-1]:.1f} us"


def fill_sqlite(count: int, folder: Path) -> tuple[Store, str]:
    """Return a full SQLiteStore and what it takes."""
    store = SQLiteStore(folder / "ledger.db", synchronous="NORMAL")
    todo = calls(count)
    for _ in range(0, count, 10_000):
        with store._database.write() as run:
            steps = Upkeep(run)
            for _, call in zip(range(10_000), todo):  # noqa: B905
                steps.settle(facts_of(call), ("ledger", f"user:{call.user_id}"), (), 0, False)
    store.flush()
    return store, f"{store.path.stat().st_size / count:.0f} bytes each on disk"


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    if sys.argv[1:2] == ["sizes"]:
        sizes(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    else:
        speeds()

"""What stores cost: `python -m tests.benchmarks.stores [entries] [rounds]`.

Each store is measured beside the bare minimum for the same guarantee, in turns within one run: a
dict and a lock, or one commit. The ratio is the figure; the absolute numbers are the machine's.
"""

from __future__ import annotations

import gc
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from costtrace.entry import CostEntry
from costtrace.stores import MemoryStore, SQLiteStore
from costtrace.stores.base import ALWAYS, Hold, Limit, Store
from costtrace.stores.rows import facts_of
from costtrace.stores.upkeep import Upkeep
from costtrace.usage import Usage

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
    """Two commits of one row: what durability costs at the very least."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute(f"PRAGMA synchronous={synchronous}")
        self._file.execute("CREATE TABLE IF NOT EXISTS entry (call_id TEXT UNIQUE, cost INTEGER)")

    def record(self, call: CostEntry) -> None:
        """Commit one row."""
        self._file.execute("INSERT INTO entry VALUES (?, ?)", (call.call_id, 700))

    def pair(self, call: CostEntry) -> None:
        """Commit one row, and change it."""
        self.record(call)
        self._file.execute("UPDATE entry SET cost = 600 WHERE call_id = ?", (call.call_id,))


def record_in(store: Store) -> Callable[[CostEntry], None]:
    """Return what enters a call."""
    return lambda call: store.settle(call, OWNERS) and None


def pair_in(store: Store) -> Callable[[CostEntry], None]:
    """Return what reserves and settles a call."""

    def pair(call: CostEntry) -> None:
        store.reserve(Hold(call, OWNERS, LIMITS))
        store.settle(call, OWNERS)

    return pair


def rate(work: Callable[[CostEntry], None], todo: list[CostEntry]) -> tuple[float, float]:
    """Return calls per second, and the 99th percentile of one in microseconds."""
    times = []
    begin = time.perf_counter()
    for call in todo:
        before = time.perf_counter_ns()
        work(call)
        times.append(time.perf_counter_ns() - before)
    return len(todo) / (time.perf_counter() - begin), statistics.quantiles(times, n=100)[98] / 1000


def threaded_rate(work: Callable[[CostEntry], None], todo: list[CostEntry]) -> tuple[float, float]:
    """Return calls per second of eight threads, and slowest by fastest."""
    took = [0.0] * 8

    def run(number: int) -> None:
        begin = time.perf_counter()
        for call in todo[number::8]:
            work(call)
        took[number] = time.perf_counter() - begin

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(todo) / (time.perf_counter() - begin), min(took) / max(took)


def speeds(rounds: int) -> None:
    """Print rates of the stores next to the bare minimum."""
    print(f"{'':34}{'per second':>12}{'p99 us':>10}")
    for _ in range(rounds):
        todo = list(calls(10_000))
        show("memory: bare pair", *rate(BareMemory().pair, todo))
        show("memory: record", *rate(record_in(MemoryStore()), todo))
        show("memory: pair", *rate(pair_in(MemoryStore()), todo))
        show("memory: bare pair, 8 threads *", *threaded_rate(BareMemory().pair, todo))
        show("memory: pair, 8 threads *", *threaded_rate(pair_in(MemoryStore()), todo))
        for synchronous in ("NORMAL", "FULL"):
            with tempfile.TemporaryDirectory() as folder:
                bare = BareFile(Path(folder, "bare.db"), synchronous)
                store = SQLiteStore(Path(folder, "ledger.db"), synchronous=synchronous)  # type: ignore[arg-type]
                show(f"sqlite {synchronous}: bare commit", *rate(bare.record, todo[:1000]))
                show(f"sqlite {synchronous}: record", *rate(record_in(store), todo[:1000]))
                show(f"sqlite {synchronous}: bare pair", *rate(bare.pair, todo[1000:1500]))
                show(f"sqlite {synchronous}: pair", *rate(pair_in(store), todo[1000:1500]))
                store.close()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ledger.db")
            SQLiteStore(path).close()
            show("sqlite FULL: pair, 8 processes *", *processes_rate(path))
    print("* second figure: slowest by fastest of the eight")


def processes_rate(path: Path) -> tuple[float, float]:
    """Return pairs per second of eight processes, and slowest by fastest."""
    command = [sys.executable, "-m", "tests.benchmarks.stores", "worker", str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    pairs = [int(process.communicate()[0]) for process in running]
    return sum(pairs) / 4, min(pairs) / max(pairs)


def worker(path: str) -> None:
    """Reserve and settle for four seconds from the next even one on, and say how often."""
    store, todo = SQLiteStore(path, timeout_s=30), list(calls(20_000))
    begin = time.time() // 4 * 4 + 8
    time.sleep(begin - time.time())
    pair, pairs = pair_in(store), 0
    while time.time() < begin + 4:
        pair(todo[pairs])
        pairs += 1
    print(pairs)


def show(what: str, first: float, second: float) -> None:
    """Print a line."""
    print(f"{what:34}{first:12,.0f}{second:10.2f}", flush=True)


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
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2])
    else:
        numbers = [int(text) for text in sys.argv[1:]]
        speeds(numbers[1] if len(numbers) > 1 else 2)
        sizes(numbers[0] if numbers else 1_000_000)

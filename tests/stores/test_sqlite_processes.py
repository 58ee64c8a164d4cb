"""Many processes on one ledger file: no limit passed, nothing lost, nobody starved."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

import pytest
from store_calls import Clock
from store_workers import Worker, run_all

from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS, Balance

KILLS = int(os.environ.get("COSTTRACE_TEST_KILLS", "10"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty ledger."""
    path = tmp_path / "ledger.db"
    SQLiteStore(path, synchronous="NORMAL").close()
    return path


def reopened(path: Path) -> SQLiteStore:
    """The ledger afterwards; all of it agrees."""
    store = SQLiteStore(path)
    assert store.verify() == []
    return store


def test_race_admits_exactly_what_fits(path: Path) -> None:
    """Eight processes try 60 times each to take 7 of 1000: 142 times it fits."""
    admitted = [int(said[0]) for said in run_all("race", 8, path, 60)]

    store = reopened(path)
    assert sum(admitted) == 142
    assert store.balance("user:alice", ALWAYS) == Balance(994, 0, 142 * 15, 0, 142, 0)
    store.close()


def test_race_can_be_seen(path: Path) -> None:
    """The same without a reservation spends too much: the race above is one."""
    admitted = [int(said[0]) for said in run_all("naive_race", 8, path, 60)]

    assert sum(admitted) > 142


def test_each_threshold_is_crossed_in_one_process(path: Path) -> None:
    """Six processes spend on ten owners: each of twenty thresholds fires once in all."""
    crossed = [key for said in run_all("cross", 6, path, 60) for key in said]

    assert sorted(crossed) == sorted(f"user:{n}|{at}" for n in range(10) for at in (50, 90))
    reopened(path).close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_killed_writers_lose_nothing(path: Path, synchronous: str) -> None:
    """What was acknowledged before kill -9 is there, once, and what was held lapses."""
    settled: set[str] = set()
    held: set[str] = set()
    for _ in range(KILLS // 2 or 1):
        workers = [Worker("write", path, synchronous) for _ in range(2)]
        for worker in workers:
            worker.go()
        time.sleep(random.uniform(0.05, 0.25))
        for line in (line for worker in workers for line in worker.kill()):
            state, call_id = line.split(" ")
            (settled if state == "settled" else held).add(call_id)
        store = reopened(path)
        entered = [call.call_id for call in store.entries()]
        assert len(entered) == len(set(entered))
        assert settled <= set(entered)
        store.close()

    store, clock = reopened(path), Clock()
    clock.now_us = time.time_ns() // 1000 + 61_000_000
    store.use_clock(clock)
    store.lapse()
    assert store.balance("user:alice", ALWAYS).reserved_pico == 0
    assert held <= {call.call_id for call in store.entries()}
    assert store.balance("user:alice", ALWAYS).spent_pico == store.sums().entries
    store.close()


def test_saturating_processes_all_get_their_turn(path: Path) -> None:
    """Eight processes that never pause each do their share, and none waits a second."""
    said = [line.split(" ") for (line,) in run_all("saturate", 8, path, 4)]

    pairs, waits = [int(count) for count, _ in said], [float(wait) for _, wait in said]
    assert min(pairs) >= 0.5 * max(pairs), pairs
    assert max(waits) <= 1.0, waits
    reopened(path).close()


def test_locks_that_the_application_takes_away_are_not_missed(path: Path) -> None:
    """Opening and closing the ledger's files drops SQLite's locks; not one update is lost."""
    said = [call_id for lines in run_all("meddled", 4, path, 300) for call_id in lines]

    store = reopened(path)
    assert sorted(call.call_id for call in store.entries()) == sorted(said)
    assert store.balance("ledger", ALWAYS).spent_pico == 1200
    store.close()


def test_waiting_for_another_process_ends(path: Path) -> None:
    """A lock that is not given back is an error within the deadline, and passes."""
    from costtrace.exceptions import BudgetStoreError
    from costtrace.stores.filelock import FileLock

    store = SQLiteStore(path, timeout_s=0.2)
    lock = FileLock(path.with_name(path.name + ".lock"))
    assert lock.acquire(time.monotonic())
    before = time.monotonic()
    with pytest.raises(BudgetStoreError, match=r"another process has been writing for 0\.2 s"):
        store.release("call")
    assert 0.2 <= time.monotonic() - before < 1
    assert store.balance("ledger", ALWAYS) == Balance()

    lock.release()
    lock.forget()
    assert store.release("call") is False
    store.close()


def test_foreign_writer_is_waited_for(path: Path) -> None:
    """A shell that holds SQLite's own lock is an error within the deadline, and passes."""
    from costtrace.exceptions import BudgetStoreError

    store = SQLiteStore(path, timeout_s=0.2)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(BudgetStoreError, match="locked"):
        store.release("call")

    shell.execute("ROLLBACK")
    shell.close()
    assert store.release("call") is False
    store.close()

"""Many processes on one ledger file: no limit passed, nothing lost, nobody starved."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from store_calls import ALICE, entry
from store_workers import crew

from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS, Balance

pytestmark = pytest.mark.slow


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


def test_each_threshold_is_crossed_in_one_process(path: Path) -> None:
    """Six processes spend on ten owners: each of twenty thresholds fires once in all."""
    crossed = [key for said in crew.run_all("cross", 6, path, 60) for key in said]

    assert sorted(crossed) == sorted(f"user:{n}|{at}" for n in range(10) for at in (50, 90))
    reopened(path).close()


def test_saturating_processes_all_get_their_turn(path: Path) -> None:
    """Eight processes that never pause each do their share, and none waits a second.

    Up to three times: on a busy machine it may be somebody else who keeps them waiting.
    """
    for _ in range(3):
        said = [line.split(" ") for (line,) in crew.run_all("saturate", 8, path, 4)]
        pairs, waits = [int(count) for count, _ in said], [float(wait) for _, wait in said]
        if is_fair := min(pairs) >= 0.5 * max(pairs) and max(waits) <= 1.0:
            break
    assert is_fair, (pairs, waits)
    reopened(path).close()


def test_locks_that_the_application_takes_away_are_not_missed(path: Path) -> None:
    """Opening and closing the ledger's files drops SQLite's locks; not one update is lost."""
    said = [call_id for lines in crew.run_all("meddled", 4, path, 300) for call_id in lines]

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
    assert 0.2 <= time.monotonic() - before < 5
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


def test_step_sees_what_a_foreign_writer_commits_while_it_waits(path: Path) -> None:
    """A step may write before it reads: what it has read still holds when it writes."""
    store = SQLiteStore(path, timeout_s=5)
    store.settle(entry(5), ALICE)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    shell.execute("INSERT INTO meta VALUES ('note', 'of another program')")
    errors: list[BaseException] = []

    def settle() -> None:
        try:
            store.settle(entry(7), ALICE)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=settle)
    waiting.start()
    waiting.join(0.3)  # by now it waits for the shell
    assert waiting.is_alive()
    shell.execute("COMMIT")
    shell.close()
    waiting.join()

    assert errors == []
    assert store.balance("user:alice", ALWAYS).spent_pico == 12
    store.close()

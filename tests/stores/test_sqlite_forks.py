"""Forks: a child never uses its parent's connection, lock or holds, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from store_calls import ALICE, entry, hold, limit

from costtrace.stores import MemoryStore, SQLiteStore
from costtrace.stores.base import ALWAYS, Store

numbers = count()
FORKS = int(os.environ.get("COSTTRACE_TEST_FORKS", "12"))


def fork(work: Callable[[], None]) -> int:
    """Do something in a forked child and return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads are the point here
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    return pid


def wait_for(pids: list[int]) -> None:
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def spend(store: Store, calls: int) -> Callable[[], None]:
    def work() -> None:
        for number in range(calls):
            call = entry(1, call_id=f"{os.getpid()}-{number}-{next(numbers)}")
            assert store.reserve(hold(call, limit(10**9))) is None
            store.settle(call, ALICE)

    return work


def test_forked_workers_share_the_ledger(tmp_path: Path) -> None:
    """Children forked while a thread of the parent is writing all get their calls in."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL", timeout_s=60)
    stop, written = threading.Event(), 0

    def keep_writing() -> None:
        nonlocal written
        while not stop.is_set():
            store.settle(entry(1, call_id=f"parent-{written}"), ALICE)
            written += 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        pids = []
        for _ in range(FORKS):
            pids.append(fork(spend(store, 20)))
            if len(pids) == 4:
                wait_for(pids)
                pids = []
        wait_for(pids)
    finally:
        stop.set()
        writer.join()

    assert store.sums().calls == written + FORKS * 20
    assert store.balance("user:alice", ALWAYS).spent_pico == written + FORKS * 20
    assert store.verify() == []
    store.close()


def test_child_of_a_child_works_too(tmp_path: Path) -> None:
    """Each generation opens its own connection."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL")

    def child() -> None:
        spend(store, 3)()
        wait_for([fork(spend(store, 3))])

    wait_for([fork(child)])
    spend(store, 3)()

    assert store.sums().calls == 9
    assert store.verify() == []
    store.close()


def test_child_does_not_keep_the_parents_lock(tmp_path: Path) -> None:
    """A child that lives on holds nothing that its parent had locked."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL", timeout_s=30)
    read_end, write_end = os.pipe()
    spend(store, 1)()

    def wait() -> None:
        os.close(write_end)  # the parent's end, however it comes, is the child's as well
        os.read(read_end, 1)

    pid = fork(wait)
    other = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL", timeout_s=30)
    spend(other, 1)()
    spend(store, 2)()
    os.write(write_end, b"x")
    wait_for([pid])
    os.close(read_end), os.close(write_end)
    other.close()
    store.close()


@pytest.mark.parametrize("last", ["the parent", "a sibling", "a stranger"])
def test_nobody_tidies_up_before_a_child_begins(tmp_path: Path, last: str) -> None:
    """SQLite goes on in it with what was inherited, which must not go and be made anew."""
    path = tmp_path / "ledger.db"
    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=60)
    spend(store, 1)()
    pipes = [os.pipe() for _ in range(2)]

    def begin_late(pipe: tuple[int, int]) -> None:
        os.read(pipe[0], 1)
        spend(store, 20)()
        store.close()

    pids = [fork(partial(begin_late, pipe)) for pipe in pipes[: 2 if last == "a sibling" else 1]]
    store.close()
    if last == "a stranger":
        program = "import sys, costtrace; costtrace.CostLedger(path=sys.argv[1]).close()"
        subprocess.run([sys.executable, "-c", program, path], check=True)
    for pid, (_, begin) in zip(pids, pipes, strict=False):  # one after the other
        os.write(begin, b"1")
        wait_for([pid])
    for pipe in pipes:
        for end in pipe:
            os.close(end)

    with_all = SQLiteStore(path)
    assert with_all.sums().entries == 1 + 20 * len(pids)
    assert with_all.verify() == []
    with_all.close()
    assert not path.with_name("ledger.db-shm").exists()  # now the last one was here


def test_parent_may_close_while_children_work(tmp_path: Path) -> None:
    """The log is not tidied away under a child that is still writing to it."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL", timeout_s=60)
    spend(store, 1)()
    pids = [fork(spend(store, 100)) for _ in range(2)]
    store.close()
    wait_for(pids)

    again = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL")
    assert again.sums().calls == 201
    assert again.verify() == []
    again.close()


def test_forked_memory_is_each_ones_own() -> None:
    """A child's memory store goes on by itself, also when a thread was inside it."""
    store = MemoryStore()
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            store.settle(entry(1), ALICE)

    writers = [threading.Thread(target=keep_writing) for _ in range(2)]
    for writer in writers:
        writer.start()

    def child() -> None:
        spend(store, 50)()
        assert store.verify() == []

    try:
        wait_for([fork(child) for _ in range(FORKS)])
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert store.verify() == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the warning is new in 3.12")
def test_fork_warning_is_the_only_one(tmp_path: Path) -> None:
    """Python's own warning about threads is the application's business, and nothing is added."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL")
    wait_for([fork(spend(store, 1))])
    store.close()

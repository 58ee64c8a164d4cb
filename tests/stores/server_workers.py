"""Processes that work on one ledger of any home: `python server_workers.py WORK KIND ADDRESS ...`.

KIND is `postgres` with a connection string, `redis` with a port, or `full` or `normal` with a
SQLite file.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast

from workers import Crew, do, wait_for_go

crew = Crew(__file__)
OWNERS = [f"user:{n}" for n in range(6)]
IN_FLIGHT_LIMIT = 70


def opened(kind: str, address: str, timeout_s: float = 30) -> Any:
    """The store at this address."""
    if kind == "postgres":
        import psycopg

        from costtrace.stores import DBAPIStore

        def connect() -> Any:
            return psycopg.connect(address, application_name=f"pid-{os.getpid()}")

        return DBAPIStore(connect, timeout_s=timeout_s)
    if kind != "redis":
        from costtrace.stores import SQLiteStore

        synchronous = cast(Literal["FULL", "NORMAL"], kind.upper())
        return SQLiteStore(address, synchronous=synchronous, timeout_s=timeout_s)
    import redis

    from costtrace.stores import RedisStore

    name = f"pid-{os.getpid()}"
    client = redis.Redis(host="127.0.0.1", port=int(address), client_name=name)
    return RedisStore(client, timeout_s=timeout_s)


def race(kind: str, address: str, rounds: str, tries: str) -> None:
    """Take 7 out of 1000 as often as it goes, round after round, each with another user.

    In every other round the limit is one of a rolling span.
    """
    from store_calls import Clock, entry, hold, limit

    from costtrace.stores.base import ALWAYS, Span

    noon_us = Clock().now_us
    rolling = Span(noon_us - 3_600_000_000, noon_us, is_rolling=True)
    store = opened(kind, address)
    wait_for_go()
    for number in range(int(rounds)):
        owner, admitted = f"user:race-{number}", 0
        for attempt in range(int(tries)):
            call = entry(7, call_id=f"{os.getpid()}-{number}-{attempt}")
            at_most = limit(1000, (ALWAYS, rolling)[number % 2], owner)
            wanted = hold(call, at_most, owners=("ledger", owner))
            if store.reserve(wanted) is None:
                store.settle(call, wanted.owners)
                admitted += 1
        print(number, admitted)


def naive_race(kind: str, address: str, rounds: str, tries: str) -> None:
    """The same the wrong way: ask, then add."""
    from store_calls import entry

    from costtrace.stores.base import ALWAYS

    store = opened(kind, address)
    wait_for_go()
    for number in range(int(rounds)):
        owner, admitted = f"user:race-{number}", 0
        for attempt in range(int(tries)):
            if store.balance(owner, ALWAYS).spent_pico + 7 <= 1000:
                time.sleep(0.001)
                call = entry(7, call_id=f"{os.getpid()}-{number}-{attempt}")
                store.settle(call, ("ledger", owner))
                admitted += 1
        print(number, admitted)


def nested(kind: str, address: str, calls: str) -> None:
    """Random sets of owners in random order, each with limits; say what was settled.

    Some are blocks that several processes share, and drop while others still charge them.
    """
    from store_calls import DAY, entry, hold, limit

    from costtrace.stores.base import ALWAYS, Watch

    store = opened(kind, address)
    chance = random.Random(os.getpid())
    wait_for_go()
    for number in range(int(calls)):
        owners = chance.sample(OWNERS, chance.randint(3, 5))
        block = f"block:{number // 8}"
        if number % 4 == 0:
            owners.append(block)
        call = entry(chance.randint(1, 9), call_id=f"{os.getpid()}-{number}")
        limits = [
            limit(3 * int(calls) * (4 + n), chance.choice((ALWAYS, DAY)), owner)
            for n, owner in enumerate(owners)
        ]
        if store.reserve(hold(call, *limits, owners=tuple(owners))) is not None:
            print("refused")
        elif chance.random() < 0.2:
            store.release(call.call_id)
        else:
            watches = [Watch(owner, DAY, 50, f"{owner}|50") for owner in owners if owner != block]
            crossed = store.settle(call, tuple(owners), watches)
            print("settled", call.call_id, int(call.cost_usd.scaleb(12)), *sorted(owners))
            for crossing in crossed:
                print("crossed", crossing.watch.key)
        if number % 8 == 7:
            store.drop(block)


def write(kind: str, address: str) -> None:
    """Reserve and settle until killed, and say so after each."""
    from store_calls import ALICE, entry, hold, limit

    store = opened(kind, address)
    wait_for_go()
    number = 0
    while True:
        number += 1
        call = entry(1, call_id=f"{os.getpid()}-{number}")
        store.reserve(hold(call, limit(10**9)))
        print(f"held {call.call_id}", flush=True)
        store.settle(call, ALICE)
        print(f"settled {call.call_id}", flush=True)


def persist(kind: str, address: str, calls: str) -> None:
    """Settle so many calls, each again and again until the server has it."""
    from store_calls import ALICE, entry, hold, limit

    from costtrace.exceptions import BudgetStoreError, StoreResetError

    store = opened(kind, address, timeout_s=0.5)
    give_up_s = time.monotonic() + 90
    wait_for_go()
    for number in range(int(calls)):
        call = entry(1, call_id=f"{os.getpid()}-{number}")
        for step in (
            lambda: store.reserve(hold(call, limit(10**9))),  # noqa: B023
            lambda: store.settle(call, ALICE),  # noqa: B023
        ):
            while True:
                try:
                    step()
                except StoreResetError:
                    raise
                except BudgetStoreError:
                    if time.monotonic() > give_up_s:
                        raise
                    continue
                break
        print(call.call_id, flush=True)


def fork(kind: str, address: str, children: str, calls: str) -> None:
    """Fork while another thread is at work; parent and children go on, each with their own."""
    import threading

    from store_calls import ALICE, entry, hold, limit

    store = opened(kind, address)
    stop = threading.Event()

    def work(name: str, count: int) -> None:
        for number in range(count):
            call = entry(1, call_id=f"{os.getpid()}-{name}-{number}")
            store.reserve(hold(call, limit(10**9)))
            store.settle(call, ALICE)
            if stop.is_set():
                break

    wait_for_go()
    thread = threading.Thread(target=work, args=("thread", 10**9))
    thread.start()
    pids = []
    for _ in range(int(children)):
        pid = os.fork()
        if pid == 0:
            work("child", int(calls))
            os._exit(0)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    stop.set()
    thread.join()
    stop.clear()
    work("parent", 10)
    print(*statuses)


def replay(kind: str, address: str, calls: str, times: str) -> None:
    """Ask for the same holds again and again, in an order of its own, and for others by name."""
    from store_calls import ALICE, entry, hold, limit

    from costtrace.exceptions import CallConflictError

    store = opened(kind, address)
    chance = random.Random(os.getpid())
    wait_for_go()
    wanted = [entry(7, call_id=f"call-{number}") for number in range(int(calls))] * int(times)
    chance.shuffle(wanted)
    refused = 0
    for call in wanted:
        refused += store.reserve(hold(call, limit(10**9))) is not None
        for other in (entry(8, call_id=call.call_id), entry(7, call_id=call.call_id)):
            try:
                owners = ALICE if other.cost_usd != call.cost_usd else ("ledger", "user:bob")
                store.reserve(hold(other, limit(10**9), owners=owners))
            except CallConflictError:
                continue
            print("held another one")
    print("refused", refused)
    store.close()


def die_in_flight(kind: str, address: str, folder: str, kills: str) -> None:
    """Fork children that make calls, and kill each at a random moment with calls in flight."""
    chance = random.Random(os.getpid())
    opened(kind, address).close()  # what a child needs is imported
    wait_for_go()
    for number in range(int(kills)):
        has_begun, begins = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _make_calls(kind, address, Path(folder, f"{os.getpid()}-{number}"), begins)
            finally:
                os._exit(1)
        os.close(begins)
        assert os.read(has_begun, 1) == b"!"
        time.sleep(chance.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        os.close(has_begun)


def _make_calls(kind: str, address: str, file: Path, begins: int) -> None:
    """Keep two to eight calls in flight for ever; write down each step before and after it."""
    from store_calls import costing, entry, hold, limit

    store, chance, open_ = opened(kind, address), random.Random(file.name), []
    said = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    owners = ("ledger", f"user:{file.name}")
    at_most = limit(IN_FLIGHT_LIMIT, owner=owners[1])
    for number in itertools.count():
        if len(open_) < 8 and (len(open_) < 3 or chance.random() < 0.5):
            call = entry(7, call_id=f"{file.name}-{number}")
            os.write(said, f"hold {call.call_id}\n".encode())
            if store.reserve(hold(call, at_most, owners=owners)) is None:
                open_.append(call)
                os.write(said, f"held {call.call_id}\n".encode())
            else:
                os.write(said, f"refused {call.call_id}\n".encode())
        else:
            call = open_.pop(chance.randrange(len(open_)))
            os.write(said, f"settle {call.call_id}\n".encode())
            store.settle(costing(call, 3), owners)
            os.write(said, f"settled {call.call_id}\n".encode())
        if len(open_) == 3:
            os.write(begins, b"!")


def prune_and_write(kind: str, address: str, before_s: str, calls: str) -> None:
    """Let old entries go, a batch at a time, and enter new ones in between."""
    from store_calls import ALICE, entry

    store = opened(kind, address)
    before = datetime.fromtimestamp(int(before_s), timezone.utc)
    wait_for_go()
    gone = 0
    for number in range(int(calls)):
        gone += store.prune(before, at_most=50)
        store.settle(entry(1, call_id=f"{os.getpid()}-{number}"), ALICE)
    print(gone)


WORK = (
    race,
    naive_race,
    nested,
    write,
    persist,
    fork,
    replay,
    die_in_flight,
    prune_and_write,
)

if __name__ == "__main__":
    do({work.__name__: work for work in WORK})

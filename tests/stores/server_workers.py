"""Processes that work on one ledger on a server: `python server_workers.py WORK KIND ADDRESS ...`.

KIND is `postgres` with a connection string, or `redis` with a port.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OWNERS = [f"user:{n}" for n in range(6)]


def opened(kind: str, address: str, timeout_s: float = 30) -> Any:
    """The store at this address."""
    if kind == "postgres":
        import psycopg

        from costtrace.stores import DBAPIStore

        return DBAPIStore(lambda: psycopg.connect(address), timeout_s=timeout_s)
    import redis

    from costtrace.stores import RedisStore

    return RedisStore(redis.Redis(host="127.0.0.1", port=int(address)), timeout_s=timeout_s)


class Worker:
    """A started process. It waits for `go` once it has opened the store."""

    def __init__(self, name: str, *arguments: object) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> list[str]:
        """Kill it as hard as there is, and return what it had said in whole lines."""
        self.process.kill()
        said, _ = self.process.communicate()
        return said.splitlines() if said.endswith("\n") else said.splitlines()[:-1]

    def finish(self, timeout_s: float = 120) -> list[str]:
        """Wait for its end and return what it said."""
        said, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0
        return said.splitlines()


def started(name: str, count: int, *arguments: object) -> list[Worker]:
    """Start several of a kind, and let them go together."""
    workers = [Worker(name, *arguments) for _ in range(count)]
    for worker in workers:
        worker.wait()
    for worker in workers:
        worker.go()
    return workers


def run_all(name: str, count: int, *arguments: object) -> list[list[str]]:
    """Run several of a kind at once and return what each said."""
    return [worker.finish() for worker in started(name, count, *arguments)]


def wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


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


WORK: dict[str, Callable[..., None]] = {
    work.__name__: work for work in (race, naive_race, nested, write, persist, fork)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])

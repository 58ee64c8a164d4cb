"""Processes that work on one ledger file: `python store_workers.py NAME PATH ...`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Worker:
    """A started process. It waits for `go` once it has opened the ledger."""

    def __init__(self, name: str, *arguments: object) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
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


def run_all(name: str, count: int, *arguments: object) -> list[list[str]]:
    """Run several of a kind at once and return what each said."""
    workers = [Worker(name, *arguments) for _ in range(count)]
    for worker in workers:
        worker.go()
    return [worker.finish() for worker in workers]


def wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def race(path: str, tries: str) -> None:
    """Reserve and settle 7 out of 1000 as often as it goes."""
    from store_calls import ALICE, entry, hold, limit

    from costtrace.stores import SQLiteStore

    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=30)
    wait_for_go()
    admitted = 0
    for number in range(int(tries)):
        call = entry(7, call_id=f"{os.getpid()}-{number}")
        if store.reserve(hold(call, limit(1000))) is None:
            store.settle(call, ALICE)
            admitted += 1
    print(admitted)


def naive_race(path: str, tries: str) -> None:
    """The same the wrong way: ask, then add."""
    from store_calls import ALICE, entry

    from costtrace.stores import SQLiteStore
    from costtrace.stores.base import ALWAYS

    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=30)
    wait_for_go()
    admitted = 0
    for number in range(int(tries)):
        if store.balance("user:alice", ALWAYS).spent_pico + 7 <= 1000:
            time.sleep(0.001)
            store.settle(entry(7, call_id=f"{os.getpid()}-{number}"), ALICE)
            admitted += 1
    print(admitted)


def cross(path: str, calls: str) -> None:
    """Spend on many owners, each with two thresholds; say which ones were crossed here."""
    from store_calls import entry

    from costtrace.stores import SQLiteStore
    from costtrace.stores.base import ALWAYS, Watch

    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=30)
    wait_for_go()
    for number in range(int(calls)):
        owner = f"user:{number % 10}"
        watches = [Watch(owner, ALWAYS, at, f"{owner}|{at}") for at in (50, 90)]
        call = entry(10, call_id=f"{os.getpid()}-{number}")
        for crossing in store.settle(call, ("ledger", owner), watches):
            print(crossing.watch.key)


def write(path: str, synchronous: str) -> None:
    """Reserve and settle until killed, and say so after each."""
    from store_calls import ALICE, entry, hold, limit

    from costtrace.stores import SQLiteStore

    store = SQLiteStore(path, synchronous=synchronous, timeout_s=30)  # type: ignore[arg-type]
    wait_for_go()
    number = 0
    while True:
        number += 1
        call = entry(1, call_id=f"{os.getpid()}-{number}")
        store.reserve(hold(call, limit(10**9)))
        print(f"held {call.call_id}", flush=True)
        store.settle(call, ALICE)
        print(f"settled {call.call_id}", flush=True)


def saturate(path: str, seconds: str) -> None:
    """Reserve and settle without a pause; say how often, and the longest wait."""
    from store_calls import ALICE, entry, hold, limit

    from costtrace.stores import SQLiteStore

    store = SQLiteStore(path, timeout_s=30)
    wait_for_go()
    end, pairs, longest = time.monotonic() + float(seconds), 0, 0.0
    while (before := time.monotonic()) < end:
        call = entry(1, call_id=f"{os.getpid()}-{pairs}")
        store.reserve(hold(call, limit(10**9)))
        store.settle(call, ALICE)
        longest = max(longest, time.monotonic() - before)
        pairs += 1
    print(f"{pairs} {longest}")


def meddled(path: str, calls: str) -> None:
    """Write while another thread of this process opens and closes all files of the ledger."""
    from store_calls import ALICE, entry

    from costtrace.stores import SQLiteStore

    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=30)
    stop = threading.Event()

    def meddle() -> None:
        while not stop.wait(0.005):
            for file in Path(path).parent.iterdir():
                with suppress(FileNotFoundError):
                    file.open("rb").close()

    wait_for_go()
    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        for number in range(int(calls)):
            store.settle(entry(1, call_id=f"{os.getpid()}-{number}"), ALICE)
            print(f"{os.getpid()}-{number}")
            if number % 50 == 49:
                store.close()  # whoever closes last would delete the log under the others
                store = SQLiteStore(path, synchronous="NORMAL", timeout_s=30)
    finally:
        stop.set()
        meddler.join()


WORK: dict[str, Callable[..., None]] = {
    work.__name__: work for work in (race, naive_race, cross, write, saturate, meddled)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])

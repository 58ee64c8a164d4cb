"""Processes that work on one ledger file: `python store_workers.py NAME PATH ...`."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from workers import Crew, do, wait_for_go

crew = Crew(__file__)


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


if __name__ == "__main__":
    do({work.__name__: work for work in (cross, saturate, meddled)})

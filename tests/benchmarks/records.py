"""What a ledger in memory costs: `python -m tests.benchmarks.records [entries]`.

Records, pairs of reserve and settle, and a million entries: their memory, the pauses of the garbage
collector that they cause, totals and a report over all of them. Beside each stands the least that
has to be done: a dict and a lock, or a list.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice

from costtrace import CostLedger
from costtrace.entry import CostEntry
from costtrace.stores import MemoryStore
from tests.benchmarks.measuring import Goal, heading, in_turns, show
from tests.benchmarks.stores import BareMemory, calls, pair_in, record_in, resident

THREADS = 8
BATCH = 1_000


def over(todo: list[CostEntry], start: Callable[[], Callable[[CostEntry], None]]):  # type: ignore[no-untyped-def]
    """Return what does something anew for so many calls."""

    def work(times: int) -> None:
        step = start()
        for call in todo[:times]:
            step(call)

    return work


def recording() -> Callable[[CostEntry], None]:
    """Return what enters a call made elsewhere."""
    ledger = CostLedger()
    return lambda call: ledger.record("gpt-4o-mini", "answer", "alice", 1_000, 100) and None


def speeds(rounds: int) -> None:
    """Print rates of one thread, in CPU time."""
    todo = list(calls(3_000))
    costs = in_turns(
        {
            "pair: dict and lock (floor)": over(todo, lambda: BareMemory().pair),
            "CostLedger.record": over(todo, recording),
            "a store's record": over(todo, lambda: record_in(MemoryStore())),
            "a store's reserve and settle": over(todo, lambda: pair_in(MemoryStore())),
        },
        len(todo),
        rounds,
    )
    enough = Goal(100_000, is_most=False)
    goals = {"CostLedger.record": enough, "a store's reserve and settle": enough}
    for name, cost in costs.items():
        show(name, 1e6 / cost.least, "per CPU second", goals.get(name, ""))


def threaded(pair: Callable[[CostEntry], None], todo: list[CostEntry]) -> tuple[float, float]:
    """Return pairs of eight threads in one second of CPU, and the slowest by the fastest."""
    finished = [0.0] * THREADS
    ready = threading.Barrier(THREADS + 1)

    def run(number: int) -> None:
        mine = todo[number::THREADS]
        ready.wait()
        for call in mine:
            pair(call)
        finished[number] = time.perf_counter()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    cpu, start = time.process_time(), time.perf_counter()
    ready.wait()
    for thread in threads:
        thread.join()
    took = [each - start for each in finished]
    return len(todo) / (time.process_time() - cpu), min(took) / max(took)


def threads() -> None:
    """Print what eight threads do, and how evenly."""
    todo = list(calls(48_000))  # for shorter ones the first finish before the last begin
    for name, pair in (("dict and lock (floor)", BareMemory().pair), ("a store", None)):
        rate, evenness = threaded(pair or pair_in(MemoryStore()), todo)
        goal = Goal(50_000, is_most=False) if pair is None else ""
        show(f"{THREADS} threads, reserve and settle: {name}", rate, "per CPU second", goal)
        show("   the first to finish after this share of the last", evenness, "")


def pause_ms() -> float:
    """Return how long a full collection takes."""
    start = time.perf_counter()
    gc.collect()
    return (time.perf_counter() - start) * 1_000


def sizes(count: int) -> None:
    """Print what many entries take."""
    gc.collect()
    idle_ms, ledger, before = min(pause_ms() for _ in range(3)), CostLedger(), resident()
    source, tenths = calls(count), []
    for _ in range(10):
        took = 0.0
        for _ in range(count // 10 // BATCH):
            some = list(islice(source, BATCH))  # few at a time: only what is kept is to be seen
            start = time.thread_time()
            for call in some:
                ledger.store.settle(call, ("ledger", f"user:{call.user_id}"))
            took += time.thread_time() - start
        tenths.append(took / (count // 10) * 1e6)
    del some
    gc.collect()
    show(
        f"{count:,} entries", (resident() - before) / 2**20, "MiB", Goal(150, note=" for a million")
    )
    show("one, of the first tenth", tenths[0], "us CPU")
    show("one, of the last tenth", tenths[-1], "us CPU", Goal(1.5 * tenths[0]))
    full_ms = min(pause_ms() for _ in range(3))
    show("full collection, longer by", max(full_ms - idle_ms, 0), "ms", Goal(20))
    for name, ask in (
        ("totals by function", lambda: ledger.totals("function_name")),
        ("totals by user and model", lambda: ledger.totals(("user_id", "model"))),
        ("report", lambda: ledger.render("text")),
    ):
        start = time.thread_time()
        ask()
        show(name, time.thread_time() - start, "s CPU", Goal(1))


def main(count: int = 1_000_000, rounds: int = 9) -> None:
    """Print the group."""
    heading("A ledger in memory")
    speeds(rounds)
    threads()
    heading(f"A ledger of {count:,} entries")
    sizes(count)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

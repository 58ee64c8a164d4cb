"""Instructions for one call, counted by valgrind: `python -m tests.benchmarks.instructions`.

What a neighbour does to the clock it does not do to this count: it tells on a busy machine whether
a change saves anything. It knows nothing of caches, and time does: a call runs cold, so it takes
about twice as long as its instructions do in a loop.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FEW, MANY = 100, 300
"""Two runs: what the second takes more is that of the calls between, without any start-up."""


def bare() -> Callable[[], object]:
    """The SDK alone."""
    from tests.benchmarks.sdk import ask, client

    sdk = client()
    return lambda: ask(sdk)


def tracked_call() -> Callable[[], object]:
    """The same in a tracked function, under a budget."""
    from costtrace import CostLedger, budget, tracked

    budget("alice", 1_000_000, window="month", ledger=CostLedger()).__enter__()
    return tracked(function_name="answer")(bare())  # type: ignore[no-any-return]


def record() -> Callable[[], object]:
    """An entry by hand."""
    from costtrace import CostLedger

    ledger = CostLedger()
    return lambda: ledger.record("gpt-4o-mini", "answer", "alice", 1_000, 100)


def pair() -> Callable[[], object]:
    """A reservation in memory, and its settlement."""
    from costtrace.stores import MemoryStore
    from tests.benchmarks.stores import calls, pair_in

    step, todo = pair_in(MemoryStore()), iter(list(calls(MANY)))
    return lambda: step(next(todo))


WAYS = {one.__name__: one for one in (bare, tracked_call, record, pair)}


def counted(way: str, times: int) -> int:
    """Return the instructions of a process that does something so many times."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-m", "tests.benchmarks.instructions", way, str(times)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def main() -> None:
    """Print what each way takes."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: nothing counts instructions here")
    for way in WAYS:
        each = (counted(way, MANY) - counted(way, FEW)) / (MANY - FEW)
        print(f"  {way:<20} {each:>12,.0f} instructions", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        step = WAYS[sys.argv[1]]()
        for _ in range(int(sys.argv[2])):
            step()
    else:
        main()

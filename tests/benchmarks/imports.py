"""What an import costs: `python -m tests.benchmarks.imports [rounds]`, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.measuring import Goal, heading, show

STATEMENTS: dict[str, Goal | str] = {
    "import costtrace": Goal(50),
    "from costtrace import tracked, budget, CostLedger": "",
    "import costtrace; costtrace.ledger": "",
    "import openai": "",
    "import json, decimal, dataclasses, datetime": "floor: what it rests on",
}
PROGRAM = """
import sys, time
start = time.process_time()
{statement}
took = time.process_time() - start
import threading
print(took * 1000, threading.active_count(), len(sys.modules))
"""


def import_ms(statement: str) -> tuple[float, int]:
    """Return the CPU time of a statement in milliseconds, and how many threads there are after."""
    program = PROGRAM.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    milliseconds, threads, _ = done.stdout.split()
    return float(milliseconds), int(threads)


def main(rounds: int = 5) -> None:
    """Print the group."""
    heading("An import, the least of fresh processes")
    seen: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(rounds):
        for statement in STATEMENTS:
            took, threads = import_ms(statement)
            assert threads == 1, f"{statement} starts a thread"
            seen[statement].append(took)
    for statement, goal in STATEMENTS.items():
        show(statement, min(seen[statement]), "ms CPU", goal)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

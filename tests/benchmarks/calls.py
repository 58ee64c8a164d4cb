"""What a call costs: `python -m tests.benchmarks.calls [rounds]`.

The bare SDK call beside the same call tracked and under a budget, in turns. Beside them are the
bare call once more (the noise of the machine), and floors: wrappers that do nothing where ours do
all they do, and the least that a limit needs (`least`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai._base_client
import wrapt

from costtrace import CostLedger, budget, tracked
from tests.benchmarks.least import LeastBudget
from tests.benchmarks.measuring import COSTS, Cost, Goal, Work, heading, in_turns, show_costs
from tests.benchmarks.sdk import EVENTS, ask, async_client, client, read_stream

CALLS = 25
WRAPPED = ("request", "_process_response")
BARE = "bare SDK call"


def repeated(call: Callable[[], object]) -> Work:
    """Return what makes a call so many times."""

    def work(times: int) -> None:
        for _ in range(times):
            call()

    return work


def inside(scope: Any, call: Callable[[], object]) -> Work:
    """Return the same with one scope around all of them."""

    def work(times: int) -> None:
        with scope:
            for _ in range(times):
                call()

    return work


def patched(call: Callable[[], object], wrap: Callable[[Any], Any], *names: str) -> Work:
    """Return the same with methods of the SDK's client wrapped in another way than ours."""
    owner = openai._base_client.SyncAPIClient
    originals = [vars(owner)[name] for name in names]
    wrappers = [wrap(one) for one in originals]

    def put(methods: list[Any]) -> None:
        for name, method in zip(names, methods, strict=True):
            setattr(owner, name, method)

    def work(times: int) -> None:
        put(wrappers)
        try:
            for _ in range(times):
                call()
        finally:
            put(originals)

    return work


def wrapped_emptily(method: Any) -> Any:
    """Return a method of the SDK wrapped as ours are, by nothing."""
    return wrapt.FunctionWrapper(method, pass_through)


def pass_through(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """The emptiest wrapper."""
    return wrapped(*args, **kwargs)


def pass_on(events: Iterator[Any]) -> Iterator[Any]:
    """The emptiest thing that sees each event."""
    for event in events:  # noqa: UP028 (it is to see them)
        yield event


def bare_commits(path: Path) -> Callable[[], None]:
    """Return what makes one row durable in a SQLite file, and does nothing else."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE call (id INTEGER PRIMARY KEY, cost INTEGER)")

    def commit() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO call (cost) VALUES (1)")
        connection.execute("COMMIT")

    return commit


def measure_calls(rounds: int, folder: Path) -> dict[str, Cost]:
    """Return what a sync call costs, in each way."""
    sdk, memory, file = client(), CostLedger(), CostLedger(path=folder / "costs.db")
    least = LeastBudget(10**18)
    answer = tracked(function_name="answer")(lambda: ask(sdk))
    in_memory = budget("alice", 1_000_000, window="month", ledger=memory)
    in_file = budget("alice", 1_000_000, window="month", ledger=file)

    def alone() -> None:
        with in_memory:
            answer()

    commit = bare_commits(folder / "bare.db")

    def beside_two_commits() -> None:  # a reservation and a settlement, each durable
        commit()
        ask(sdk)
        commit()

    variants = {
        BARE: repeated(lambda: ask(sdk)),
        "bare once more (noise)": repeated(lambda: ask(sdk)),
        "two empty wrappers (floor)": patched(lambda: ask(sdk), wrapped_emptily, *WRAPPED),
        "the least that a limit needs (floor)": patched(lambda: ask(sdk), least.around, "request"),
        "tracked, no limit": inside(budget("alice", ledger=memory), answer),
        "tracked, budget in memory": inside(in_memory, answer),
        "the same, its scope opened for each call": repeated(alone),
        "two bare SQLite commits (floor)": repeated(beside_two_commits),
        "tracked, budget in SQLite": inside(in_file, answer),
    }
    costs = in_turns(variants, CALLS, rounds)
    file.close()
    return costs


def measure_async(rounds: int) -> dict[str, Cost]:
    """Return what an awaited call costs."""
    sdk, ledger = async_client(), CostLedger()
    scope = budget("alice", 1_000_000, window="month", ledger=ledger)
    answer = tracked(function_name="answer")(lambda: ask(sdk))
    loop = asyncio.new_event_loop()

    async def bare(times: int) -> None:
        for _ in range(times):
            await ask(sdk)

    async def ours(times: int) -> None:
        with scope:
            for _ in range(times):
                await answer()

    costs = in_turns(
        {
            "bare awaited call": lambda times: loop.run_until_complete(bare(times)),
            "tracked, budget in memory": lambda times: loop.run_until_complete(ours(times)),
        },
        CALLS,
        rounds,
    )
    loop.run_until_complete(sdk.close())
    loop.close()
    return costs


def measure_streams(rounds: int) -> dict[str, Cost]:
    """Return what one event of a stream costs, its call included."""
    sdk, ledger = client(), CostLedger()
    scope = budget("alice", 1_000_000, window="month", ledger=ledger)
    costs = in_turns(
        {
            "bare stream": repeated(lambda: read_stream(sdk)),
            "passed on by a generator (floor)": repeated(lambda: read_stream(sdk, pass_on)),
            "budget in memory": inside(scope, lambda: read_stream(sdk)),
        },
        3,
        rounds,
    )
    return {name: Cost(each.least / EVENTS, each.median / EVENTS) for name, each in costs.items()}


def main(rounds: int = 60) -> None:
    """Print the group."""
    with tempfile.TemporaryDirectory() as folder:
        heading("A call, CPU of the calling thread", COSTS)
        goals = {"tracked, budget in memory": Goal(0.03), "tracked, budget in SQLite": Goal(0.08)}
        show_costs(measure_calls(rounds, Path(folder)), BARE, goals)
    heading("An awaited call", COSTS)
    show_costs(measure_async(rounds), "bare awaited call", goals)
    heading(f"An event of a stream of {EVENTS}, its call included", COSTS)
    show_costs(measure_streams(rounds), "bare stream", {"budget in memory": Goal(0.01)})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

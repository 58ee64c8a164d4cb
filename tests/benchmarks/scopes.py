"""What scopes cost: `python -m tests.benchmarks.scopes` prints the least of many measurements.

Limits: reading 0.5 us, entering and leaving 5 us, making a node 2 us, a child task 5% slower.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
import timeit
from collections.abc import Awaitable, Callable
from typing import Any

from costtrace.scopes import Scope, Stay, current, enter, leave

ROUNDS = 40
TASKS = 1000


def least_us(function: Callable[[], object], number: int = 20_000) -> float:
    """The least time of one call, in microseconds."""
    return min(timeit.repeat(function, number=number, repeat=15)) / number * 1e6


def enter_and_leave(scope: Scope) -> Callable[[], None]:
    """One stay."""

    def stay() -> None:
        leave(enter(scope))

    return stay


def show(name: str, value: float, unit: str = "us") -> None:
    """One line of the table."""
    print(f"{name:<44} {value:7.3f} {unit}")


def measure_here(where: str) -> None:
    """Reading, making and entering, at the place where this is called."""
    scope = Scope(None, user_id="alice", tags={"team": "a"})
    with Stay(scope):
        inner = Scope(scope, function_name="f")
        show(f"read, {where}", least_us(current))
        show(f"enter and leave inside another, {where}", least_us(enter_and_leave(inner)))
        show(
            f"make a node with name and tags, {where}",
            least_us(lambda: Scope(scope, function_name="f", tags={"x": "y"})),
        )


async def measure_in_task(where: str) -> None:
    """The same in a task."""
    measure_here(where)


async def nothing() -> None:
    """The smallest child."""


async def one_sleep() -> None:
    """A child that gives way once."""
    await asyncio.sleep(0)


async def a_request() -> None:
    """A child that waits for its answer, as a call over a socket does, at least three times."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        answer = loop.create_future()
        loop.call_soon(answer.set_result, None)
        await answer


async def spawn(child: Callable[[], Awaitable[None]], is_scoped: bool) -> float:
    """Seconds for many child tasks, one after the other."""
    scope = Scope(None, user_id="alice")
    visit = enter(scope) if is_scoped else None
    start = time.perf_counter()
    for _ in range(TASKS):
        await asyncio.create_task(child())  # type: ignore[arg-type]
    took = time.perf_counter() - start
    if visit is not None:
        leave(visit)
    return took


def measure_children(name: str, new_loop: Callable[[], Any]) -> None:
    """Child tasks with and without a scope, interleaved, so that both see the same machine."""
    for child in (nothing, one_sleep, a_request):
        best = {False: 1e9, True: 1e9}
        for _ in range(ROUNDS):
            for is_scoped in (False, True):
                loop = new_loop()
                took = loop.run_until_complete(spawn(child, is_scoped))
                loop.close()
                best[is_scoped] = min(best[is_scoped], took)
        show(f"child task {child.__name__}, {name}", best[False] / TASKS * 1e6)
        show("   slower in a scope by", (best[True] / best[False] - 1) * 100, "%")


def main() -> None:
    """Print the table."""
    measure_here("in a thread")
    asyncio.run(measure_in_task("in a task"))
    if importlib.util.find_spec("trio") is not None:
        import trio

        trio.run(measure_in_task, "in a trio task")
        measure_here("in a thread, trio loaded")
    measure_children("asyncio", asyncio.new_event_loop)
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        measure_children("uvloop", uvloop.new_event_loop)


if __name__ == "__main__":
    main()

"""How the benchmarks measure: CPU time, in turns within one run, and as ratios.

Wall time says what else the machine does; the CPU time of the calling thread says what the work
costs. Variants take turns in short rounds, so that all of them see the same machine, and are
compared by the minima and by the medians of their rounds.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[int], None]
"""Does something so many times."""


class Cost(NamedTuple):
    """Microseconds of CPU for one time, over many rounds."""

    least: float
    median: float

    @classmethod
    def of(cls, rounds: list[float]) -> Cost:
        """Return the cost that these rounds show."""
        return cls(min(rounds), statistics.median(rounds))


def in_turns(variants: dict[str, Work], times: int, rounds: int) -> dict[str, Cost]:
    """Return what each variant costs for one time; they take turns, round by round."""
    for work in variants.values():
        work(times)
    gc.collect()
    seen: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            start_ns = time.thread_time_ns()
            work(times)
            seen[name].append((time.thread_time_ns() - start_ns) / times / 1_000)
    return {name: Cost.of(each) for name, each in seen.items()}


def heading(title: str, columns: str = "") -> None:
    """Begin a group of the table."""
    print(f"\n{title:<58}{columns}", flush=True)


def show(name: str, value: float, unit: str, goal: str = "") -> None:
    """Print a line with one figure, and what it should be."""
    shown = f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    print(f"  {name:<54} {shown:>11} {unit:<14} {goal}".rstrip(), flush=True)


def show_costs(costs: dict[str, Cost], bare: str, goals: dict[str, str] | None = None) -> None:
    """Print what each variant costs, also on top of the bare one: by minima and by medians."""
    floor = costs[bare]
    for name, cost in costs.items():
        least, median = cost.least - floor.least, cost.median - floor.median
        goal = (goals or {}).get(name, "")
        print(
            f"  {name:<42} {cost.least:8.1f} us  {least:+8.1f} {least / floor.least:+8.1%}"
            f"  {median:+8.1f} {median / floor.median:+8.1%}  {goal}".rstrip(),
            flush=True,
        )


COSTS = "least      by minima           by medians"

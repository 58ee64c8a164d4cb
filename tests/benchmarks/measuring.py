"""How the benchmarks measure: CPU time, in turns within one run, and as ratios.

Wall time says what else the machine does; the CPU time of the calling thread says what the work
costs. Variants take turns in short rounds, so that all of them see the same machine, and are
compared by the minima and by the medians of their rounds.
"""

from __future__ import annotations

import gc
import random
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
    turns, dice = list(variants.items()), random.Random(0)
    for _ in range(rounds):
        dice.shuffle(turns)  # what comes after a costly one finds the caches cold
        for name, work in turns:
            start_ns = time.thread_time_ns()
            work(times)
            seen[name].append((time.thread_time_ns() - start_ns) / times / 1_000)
    return {name: Cost.of(each) for name, each in seen.items()}


def heading(title: str, columns: str = "") -> None:
    """Begin a group of the table."""
    print(f"\n{title:<58}{columns}", flush=True)


class Goal(NamedTuple):
    """What a figure should be: at most, or at least, so much."""

    figure: float
    is_most: bool = True
    note: str = ""

    def verdict(self, value: float, shown: str) -> str:
        """Return in words whether a value keeps it."""
        is_met = value <= self.figure if self.is_most else value >= self.figure
        bound = "at most" if self.is_most else "at least"
        return f"{'met' if is_met else 'MISSED'}: {bound} {shown}{self.note}"


def show(name: str, value: float, unit: str, goal: Goal | str = "") -> None:
    """Print a line with one figure, and whether it is what it should be."""
    shown = f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    said = goal if isinstance(goal, str) else goal.verdict(value, f"{goal.figure:,.15g}")
    print(f"  {name:<54} {shown:>11} {unit:<14} {said}".rstrip(), flush=True)


def show_costs(costs: dict[str, Cost], bare: str, goals: dict[str, Goal] | None = None) -> None:
    """Print what each variant costs, also on top of the bare one: by minima and by medians."""
    floor = costs[bare]
    for name, cost in costs.items():
        least, median = cost.least - floor.least, cost.median - floor.median
        goal = (goals or {}).get(name)
        said = goal.verdict(least / floor.least, f"{goal.figure:+.0%}") if goal else ""
        print(
            f"  {name:<42} {cost.least:8.1f} us  {least:+8.1f} {least / floor.least:+8.1%}"
            f"  {median:+8.1f} {median / floor.median:+8.1%}  {said}".rstrip(),
            flush=True,
        )


COSTS = "least      by minima           by medians"

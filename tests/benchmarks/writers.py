"""How stores are measured: 1 and 8 writers, beside the bare minimum, in turns within one run.

Each side does the same steps with calls that were made before the clock started. Rates and 99th
percentiles are those of a side's best round: the others met more of what else the machine did. CPU
is that of the writers and of the server, for one time; it hardly depends on the neighbours.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from costtrace.entry import CostEntry
from costtrace.usage import Usage

Step = Callable[[CostEntry], object]
Steps = dict[str, list[Step]]
"""What a record does, and what a pair of reserve and settle does."""
KINDS = ("record", "pair")
WRITERS = (1, 8)
ROUNDS = 3
SECONDS = 0.7
_MOST_PER_S = 50_000
SAMPLE = CostEntry(
    model="gpt-4o-mini-2024-07-18",
    function_name="answer",
    user_id="alice",
    usage=Usage(1200, 300, 1024, reasoning_tokens=64),
    cost_usd=Decimal("0.0000000007"),
    timestamp=datetime(2026, 11, 22, 12, tzinfo=timezone.utc),
    call_id="sample",
    provider="openai",
    operation="chat",
    request_model="gpt-4o-mini",
    call_path=("serve", "answer"),
    tags={"team": "blue"},
    reserved_usd=Decimal("0.0012"),
    duration_s=0.731,
    response_id="chatcmpl-0123456789abcdef0123456789abc",
    price_id="gpt-4o-mini@2024-07-18",
)
_TICKS = os.sysconf("SC_CLK_TCK")


class Side(NamedTuple):
    """One of those that take turns: a store, or the least that does the same."""

    name: str
    opened: Callable[[], Steps]
    """Called in each writing process."""
    writers: tuple[int, ...] = WRITERS


class Speed(NamedTuple):
    """What one side did in one round."""

    per_second: float
    p99_ms: float
    cpu_us: float
    evenness: float
    """The slowest writer by the fastest."""


def compare(title: str, sides: Sequence[Side], server: Callable[[], list[int]] = list) -> None:
    """Print a line for each side, kind and number of writers; the first sides are the bare ones."""
    for kind in KINDS:
        for writers in WRITERS:
            present = [side for side in sides if writers in side.writers]
            rounds: dict[str, list[Speed]] = {side.name: [] for side in present}
            for _ in range(ROUNDS):
                for side in present:
                    rounds[side.name].append(_run(side, kind, writers, server))
            best = {name: _best(speeds) for name, speeds in rounds.items()}
            ours = best[present[-1].name].per_second
            for name, speed in best.items():
                ratio = "" if name == present[-1].name else f"{speed.per_second / ours:7.2f}"
                print(
                    f"{title:<14}{kind:<7}{writers:>2}  {name:<22}{speed.per_second:>9,.0f}"
                    f"{speed.p99_ms:>9.2f}{speed.cpu_us:>9.0f}{speed.evenness:>7.2f} {ratio}",
                    flush=True,
                )


HEADING = (
    f"{'':14}{'':7}{'':>2}  {'':22}{'per s':>9}{'p99 ms':>9}{'CPU us':>9}{'even':>7}   bare/ours"
)


def _best(speeds: list[Speed]) -> Speed:
    return max(speeds)._replace(
        p99_ms=min(speed.p99_ms for speed in speeds), cpu_us=min(speed.cpu_us for speed in speeds)
    )


def made(count: int) -> list[CostEntry]:
    """Return so many like calls, each with its own id."""
    return [replace(SAMPLE, call_id=os.urandom(16).hex()) for _ in range(count)]


def _run(side: Side, kind: str, writers: int, server: Callable[[], list[int]]) -> Speed:
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(writers + 1), context.SimpleQueue()
    running = [
        context.Process(target=_write, args=(side, kind, writers, barrier, queue))
        for _ in range(writers)
    ]
    for one in running:
        one.start()
    barrier.wait()
    before = _cpu_s(server())
    barrier.wait()
    told = [queue.get() for _ in running]
    server_s = _cpu_s(server()) - before
    for one in running:
        one.join()
    times = sorted(took for times, _, _ in told for took in times)
    elapsed = max(elapsed for _, elapsed, _ in told)
    rates = [len(times) / elapsed for times, elapsed, _ in told]
    cpu = server_s + sum(cpu for _, _, cpu in told)
    return Speed(
        len(times) / elapsed,
        times[int(len(times) * 0.99)] * 1_000,
        cpu / len(times) * 1e6,
        min(rates) / max(rates),
    )


def _write(side: Side, kind: str, writers: int, barrier: Any, queue: Any) -> None:
    """Do steps for so long; tell how long each took, and how long all of it."""
    steps = side.opened()[kind]
    warm, *todo = made(int(_MOST_PER_S * SECONDS / writers))
    for step in steps:
        step(warm)
    gc.collect()
    gc.freeze()
    took: list[float] = []
    clock = time.perf_counter
    barrier.wait()
    barrier.wait()
    cpu, begin = time.process_time(), clock()
    end = begin + SECONDS
    for call in todo:
        before = clock()
        if before >= end:
            break
        for step in steps:
            step(call)
        took.append(clock() - before)
    queue.put((took, clock() - begin, time.process_time() - cpu))


def _cpu_s(pids: list[int]) -> float:
    """Return what these processes have used, and their children that have ended."""
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(int(field) for field in fields[11:15])
    return used / _TICKS

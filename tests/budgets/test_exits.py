"""A process may end in any way, amid any stream: its call is charged once, and never free."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from costtrace import CostLedger
from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS
from costtrace.testing import LoopbackProvider, Reply

ROOT = Path(__file__).parents[2]
STREAMS = ("break_off", "raise_amid", "close", "never_read", "collect", "hold_on", "read_all")
EXITS = (
    *("return", "sys_exit", "uncaught", "sigterm", "sigterm_handled", "sigkill", "os_exit"),
    "multiprocessing",
)
WHOLE = Decimal("0.000027")
HOLD = Decimal("0.00006")
LONGEST_DELAY_S = 2.0  # from the last line of the program to the end of the process
LONGEST_WITH_DEADLINE_S = 3.5  # where it waits for the deadline of a store in a file, 2 s
WORK = """
import contextlib, gc, multiprocessing, os, signal, sqlite3, sys, time
import openai
from costtrace import CostLedger, budget

def first_events(stream, count=4):
    for number, _ in enumerate(stream):
        if number == count:
            return

def break_off(stream):
    first_events(stream)
def raise_amid(stream):
    with contextlib.suppress(KeyError), stream:
        first_events(stream)
        raise KeyError
def close(stream):
    next(iter(stream)); stream.close()
def never_read(stream):
    pass
def collect(stream):
    first_events(stream); del stream; gc.collect()
kept = []
def hold_on(stream):
    kept.append(stream); first_events(stream)
def read_all(stream):
    for _ in stream: pass

def work(path, how, name):
    if how == "nothing":
        os.write(leaving, str(time.monotonic()).encode())
        sys.exit(0)
    ledger = CostLedger(path=path)
    kept.append(ledger)
    with budget(name, 1, ledger=ledger):
        stream = openai.OpenAI(max_retries=0).chat.completions.create(
            model="gpt-4o-mini", max_tokens=50, stream=True,
            messages=[{"role": "user", "content": "Why is the sky blue?"}])
        globals()[how](stream)
        if how in ("hold_on", "never_read"):
            kept.append(stream)
            leave(name)
    del stream
    leave(name)

def leave(name):
    if is_hung and not isinstance(kept[-1], sqlite3.Connection):
        kept.append(sqlite3.connect(path, isolation_level=None))
        kept[-1].execute("BEGIN IMMEDIATE")
    os.write(leaving, f"{time.monotonic()}\\n".encode())
    how = name.partition("-")[2]
    if how == "sys_exit": sys.exit(0)
    if how == "uncaught": raise ValueError("on purpose")
    if how == "sigterm": os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
    if how == "sigterm_handled":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
    if how == "sigkill": os.kill(os.getpid(), signal.SIGKILL)
    if how == "os_exit": os._exit(0)

path, streams, exits = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
is_hung = sys.argv[4:] == ["hung"]
left, leaving = os.pipe()
with budget("warm-up", 1, ledger=CostLedger(path=path + "-first")):  # what is imported late
    openai.OpenAI(max_retries=0).embeddings.create(model="text-embedding-3-small", input="hi")
def end(stream, exit_):
    name = f"{stream}-{exit_}"
    if exit_ == "multiprocessing":
        forking = multiprocessing.get_context("fork")
        child = forking.Process(target=work, args=(path, stream, name))
        child.start(); child.join()
    elif (pid := os.fork()) == 0:
        sys.stderr = open(os.devnull, "w")
        work(path, stream, name)
        sys.exit(0)
    else:
        os.waitpid(pid, 0)
    print(name, time.monotonic() - float(os.read(left, 99).split()[-1]))

end("nothing", "sys_exit")
for stream in streams:
    for exit_ in exits:
        end(stream, exit_)
"""


@pytest.fixture
def _answers(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def delays(
    provider: LoopbackProvider,
    path: Path,
    streams: tuple[str, ...] = STREAMS,
    exits: tuple[str, ...] = EXITS,
    *how: str,
) -> dict[str, float]:
    """Have processes end in all ways; how long each took for it, beyond what Python takes."""
    CostLedger(path=path).close()
    environment = {**os.environ, **provider.environ(), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "ignore", "-c", WORK, str(path)]
    done = subprocess.run(
        [*words, *map(",".join, (streams, exits)), *how],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = {name: float(delay) for name, delay in map(str.split, done.stdout.splitlines())}
    own = said.pop("nothing-sys_exit")
    assert len(said) == len(streams) * len(exits)
    return {name: delay - own for name, delay in said.items()}


def least_delays(
    enough_s: float,
    provider: LoopbackProvider,
    path: Path,
    streams: tuple[str, ...] = STREAMS,
    exits: tuple[str, ...] = EXITS,
    *how: str,
) -> dict[str, float]:
    """The same, with up to two more tries of what took longer: a busy machine only adds to it."""
    took = delays(provider, path, streams, exits, *how)
    for number in range(2):
        slow = [name.partition("-")[::2] for name, delay in took.items() if delay >= enough_s]
        if slow:
            again = tuple(tuple(dict.fromkeys(names)) for names in zip(*slow, strict=True))
            more = delays(provider, path.with_name(f"again-{number}.db"), *again, *how)
            took = {name: min(delay, more.get(name, delay)) for name, delay in took.items()}
    return took


@pytest.mark.slow
@pytest.mark.usefixtures("_answers")
def test_every_exit_in_every_stream_leaves_one_entry(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """Seven ways to leave a stream, eight ways to end: within the lease all is charged, once."""
    path = tmp_path / "exits.db"

    took = least_delays(LONGEST_DELAY_S, provider, path)

    assert max(took.values()) < LONGEST_DELAY_S, took

    store = SQLiteStore(path)
    later_us = time.time_ns() // 1000 + 61_000_000
    store.use_clock(lambda: later_us)
    store.lapse()
    entries = {entry.user_id: entry for entry in store.entries() if entry.adjusts is None}
    spent = {total.key[0]: total.cost_usd for total in store.totals(["user_id"])}
    assert sorted(entries) == sorted(f"{stream}-{how}" for stream in STREAMS for how in EXITS)
    assert store.sums().calls == len(STREAMS) * len(EXITS)
    assert store.balance("ledger", ALWAYS).reserved_calls == 0
    for name, entry in entries.items():
        if name.startswith("read_all"):
            assert (spent[name], entry.status) == (WHOLE, "ok"), name
        assert 0 < spent[name] <= max(entry.reserved_usd or HOLD, HOLD), name
    assert store.verify() == []
    store.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_answers")
def test_a_store_that_hangs_delays_an_exit_by_one_deadline(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """Somebody writes into the file and does not end: the process does, and the next one enters."""
    path, streams = tmp_path / "exits.db", ("hold_on", "break_off", "read_all")
    exits = ("sys_exit", "uncaught", "sigterm_handled", "os_exit")

    took = least_delays(LONGEST_WITH_DEADLINE_S, provider, path, streams, exits, "hung")

    assert max(took.values()) < LONGEST_WITH_DEADLINE_S, took
    with CostLedger(path=path) as ledger:
        assert ledger.flush()
        later_us = time.time_ns() // 1000 + 61_000_000
        ledger.store.use_clock(lambda: later_us)
        ledger.store.lapse()
        entered = [entry.user_id for entry in ledger.entries if entry.adjusts is None]
        assert sorted(entered) == sorted(f"{stream}-{how}" for stream in streams for how in exits)
        assert ledger.verify() == []

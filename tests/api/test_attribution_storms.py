"""Storms through the real SDKs: each entry under its user, function and path, every time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attribution_storm import AsyncioStorm, Storm, TrioStorm, run_threads

from costtrace import CostLedger, active, budget
from costtrace.testing import LoopbackProvider

CALLS = int(os.environ.get("COSTTRACE_TEST_CALLS", "300"))
"""About how many calls each storm makes."""
USERS = [8, 64]


def works(users: int) -> int:
    """How many pieces of work each user does; one makes about two calls."""
    return max(1, CALLS // (2 * users))


def run_asyncio(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def run_eager(main: Callable[[], Any]) -> None:
    async def eager() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await main()

    asyncio.run(eager())


def run_uvloop(main: Callable[[], Any]) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def run_trio(main: Callable[[], Any]) -> None:
    pytest.importorskip("trio").run(main)


# The SDKs leave the generators of a stream they have read to the garbage, which trio points out.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

LOOPS = {"asyncio": run_asyncio, "uvloop": run_uvloop, "trio": run_trio}
if hasattr(asyncio, "eager_task_factory"):
    LOOPS["eager"] = run_eager


def check(storm: Storm, users: int) -> None:
    """Each call that was made has one entry, and it is its own."""
    assert storm.wrong() == {}
    assert len(storm.noted) >= users * works(users)
    assert {entry.status for entry in storm.ledger.entries} == {"ok"}
    for number in range(users):
        b: Any = budget(f"u{number}", 100, window="day", ledger=storm.ledger)
        assert b.reserved_usd == 0


@pytest.mark.parametrize("users", USERS)
def test_threads_of_many_users(users: int, provider: LoopbackProvider, ledger: CostLedger):
    """Every user is a thread; timers, threads, pools, streams and generators are shared."""
    with Storm(provider.openai(), provider.anthropic(), ledger) as storm:
        run_threads(storm, users, works(users))

    check(storm, users)


@pytest.mark.parametrize("users", USERS)
@pytest.mark.parametrize("kind", LOOPS)
def test_loop_of_many_users(kind: str, users: int, provider: LoopbackProvider, ledger: CostLedger):
    """Every user is a task, which spreads over tasks, callbacks, threads and generators."""
    sync = (provider.openai(), provider.anthropic(), ledger)
    asynchronous = (provider.async_openai(), provider.async_anthropic())
    with (TrioStorm if kind == "trio" else AsyncioStorm)(*asynchronous, *sync) as storm:
        LOOPS[kind](lambda: storm.main(users, works(users)))

    check(storm, users)


def test_loops_and_threads_at_once(provider: LoopbackProvider, ledger: CostLedger):
    """Loops of every kind in threads of their own, beside plain threads, into one ledger."""
    clients = (provider.openai(), provider.anthropic(), ledger)
    storms: list[Storm] = []
    running: list[threading.Thread] = []
    for kind in ("asyncio", "uvloop", "trio", "asyncio"):
        pytest.importorskip(kind)
        asynchronous = (provider.async_openai(), provider.async_anthropic())
        storm = (TrioStorm if kind == "trio" else AsyncioStorm)(*asynchronous, *clients)
        main: Any = lambda storm=storm: storm.main(8, works(32))  # noqa: E731
        storms.append(storm)
        running.append(threading.Thread(target=LOOPS[kind], args=(main,)))
    storms.append(Storm(*clients))
    running.append(threading.Thread(target=run_threads, args=(storms[-1], 8, works(32))))
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for storm in storms:
        storm.__exit__()
        storms[0].noted.update(storm.noted)

    assert storms[0].wrong() == {}


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys
from anthropic import Anthropic
from attribution_storm import Storm, run_greenlets
from openai import OpenAI
from costtrace import CostLedger, active
clients = OpenAI(), Anthropic()
for users, works in zip(map(int, sys.argv[1::2]), map(int, sys.argv[2::2])):
    ledger = CostLedger()
    with Storm(*clients, ledger) as storm:
        run_greenlets(storm, users, works)
    assert storm.wrong() == {}, storm.wrong()
    assert len(storm.noted) >= users * works
    assert ledger.verify() == []
import gc, gevent
gevent.sleep(0)
gc.collect()
assert not active()
"""


def test_greenlets_of_many_users(provider: LoopbackProvider):
    """Every user is a greenlet, in a process under gevent's patches."""
    pytest.importorskip("gevent")
    sizes = [str(number) for users in USERS for number in (users, works(users))]
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, *sizes],
        env={
            **os.environ,
            **provider.environ(),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not active()

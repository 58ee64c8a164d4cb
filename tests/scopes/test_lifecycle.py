"""The first scope opens what must be patched, and the last one closes it."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scope_words import as_user, who

from costtrace import scopes
from costtrace.scopes import Scope, active, enter, leave, pin, register, unpin, unregister


@pytest.fixture
def events():
    """What registered functions heard, in order."""
    heard = []

    def opened():
        heard.append("opened")

    def closed():
        heard.append("closed")

    register(opened, closed)
    yield heard
    unregister(opened, closed)


def test_first_opens_and_last_closes(events):
    """Scopes in between are not told."""
    assert not active()
    with as_user("alice"):
        assert active()
        with as_user("bob"):
            pass
        assert events == ["opened"]
    assert events == ["opened", "closed"]
    assert not active()


def test_opened_before_the_scope_counts(events):
    """When enter() returns, everything is patched."""
    visit = enter(Scope(None, user_id="alice"))

    assert events == ["opened"]
    leave(visit)


def test_again_and_again(events):
    """Each time the last scope is gone, everything is restored."""
    for _ in range(3):
        with as_user("alice"):
            pass

    assert events == ["opened", "closed"] * 3


def test_open_in_another_thread(events):
    """A scope anywhere in the process keeps it open."""
    entered, done = threading.Event(), threading.Event()

    def work():
        with as_user("bob"):
            entered.set()
            done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(60)
    with as_user("alice"):
        pass
    assert events == ["opened"]
    done.set()
    thread.join()
    assert events == ["opened", "closed"]


def test_task_that_outlives_its_scope_keeps_it_open(events):
    """What a task does after its scope was left is still seen; its end closes."""

    async def main():
        release = asyncio.Event()
        with as_user("alice"):
            task = asyncio.create_task(release.wait())
        await asyncio.sleep(0)
        assert events == ["opened"]
        release.set()
        await task
        await asyncio.sleep(0)
        assert events == ["opened", "closed"]
        assert task.done()  # and is still referred to

    asyncio.run(main())


def test_finished_tasks_do_not_keep_it_open(events):
    """A list of done tasks is no unfinished work."""

    async def main():
        with as_user("alice"):
            tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(50)]
            await asyncio.gather(*tasks)
        assert events == ["opened", "closed"]
        assert not active()
        assert all(task.done() for task in tasks)

    asyncio.run(main())


def test_many_tasks_that_outlive_their_scope(events):
    """The last of them closes, in whatever order they end."""

    async def main():
        gates = [asyncio.Event() for _ in range(20)]
        with as_user("alice"):
            tasks = [asyncio.create_task(gate.wait()) for gate in gates]
        for gate in gates[::2] + gates[1::2]:
            assert active()
            gate.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        assert events == ["opened", "closed"]

    asyncio.run(main())


def test_queued_work_keeps_it_open(events):
    """A work item that was not run yet still has to be seen."""
    start = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        blocker = pool.submit(start.wait, 60)
        with as_user("alice"):
            item = pool.submit(who)
        assert events == ["opened"]
        start.set()
        assert blocker.result()
        assert item.result() == "alice"
        assert events == ["opened", "closed"]


def test_cancelled_work_does_not_keep_it_open(events):
    """Work that will never run is no work."""
    start = threading.Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(start.wait, 60)
    with as_user("alice"):
        pool.submit(who)
    assert active()
    pool.shutdown(wait=False, cancel_futures=True)
    start.set()
    pool.shutdown()
    gc.collect()

    assert events == ["opened", "closed"]


def test_cancelled_callback_does_not_keep_it_open(events):
    """Neither is a timer of a loop that was cancelled."""

    async def main():
        with as_user("alice"):
            handle = asyncio.get_running_loop().call_later(3600, who)
        assert active()
        handle.cancel()
        assert not active()

    asyncio.run(main())


def test_loop_that_was_closed_has_no_work(events):
    """Tasks that are pending on a closed loop will never run."""
    loop = asyncio.new_event_loop()

    async def main():
        with as_user("alice"):
            return asyncio.ensure_future(asyncio.sleep(3600))

    task = loop.run_until_complete(main())
    assert active()
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    assert not active()
    loop.close()


def test_pinned_without_a_scope(events):
    """instrument() keeps everything patched, uninstrument() ends that."""
    pin()
    pin()
    assert active()
    with as_user("alice"):
        pass
    assert events == ["opened"]
    unpin()
    assert events == ["opened", "closed"]
    unpin()
    assert not active()


def test_unpinned_inside_a_scope(events):
    """A scope goes on after the pin was taken off."""
    pin()
    with as_user("alice"):
        unpin()
        assert active()
        assert events == ["opened"]
    assert events == ["opened", "closed"]


def test_pin_needs_no_hooks():
    """Without a scope there is nothing to carry, so nothing is hooked."""
    before = threading.Thread.start
    pin()
    try:
        assert threading.Thread.start is before
    finally:
        unpin()


def test_registered_while_open():
    """Who registers late is told at once, and told of the end."""
    heard = []
    pair = (lambda: heard.append("opened"), lambda: heard.append("closed"))
    with as_user("alice"):
        register(*pair)
        assert heard == ["opened"]
    assert heard == ["opened", "closed"]
    unregister(*pair)


def test_unregistered_while_open():
    """Who leaves early restores what it did."""
    heard = []
    pair = (lambda: heard.append("opened"), lambda: heard.append("closed"))
    register(*pair)
    with as_user("alice"):
        unregister(*pair)
        assert heard == ["opened", "closed"]
    assert heard == ["opened", "closed"]


def test_fault_of_a_listener_is_logged(caplog):
    """A scope opens and closes even where patching fails."""

    def fail():
        raise RuntimeError("broken")

    register(fail, fail)
    try:
        with caplog.at_level(logging.ERROR, "costtrace.scopes"), as_user("alice"):
            assert who() == "alice"
        assert len(caplog.records) == 2
    finally:
        unregister(fail, fail)


def test_fault_of_one_carrier_spares_the_others(caplog, monkeypatch):
    """A library that looks different than expected costs only its own hooks."""
    monkeypatch.setitem(sys.modules, "uvloop", type(sys)("uvloop"))
    caplog.set_level(logging.ERROR, "costtrace.scopes")
    with as_user("alice"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(who).result() == "alice"
    assert len(caplog.records) == 1


def test_opening_and_closing_from_many_threads(events):
    """Threads that open and close at the same moment never see an unpatched scope."""
    stop = threading.Event()
    wrong = []
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work():
        while not stop.is_set():
            with as_user("x"):
                if not events or events[-1] != "opened":
                    wrong.append(list(events[-3:]))
                    stop.set()

    threads = [threading.Thread(target=work) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        stop.wait(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(usual)

    assert wrong == []
    assert events[-1] == "closed"
    assert events == ["opened", "closed"] * (len(events) // 2)


def test_scopes_are_light_to_import():
    """The package loads neither asyncio nor anything third-party."""
    code = (
        "import sys; before = set(sys.modules); import costtrace.scopes;"
        "print(sorted(n for n in ('asyncio', 'contextvars', 'concurrent.futures', 'hashlib',"
        " 'logging', 'inspect', 'trio', 'anyio') if n in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not hasattr(scopes, "nothing_of_this_name")


@pytest.mark.parametrize("when", ["opened", "closed"])
def test_garbage_that_enters_a_scope_while_another_opens_or_closes(when):
    """A generator left in a cycle is closed by the collector, at any point of any thread."""
    program = f"""
        import gc
        from costtrace.scopes import Scope, Stay, Step, active, drive, register
        class Cycle: pass
        closed = []
        def body():
            try: yield
            finally: closed.append(True)
        def leave_garbage():
            cycle = Cycle()
            cycle.steps = drive(body(), Step(lambda parent: Scope(parent, function_name="gen")))
            next(cycle.steps)
            cycle.itself = cycle
        gc.disable()
        leave_garbage()
        hooks = {{"opened": int, "closed": int, "{when}": gc.collect}}
        register(hooks["opened"], hooks["closed"])
        with Stay(Scope()):
            assert closed == [True] * ("{when}" == "opened")
        assert closed == [True]
        assert not active()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

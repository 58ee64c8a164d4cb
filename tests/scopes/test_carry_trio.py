"""Scopes follow trio's tasks and threads, though trio knows nothing of asyncio's."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import Scope, Stay, active, current

trio = pytest.importorskip("trio", reason="trio is not installed")


def instruments():
    """The instruments of the current run that are ours."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    return [it for it in runner.instruments["_all"] if "costtrace" in type(it).__module__]


def test_tasks_of_a_nursery():
    """A task is its starter's, whoever owns the nursery, and after the scope was left too."""

    async def main():
        seen = {}

        async def child(name):
            seen[name] = [who()]
            await trio.sleep(0)
            seen[name].append(who())

        async with trio.open_nursery() as nursery:
            with as_user("alice"):
                nursery.start_soon(child, "alice")
            with as_user("bob"):
                nursery.start_soon(child, "bob")
            nursery.start_soon(child, "nobody")
        return seen

    assert trio.run(main) == {
        "alice": ["alice", "alice"],
        "bob": ["bob", "bob"],
        "nobody": [None, None],
    }


def test_tasks_do_not_see_each_other():
    """What a task enters is its own."""

    async def main():
        wrong = []

        async def user(name):
            for level in range(5):
                with as_user(name), in_function(f"f{level}"):
                    await trio.sleep(0)
                    if (who(), path()) != (name, (f"f{level}",)):
                        wrong.append((name, who(), path()))
                await trio.sleep(0)
                if who() is not None:
                    wrong.append((name, who()))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(user, f"u{number}")
        return wrong

    assert trio.run(main) == []


def test_scope_around_the_run():
    """`with scope: trio.run(main)` covers every task."""

    async def child(seen):
        await trio.sleep(0)
        seen.append(who())

    async def main():
        seen = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, seen)
            with in_function("f"):
                nursery.start_soon(child, seen)
        return seen, who(), await trio.to_thread.run_sync(who)

    with as_user("alice"):
        assert trio.run(main) == (["alice", "alice"], "alice", "alice")


def test_run_inside_a_work_item():
    """A run that a pool's worker does for somebody is theirs."""

    async def child(seen):
        await trio.sleep(0)
        seen.append(who())

    async def main():
        seen = [who()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, seen)
        return seen

    with ThreadPoolExecutor(1) as pool, as_user("alice"):
        assert pool.submit(trio.run, main).result(5) == ["alice", "alice"]


def test_nursery_start():
    """A task that reports when it has started is its starter's."""

    async def child(task_status=trio.TASK_STATUS_IGNORED):
        task_status.started(who())

    async def main():
        async with trio.open_nursery() as nursery:
            with as_user("alice"):
                return await nursery.start(child)

    assert trio.run(main) == "alice"


def test_threads():
    """Work in trio's threads is its submitter's, and the threads stay clean."""

    async def main():
        with as_user("alice"):
            first = await trio.to_thread.run_sync(who)
            with as_user("bob"):
                second = await trio.to_thread.run_sync(who)
        return first, second, await trio.to_thread.run_sync(who)

    assert trio.run(main) == ("alice", "bob", None)


def test_back_from_a_thread():
    """What a thread hands back stands where the thread stood."""

    async def look():
        await trio.sleep(0)
        return who()

    def work():
        with as_user("bob"):
            return trio.from_thread.run(look), trio.from_thread.run_sync(who)

    async def main():
        with as_user("alice"):
            return await trio.to_thread.run_sync(work), who()

    assert trio.run(main) == (("bob", "bob"), "alice")


def test_callback_through_a_token():
    """A callback that another thread sends is that thread's."""

    async def main():
        seen, token, done = [], trio.lowlevel.current_trio_token(), trio.Event()

        def look():
            seen.append(who())
            done.set()

        def outside():
            with as_user("alice"):
                token.run_sync_soon(look)

        thread = threading.Thread(target=outside)
        thread.start()
        await done.wait()
        thread.join()
        return seen

    assert trio.run(main) == ["alice"]


def test_instrument_is_taken_off():
    """A run is watched while scopes are open, and no longer."""

    async def main():
        counts = [len(instruments())]
        with as_user("alice"):
            counts.append(len(instruments()))
        for _ in range(3):
            await trio.sleep(0)
        counts.append(len(instruments()))
        with as_user("bob"):
            counts.append(len(instruments()))
        for _ in range(3):
            await trio.sleep(0)
        return [*counts, len(instruments())]

    assert trio.run(main) == [0, 1, 0, 1, 0]


def test_open_again_before_the_instrument_went():
    """Opening and closing in quick succession inherits every time."""

    async def child():
        await trio.sleep(0)
        return who()

    async def main():
        seen = []

        async def note():
            seen.append(await child())

        async with trio.open_nursery() as nursery:
            for number in range(5):
                with as_user(f"u{number}"):
                    nursery.start_soon(note)
                await trio.sleep(0)
        return sorted(seen)

    assert trio.run(main) == [f"u{number}" for number in range(5)]


def test_task_that_outlives_its_scope_keeps_it_open():
    """A task's end closes, when its scope was left before."""

    async def main():
        gate = trio.Event()
        async with trio.open_nursery() as nursery:
            with as_user("alice"):
                nursery.start_soon(gate.wait)
            await trio.sleep(0)
            is_open = active()
            gate.set()
        return is_open, active()

    assert trio.run(main) == (True, False)


def test_cancelled_and_failing_tasks_leave_their_scopes():
    """Whatever ends a task ends its scopes."""

    async def main():
        async def wait():
            with as_user("alice"):
                await trio.sleep_forever()

        with trio.move_on_after(0.01):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
        return active(), who()

    assert trio.run(main) == (False, None)


def test_nothing_is_kept():
    """Neither tasks nor scopes stay after they are done."""

    async def main():
        refs = []

        async def child(name):
            await trio.sleep(0)
            assert who() == name

        for number in range(30):
            scope = Scope(None, user_id=f"u{number}")
            refs.append(weakref.ref(scope))
            with Stay(scope):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(child, scope.user_id)
            del scope
        gc.collect()
        return sum(ref() is not None for ref in refs)

    assert trio.run(main) == 0


def test_guest_of_asyncio():
    """trio inside asyncio's loop: its tasks and those of asyncio are told apart."""

    async def trio_main():
        seen = []

        async def child(name):
            for _ in range(3):
                await trio.sleep(0)
                seen.append((name, who()))

        async with trio.open_nursery() as nursery:
            with as_user("alice"):
                nursery.start_soon(child, "alice")
            nursery.start_soon(child, None)
        return seen

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with as_user("host"):
            trio.lowlevel.start_guest_run(
                trio_main,
                run_sync_soon_threadsafe=loop.call_soon_threadsafe,
                done_callback=lambda outcome: done.set_result(outcome),
            )
        with as_user("bob"):
            outcome = await done
            assert who() == "bob"
        return outcome.unwrap()

    seen = asyncio.run(main())
    assert {pair for pair in seen if pair[0] == "alice"} == {("alice", "alice")}
    assert all(user in (None, "host") for name, user in seen if name is None)


def test_several_runs_in_several_threads():
    """Runs in different threads know nothing of each other."""
    wrong = []

    async def main(name):
        async def child():
            await trio.sleep(0)
            if who() != name:
                wrong.append((name, who()))

        with as_user(name):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(child)
        if current() is not None:
            wrong.append(name)

    threads = [threading.Thread(target=trio.run, args=(main, f"u{n}")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

"""Scopes follow anyio's tasks and worker threads, on both of its backends."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref

import pytest
from scope_words import as_user, in_function, path, who

from costtrace.scopes import Scope, Stay

anyio = pytest.importorskip("anyio", reason="anyio is not installed")

BACKENDS = ["asyncio"]
try:
    import trio  # noqa: F401
except ImportError:
    pass
else:
    BACKENDS.append("trio")


@pytest.fixture(params=BACKENDS)
def run(request):
    """Runs an async function with anyio on each backend."""
    return lambda main: anyio.run(main, backend=request.param)


async def users(work, count=20):
    """What `work()` returns for each of many users at once."""
    seen = {}

    async def one(name):
        with as_user(name):
            seen[name] = await work()

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, f"u{number}")
    return seen


def test_worker_threads(run):
    """What runs in a worker thread stands where it was handed over; the worker stays clean."""

    async def twice():
        first = await anyio.to_thread.run_sync(who)
        with in_function("f"):
            second = await anyio.to_thread.run_sync(lambda: (who(), path()))
        return first, second

    async def main():
        seen = await users(twice)
        return seen, await anyio.to_thread.run_sync(who)

    seen, after = run(main)
    assert seen == {name: (name, (name, ("f",))) for name in seen}
    assert len(seen) == 20
    assert after is None


def test_workers_serve_nobody_as_nobody(run):
    """A worker that a user's call started serves others clean while that scope is open."""

    async def main():
        seen = []
        ready, asked = anyio.Event(), anyio.Event()

        async def outsider():
            await ready.wait()
            seen.append(await anyio.to_thread.run_sync(who))
            asked.set()

        async with anyio.create_task_group() as group:
            group.start_soon(outsider)
            with as_user("alice"):
                seen.append(await anyio.to_thread.run_sync(who))
                ready.set()
                await asked.wait()
        return seen

    assert run(main) == ["alice", None]


def test_workers_keep_nothing(run):
    """A worker that lives on does not keep the scope it was started or used in."""

    async def main():
        scope = Scope(None, user_id="alice")
        ref = weakref.ref(scope)
        with Stay(scope):
            assert await anyio.to_thread.run_sync(who) == "alice"
        del scope
        with anyio.move_on_after(30):
            while ref() is not None:  # the worker drops its last item a moment after its result
                gc.collect()
                await anyio.sleep(0.001)
        return ref()

    assert run(main) is None


def test_task_groups(run):
    """A task of a group is its starter's, also when it outlives the scope."""

    async def main():
        seen = []

        async def child(task_status=anyio.TASK_STATUS_IGNORED):
            task_status.started()
            await anyio.sleep(0)
            seen.append(who())

        async with anyio.create_task_group() as group:
            with as_user("alice"):
                group.start_soon(child)
                await group.start(child)
            group.start_soon(child)
        return seen

    assert sorted(map(str, run(main))) == ["None", "alice", "alice"]


def test_back_from_the_thread(run):
    """What a worker thread hands back to the loop stands where the thread stood."""

    async def look():
        await anyio.sleep(0)
        return who(), path()

    def look_sync():
        return who(), path()

    def work():
        with in_function("f"):
            return anyio.from_thread.run(look), anyio.from_thread.run_sync(look_sync)

    async def main():
        return await users(lambda: anyio.to_thread.run_sync(work), 5)

    seen = run(main)
    assert seen == {name: ((name, ("f",)), (name, ("f",))) for name in seen}


def test_blocking_portal(run):
    """A thread that talks to a loop through a portal takes its scope along."""

    async def look():
        await anyio.sleep(0)
        return who()

    seen = []

    async def main():
        async with anyio.from_thread.BlockingPortal() as portal:

            def outside(name):
                with as_user(name):
                    seen.append((portal.call(look), portal.start_task_soon(look).result(5)))

            threads = [threading.Thread(target=outside, args=(n,)) for n in ("alice", "bob")]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await anyio.sleep(0.001)

    run(main)
    assert sorted(seen) == [("alice", "alice"), ("bob", "bob")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks: 3.12+")
def test_eager_tasks_of_a_group():
    """anyio goes around an eager factory that it recognises, and its tasks carry all the same."""

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        seen = []

        async def child():
            seen.append(who())
            await anyio.sleep(0)
            seen.append(who())

        async with anyio.create_task_group() as group:
            with as_user("alice"):
                group.start_soon(child)
                seen.append("started")  # it was not run eagerly: anyio knew the factory
        return seen

    assert anyio.run(main) == ["started", "alice", "alice"]

"""Many users over mixed tasks, threads, executors and nested scopes: everyone is right, always."""

from __future__ import annotations

import asyncio
import multiprocessing.pool
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scope_words import as_user, in_function, path, step_of, who

from costtrace.scopes import drive, drive_async

try:
    import uvloop
except ImportError:
    uvloop = None
try:
    import trio
except ImportError:
    trio = None

LOOPS = ["asyncio", "eager", "uvloop", "trio"]


class Storm:
    """Checks, in the places where work goes, that it still knows whose it is."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.wrong = []
        self.checks = 0
        self.pool = ThreadPoolExecutor(3)
        self.thread_pool = multiprocessing.pool.ThreadPool(2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()
        self.thread_pool.close()
        self.thread_pool.join()

    def check(self, user, *names):
        """This is `user`'s work, inside these functions."""
        self.checks += 1
        if (who(), path()) != (user, names):
            self.wrong.append(((user, names), (who(), path())))

    def in_threads(self, user, depth=2):
        """Synchronous work that spreads over threads and pools."""
        self.check(user, *path())
        names = path()
        with in_function(f"level{depth}"):
            inner = (*names, f"level{depth}")
            items = [self.pool.submit(self.check, user, *inner) for _ in range(2)]
            async_items = self.thread_pool.map_async(lambda _: self.check(user, *inner), range(2))
            thread = threading.Thread(target=self.check, args=(user, *inner))
            thread.start()
            if depth:
                # Of its own user only: a pool's worker that waits for its own pool would hang.
                other = threading.Thread(target=self.in_threads, args=(user, depth - 1))
                other.start()
                other.join()
            for item in items:
                item.result(10)
            async_items.get(10)
            thread.join()
            for _ in drive(self.numbers(user, inner), step_of("gen")):
                self.check(user, *inner)
        self.check(user, *names)

    def numbers(self, user, names):
        """A generator's body."""
        for number in range(2):
            self.check(user, *names, "gen")
            yield number


@pytest.mark.parametrize("users", [8, 32])
def test_threads_of_many_users(users):
    """Every thread is a user, and all share the pools."""
    with Storm(1) as storm:

        def serve(name):
            for _ in range(3):
                with as_user(name):
                    storm.in_threads(name)
                storm.check(None)

        threads = [threading.Thread(target=serve, args=(f"u{n}",)) for n in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert storm.wrong == []
    assert storm.checks > users * 50


class AsyncioStorm(Storm):
    """The same over asyncio's tasks and callbacks."""

    async def pause(self):
        """Let others run."""
        await asyncio.sleep(self.random.choice([0, 0, 0.001]))

    async def stream(self, user, names):
        """An async generator's body."""
        for number in range(2):
            await self.pause()
            self.check(user, *names, "stream")
            yield number

    async def work(self, user, depth=2):
        """Asynchronous work that spreads over everything there is."""
        names = path()
        loop = asyncio.get_running_loop()
        with in_function(f"f{depth}"):
            inner = (*names, f"f{depth}")
            await self.pause()
            self.check(user, *inner)
            called = loop.create_future()
            loop.call_soon(lambda: (self.check(user, *inner), called.set_result(None)))
            children = [asyncio.create_task(self.work(user, depth - 1))] if depth else []
            children.append(asyncio.ensure_future(self.checked_later(user, inner)))
            await asyncio.to_thread(self.check, user, *inner)
            await loop.run_in_executor(self.pool, self.check, user, *inner)
            async for _ in drive_async(self.stream(user, inner), step_of("stream")):
                self.check(user, *inner)
            await asyncio.gather(called, *children)
        outliving = asyncio.create_task(self.checked_later(user, names))
        self.check(user, *names)
        return outliving

    async def checked_later(self, user, names):
        """A child."""
        for _ in range(3):
            await self.pause()
            self.check(user, *names)

    async def serve(self, name):
        """One user."""
        left_behind = []
        for _ in range(2):
            with as_user(name):
                left_behind.append(await self.work(name))
            self.check(None)
            await self.pause()
        await asyncio.gather(*left_behind)
        self.check(None)

    async def main(self, users):
        """All of them."""
        await asyncio.gather(*(self.serve(f"u{n}") for n in range(users)))


class TrioStorm(Storm):
    """The same over trio's tasks."""

    async def work(self, user, nursery, depth=2):
        """Asynchronous work that spreads over nurseries and threads."""
        names = path()
        with in_function(f"f{depth}"):
            inner = (*names, f"f{depth}")
            await trio.sleep(0)
            self.check(user, *inner)
            nursery.start_soon(self.checked_later, user, inner)
            await trio.to_thread.run_sync(self.check, user, *inner)
            async with trio.open_nursery() as own:
                own.start_soon(self.checked_later, user, inner)
                if depth:
                    own.start_soon(self.work, user, nursery, depth - 1)
        self.check(user, *names)

    async def checked_later(self, user, names):
        """A child."""
        for _ in range(3):
            await trio.sleep(0)
            self.check(user, *names)

    async def serve(self, name, nursery):
        """One user."""
        for _ in range(2):
            with as_user(name):
                await self.work(name, nursery)
            self.check(None)
            await trio.sleep(0)

    async def main(self, users):
        """All of them."""
        async with trio.open_nursery() as nursery:
            for number in range(users):
                nursery.start_soon(self.serve, f"u{number}", nursery)


def run_loop(storm, users, kind):
    """Run an asyncio storm on a loop of this kind."""
    if kind == "uvloop" and uvloop is None:
        pytest.skip("uvloop is not installed")
    if kind == "eager" and not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks: 3.12+")
    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    if kind == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    try:
        loop.run_until_complete(storm.main(users))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@pytest.mark.parametrize("users", [8, 64])
@pytest.mark.parametrize("kind", LOOPS)
def test_loop_of_many_users(kind, users):
    """Every user is a task, and spreads over tasks, callbacks, threads and generators."""
    if kind == "trio":
        if trio is None:
            pytest.skip("trio is not installed")
        with TrioStorm(2) as storm:
            trio.run(storm.main, users)
    else:
        with AsyncioStorm(2) as storm:
            run_loop(storm, users, kind)

    assert storm.wrong == []
    assert storm.checks > users * 30


def test_everything_at_once():
    """Loops in several threads, trio in another, and plain threads, over the same pools."""
    with AsyncioStorm(3) as storm:

        def loop(kind):
            run_loop(storm, 8, kind)

        def threads(name):
            with as_user(name):
                storm.in_threads(name)

        work = [threading.Thread(target=loop, args=("asyncio",)) for _ in range(2)]
        if uvloop is not None:
            work.append(threading.Thread(target=loop, args=("uvloop",)))
        if trio is not None:
            trio_storm = TrioStorm(4)
            trio_storm.check = storm.check
            work.append(threading.Thread(target=trio.run, args=(trio_storm.main, 8)))
        work += [threading.Thread(target=threads, args=(f"t{n}",)) for n in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        if trio is not None:
            trio_storm.__exit__()

    assert storm.wrong == []

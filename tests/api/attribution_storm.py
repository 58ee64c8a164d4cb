"""Work of many users over everything that runs concurrently, each paid call noted with its owner.

A call is known again by the id of its answer, so that each entry can be compared with who made it.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import count, cycle, islice
from typing import Any

from costtrace import CostLedger, budget, carry, tracked

ASK: list[Any] = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 4}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 4}
RESPONSE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": 16}
Path = tuple[str, ...]


class Storm:
    """Synchronous work; all users share the pool, and a thread that no hook reaches."""

    def __init__(self, openai: Any, anthropic: Any, ledger: CostLedger, seed: int = 1) -> None:
        self.openai, self.anthropic, self.ledger = openai, anthropic, ledger
        self.random = random.Random(seed)
        self.noted: dict[str, tuple[str, Path]] = {}
        self.leftovers: list[Future[Any]] = []
        self.pool = ThreadPoolExecutor(6)
        self.outside: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.turns = count()
        self.worker = threading.Thread(target=self.work_outside)
        self.worker.start()

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        for leftover in self.leftovers:
            leftover.result(60)
        self.outside.put(None)
        self.worker.join()
        self.pool.shutdown()

    def wrong(self) -> dict[str, Any]:
        """Every call whose entry is missing, or under another user, function or path."""
        found = {
            entry.response_id: (entry.user_id, entry.call_path, entry.function_name)
            for entry in self.ledger.entries
        }
        wanted = {
            answer: (user, path, path[-1] if path else "unknown")
            for answer, (user, path) in self.noted.items()
        }
        answers = wanted.keys() | found.keys()
        return {
            str(answer): (wanted.get(answer), found.get(answer))
            for answer in answers
            if wanted.get(answer) != found.get(answer)
        }

    # calls

    def note(self, answer: Any, user: str, path: Path) -> None:
        self.noted[answer] = (user, path)

    def ask(self, user: str, path: Path) -> None:
        """Make one paid call, which is this user's, on this path."""
        kind = next(self.turns) % 4
        if kind == 0:
            self.note(self.openai.chat.completions.create(**CHAT).id, user, path)
        elif kind == 1:
            self.note(self.anthropic.messages.create(**MESSAGE).id, user, path)
        elif kind == 2:
            self.note(self.openai.responses.create(**RESPONSE).id, user, path)
        else:
            self.read(self.stream(), user, path)

    def stream(self) -> Any:
        return self.openai.chat.completions.create(**CHAT, stream=True)

    def read(self, stream: Any, user: str, path: Path) -> None:
        for chunk in stream:
            self.note(chunk.id, user, path)

    # the ways it goes

    def ways(self) -> list[Callable[[str, Path], Any]]:
        return [
            self.nested,
            self.pooled,
            self.mapped,
            self.threaded,
            self.timed,
            self.stepped,
            self.passed_on,
            self.paid_by_another,
            self.read_elsewhere,
            self.carried,
            self.outliving,
        ]

    def serve(self, user: str, start: int, works: int) -> None:
        """One user's requests, one after the other."""
        for way in islice(cycle(self.ways()), start, start + works):
            with budget(user, 100, window="day", ledger=self.ledger):
                within("serve", way, user, ("serve",))

    def nested(self, user: str, path: Path, depth: int = 2) -> None:
        self.ask(user, path)
        if depth:
            within("again", self.nested, user, (*path, "again"), depth - 1)

    def pooled(self, user: str, path: Path) -> None:
        items = [self.pool.submit(self.ask, user, path) for _ in range(2)]
        within("waits", lambda: [item.result(60) for item in items])

    def mapped(self, user: str, path: Path) -> None:
        list(self.pool.map(lambda _: self.ask(user, path), range(2)))

    def threaded(self, user: str, path: Path) -> None:
        inside = (user, (*path, "in_thread"))
        thread = threading.Thread(target=within, args=("in_thread", self.ask, *inside))
        thread.start()
        self.ask(user, path)
        thread.join()

    def timed(self, user: str, path: Path) -> None:
        timer = threading.Timer(0.001, self.ask, (user, path))
        timer.start()
        within("waits", timer.join)

    def stepped(self, user: str, path: Path) -> None:
        for _ in self.numbers(user, [(*path, "numbers")]):
            self.ask(user, path)

    @tracked(function_name="numbers")
    def numbers(self, user: str, where: list[Path]) -> Iterator[int]:
        for number in range(2):
            self.ask(user, where[0])
            yield number

    def passed_on(self, user: str, path: Path) -> None:
        """A generator whose steps are asked for by one function, then by another."""
        where = [(*path, "numbers")]
        numbers = self.numbers(user, where)
        next(numbers)
        where[0] = (*path, "goes_on", "numbers")
        within("goes_on", next, numbers)

    def paid_by_another(self, user: str, path: Path) -> None:
        with budget(f"{user}'s guest", 100, window="day"):
            self.ask(f"{user}'s guest", path)
        self.ask(user, path)

    def read_elsewhere(self, user: str, path: Path) -> None:
        opened = (user, (*path, "opens"))
        stream = within("opens", self.stream)
        with budget("somebody else", 100, window="day"):
            self.pool.submit(self.read, stream, *opened).result(60)

    def carried(self, user: str, path: Path) -> None:
        done: Future[None] = Future()
        self.outside.put((carry(partial(self.ask, user, path)), done))
        done.result(60)

    def outliving(self, user: str, path: Path) -> None:
        self.leftovers.append(self.pool.submit(self.ask, user, path))

    def work_outside(self) -> None:
        """Do what is queued, in a thread that was started before any scope."""
        while (item := self.outside.get()) is not None:
            function, done = item
            done.set_result(function())


def within(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function, tracked under this name."""
    return tracked(function_name=name)(function)(*args)


class AsyncStorm(Storm):
    """Work of an event loop, and of the threads around it."""

    def __init__(self, aopenai: Any, aanthropic: Any, *args: Any) -> None:
        super().__init__(*args)
        self.aopenai, self.aanthropic = aopenai, aanthropic

    async def aask(self, user: str, path: Path) -> None:
        kind = next(self.turns) % 4
        if kind == 0:
            self.note((await self.aopenai.chat.completions.create(**CHAT)).id, user, path)
        elif kind == 1:
            self.note((await self.aanthropic.messages.create(**MESSAGE)).id, user, path)
        elif kind == 2:
            self.note((await self.aopenai.responses.create(**RESPONSE)).id, user, path)
        else:
            await self.aread(await self.astream(), user, path)

    async def astream(self) -> Any:
        return await self.aopenai.chat.completions.create(**CHAT, stream=True)

    async def aread(self, stream: Any, user: str, path: Path) -> None:
        async for chunk in stream:
            self.note(chunk.id, user, path)

    async def aserve(self, user: str, start: int, works: int) -> None:
        for way in islice(cycle(self.async_ways()), start, start + works):
            async with budget(user, 100, window="day", ledger=self.ledger):
                await awithin("serve", way, user, ("serve",))

    def async_ways(self) -> list[Callable[[str, Path], Any]]:
        return [self.anested, self.astepped, self.apassed_on, self.apaid_by_another]

    async def anested(self, user: str, path: Path, depth: int = 2) -> None:
        await self.aask(user, path)
        if depth:
            await awithin("again", self.anested, user, (*path, "again"), depth - 1)

    async def astepped(self, user: str, path: Path) -> None:
        async for _ in self.anumbers(user, [(*path, "numbers")]):
            await self.aask(user, path)

    @tracked(function_name="numbers")
    async def anumbers(self, user: str, where: list[Path]) -> AsyncIterator[int]:
        for number in range(2):
            await self.aask(user, where[0])
            yield number

    async def apassed_on(self, user: str, path: Path) -> None:
        where = [(*path, "numbers")]
        async with aclosing(self.anumbers(user, where)) as numbers:  # type: ignore[type-var]
            await anext(numbers)
            where[0] = (*path, "goes_on", "numbers")
            await awithin("goes_on", self.go_on, numbers)

    async def go_on(self, numbers: AsyncIterator[int]) -> None:
        await anext(numbers)

    async def apaid_by_another(self, user: str, path: Path) -> None:
        async with budget(f"{user}'s guest", 100, window="day"):
            await self.aask(f"{user}'s guest", path)
        await self.aask(user, path)


async def awithin(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Await a coroutine function, tracked under this name."""
    return await tracked(function_name=name)(function)(*args)


class AsyncioStorm(AsyncStorm):
    """The same on asyncio's loops."""

    def async_ways(self) -> list[Callable[[str, Path], Any]]:
        return [
            *super().async_ways(),
            self.gathered,
            self.to_thread,
            self.in_executor,
            self.back_from_a_thread,
            self.called_soon,
            self.read_in_a_task,
            self.task_outlives,
            *(partial(self.sync_way, way) for way in self.ways()),
        ]

    async def gathered(self, user: str, path: Path) -> None:
        child = awithin("child", self.aask, user, (*path, "child"))
        await asyncio.gather(self.aask(user, path), child, asyncio.create_task(self.pause()))

    async def pause(self) -> None:
        await asyncio.sleep(self.random.choice([0, 0, 0.001]))

    async def to_thread(self, user: str, path: Path) -> None:
        await asyncio.to_thread(within, "blocks", self.ask, user, (*path, "blocks"))

    async def in_executor(self, user: str, path: Path) -> None:
        await asyncio.get_running_loop().run_in_executor(self.pool, self.ask, user, path)

    async def back_from_a_thread(self, user: str, path: Path) -> None:
        loop = asyncio.get_running_loop()

        def call() -> None:
            asyncio.run_coroutine_threadsafe(self.aask(user, path), loop).result(60)

        await loop.run_in_executor(None, call)

    async def called_soon(self, user: str, path: Path) -> None:
        loop, tasks = asyncio.get_running_loop(), []
        for schedule in (loop.call_soon, partial(loop.call_later, 0.001)):
            called = loop.create_future()

            def call(called: Any = called) -> None:
                tasks.append(loop.create_task(self.aask(user, path)))
                called.set_result(None)

            schedule(call)  # type: ignore[operator]
            await called
        await asyncio.gather(*tasks)

    async def read_in_a_task(self, user: str, path: Path) -> None:
        stream = await awithin("opens", self.astream)
        with budget("somebody else", 100, window="day"):
            await asyncio.create_task(self.aread(stream, user, (*path, "opens")))

    async def task_outlives(self, user: str, path: Path) -> None:
        self.running.add(asyncio.create_task(self.later(user, path)))

    async def later(self, user: str, path: Path) -> None:
        for _ in range(3):
            await self.pause()
        await self.aask(user, path)

    async def sync_way(self, way: Callable[[str, Path], Any], user: str, path: Path) -> None:
        await asyncio.to_thread(way, user, path)

    async def main(self, users: int, works: int) -> None:
        self.running: set[asyncio.Task[None]] = set()
        async with self.aopenai, self.aanthropic:
            await asyncio.gather(*(self.aserve(f"u{n}", n, works) for n in range(users)))
            await asyncio.gather(*self.running)


class TrioStorm(AsyncStorm):
    """The same on trio."""

    def async_ways(self) -> list[Callable[[str, Path], Any]]:
        return [
            *super().async_ways(),
            self.in_nursery,
            self.back_from_a_thread,
            self.read_in_a_task,
            self.task_outlives,
            *(partial(self.sync_way, way) for way in self.ways()),
        ]

    async def in_nursery(self, user: str, path: Path) -> None:
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.aask, user, path)
            nursery.start_soon(awithin, "child", self.aask, user, (*path, "child"))

    async def back_from_a_thread(self, user: str, path: Path) -> None:
        import trio

        back = partial(trio.from_thread.run, self.aask, user, path)
        await trio.to_thread.run_sync(back)

    async def read_in_a_task(self, user: str, path: Path) -> None:
        import trio

        stream = await awithin("opens", self.astream)
        with budget("somebody else", 100, window="day"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.aread, stream, user, (*path, "opens"))

    async def task_outlives(self, user: str, path: Path) -> None:
        self.nursery.start_soon(self.aask, user, path)

    async def sync_way(self, way: Callable[[str, Path], Any], user: str, path: Path) -> None:
        import trio

        await trio.to_thread.run_sync(way, user, path)

    async def main(self, users: int, works: int) -> None:
        import trio

        async with self.aopenai, self.aanthropic, trio.open_nursery() as self.nursery:
            for number in range(users):
                self.nursery.start_soon(self.aserve, f"u{number}", number, works)


def run_threads(storm: Storm, users: int, works: int) -> None:
    """Every user is a thread."""
    threads = [threading.Thread(target=storm.serve, args=(f"u{n}", n, works)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_greenlets(storm: Storm, users: int, works: int) -> None:
    """Every user is a greenlet, and so are the threads of gevent's patches."""
    import gevent

    ways = storm.ways

    def spawned(user: str, path: Path) -> None:
        child = gevent.spawn(within, "child", storm.ask, user, (*path, "child"))
        storm.ask(user, path)
        child.get()

    storm.ways = lambda: [*ways(), spawned]  # type: ignore[method-assign]
    running = [gevent.spawn(storm.serve, f"u{n}", n, works) for n in range(users)]
    gevent.joinall(running, raise_error=True)

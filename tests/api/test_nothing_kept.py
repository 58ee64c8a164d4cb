"""When the work is done, nothing of it is kept: no scope, no patch, no hook, no reference."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from patched import sdk_methods
from waiting import wait_until

from costtrace import CostLedger, active, budget, carry, tracked
from costtrace.testing import LoopbackProvider

TASKS = 2000
CALLS = int(os.environ.get("COSTTRACE_TEST_CALLS", "300")) // 2
ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "max_tokens": 2,
    "messages": [{"role": "user", "content": "hi"}],
}
LAYERS = ("costtrace.scopes", "costtrace.instrumentation", "costtrace.api")


class Cargo:
    """Something of the user's that travels with the work."""


@pytest.fixture(params=["memory", "file"])
def keeping(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[CostLedger]:
    with CostLedger(path=None if request.param == "memory" else tmp_path / "c.db") as ledger:
        yield ledger
        assert ledger.verify() == []


def hooked() -> list[object]:
    """Return what stands where the hooks of scopes go."""
    loop: Any = asyncio.BaseEventLoop
    names = ("_call_soon", "call_soon", "call_at", "call_soon_threadsafe", "set_task_factory")
    return [
        *(inspect.getattr_static(loop, name) for name in names),
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        Future.add_done_callback,
    ]


def ours(ledger: CostLedger) -> Counter[str]:
    """Count the objects of costtrace's that are alive and belong to some piece of work."""
    gc.collect()
    ledger.flush()  # enters the streams that were found to be left only now
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if isinstance(kind.__module__, str) and kind.__module__.startswith(LAYERS)
    )


def leftover(before: Counter[str], ledger: CostLedger) -> dict[str, int]:
    """Return which objects are more than before."""
    return dict(ours(ledger) - before)


def is_as_before(methods: dict[Any, Any], hooks: list[object]) -> bool:
    now = sdk_methods()
    return all(now[place] is methods[place] for place in methods) and all(
        one is other for one, other in zip(hooked(), hooks, strict=True)
    )


def test_thousands_of_tasks_keep_nothing(provider: LoopbackProvider, keeping: CostLedger):
    """Tasks, generators, streams and budgets of many users, and what they had in their hands."""
    methods, hooks = sdk_methods(), hooked()
    alive: list[weakref.ref[Any]] = []

    def follow(thing: Any) -> Any:
        alive.append(weakref.ref(thing))
        return thing

    async def run(number: int, client: Any) -> None:
        create = client.chat.completions.create

        @tracked(function_name="asks")
        async def asks(cargo: Cargo) -> None:
            await create(**ASK)

        @tracked(function_name="steps")
        async def steps(cargo: Cargo) -> AsyncIterator[int]:
            stream = follow(await create(**ASK, stream=True))
            async for _ in stream:
                yield number
                break
            await stream.close()

        @tracked(function_name="waits")
        async def waits(cargo: Cargo) -> None:
            await asyncio.sleep(0)

        with follow(budget(f"u{number % 50}", 100, window="day", ledger=keeping)):
            if number % (2 * TASKS // CALLS) == 0:
                await asyncio.gather(asks(follow(Cargo())), follow(asyncio.sleep(0, Cargo())))
                async for _ in follow(steps(follow(Cargo()))):
                    await asyncio.sleep(0)
            else:
                await follow(asyncio.create_task(waits(follow(Cargo()))))

    async def main(tasks: int) -> None:
        async with provider.async_openai(max_retries=0) as client:
            running = [follow(asyncio.create_task(run(n, client))) for n in range(tasks)]
            await asyncio.gather(*running)

    asyncio.run(main(50))
    before = ours(keeping)
    asyncio.run(main(TASKS))

    wait_until(lambda: not active())  # a worker drops its last item a moment after its result
    assert is_as_before(methods, hooks)
    wait_until(lambda: leftover(before, keeping) == {})
    assert [ref() for ref in alive if ref() is not None] == []
    assert len(alive) > 3 * TASKS
    assert len(keeping.entries) >= CALLS


def test_threads_and_pools_keep_nothing(provider: LoopbackProvider, keeping: CostLedger):
    """Workers that live on, timers, carried callables, generators left in the middle, errors."""
    methods, hooks = sdk_methods(), hooked()
    client = provider.openai(max_retries=0)
    alive: list[weakref.ref[Any]] = []

    def follow(thing: Any) -> Any:
        alive.append(weakref.ref(thing))
        return thing

    @tracked(function_name="asks")
    def asks(cargo: Cargo) -> None:
        client.chat.completions.create(**ASK)

    @tracked(function_name="steps")
    def steps(cargo: Cargo) -> Iterator[int]:
        stream = follow(client.chat.completions.create(**ASK, stream=True))
        yield from (1 for _ in stream)

    @tracked(function_name="fails")
    def fails(cargo: Cargo) -> None:
        raise KeyError(cargo)

    def serve(number: int) -> None:
        with follow(budget(f"u{number % 8}", 100, window="block", ledger=keeping)):
            pool.submit(asks, follow(Cargo())).result()
            timer = threading.Timer(0, fails_quietly, (follow(Cargo()),))
            timer.start()
            generator = follow(steps(follow(Cargo())))
            next(generator)
            del generator
            carried = follow(carry(partial(asks, follow(Cargo()))))
            timer.join()
        carried()

    def fails_quietly(cargo: Cargo) -> None:
        with pytest.raises(KeyError):
            fails(cargo)

    with ThreadPoolExecutor(4) as pool, ThreadPoolExecutor(4) as servers:
        list(servers.map(serve, range(8)))
        before = ours(keeping)
        list(servers.map(serve, range(CALLS // 3)))
        del serve
        wait_until(lambda: not active())  # a worker drops its last item a moment after its result
        assert is_as_before(methods, hooks)
        wait_until(lambda: leftover(before, keeping) == {})
        assert [ref() for ref in alive if ref() is not None] == []
    assert len(keeping.entries) == 3 * (8 + CALLS // 3)
    assert sys.getrefcount(asks) < 10


def test_a_left_generator_ends_in_its_own_scope(provider: LoopbackProvider, ledger: CostLedger):
    """Its last words are its user's, in whosever scope it is thrown away."""
    client = provider.openai(max_retries=0)

    @tracked(function_name="steps")
    def steps(keep: Callable[[Any], None]) -> Iterator[int]:
        try:
            keep(client.chat.completions.create(**ASK, stream=True))
            yield 1
        finally:
            client.chat.completions.create(**ASK)

    kept: list[Any] = []
    with budget("alice", 100, ledger=ledger):
        left = steps(kept.append)
        next(left)
    with budget("bob", 100, ledger=ledger):
        del left
    assert [(entry.user_id, entry.call_path) for entry in ledger.entries] == [
        ("alice", ("steps",)),
        ("alice", ("steps",)),
    ]
    assert not active()

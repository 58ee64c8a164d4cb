"""Every framework talks to a provider that bills 100 tokens in and 20 out for each call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from costtrace.testing import LoopbackProvider, Reply

HERE = Path(__file__).parent
WARNINGS = ("default", "error::costtrace.exceptions.CosttraceWarning")
"""A framework's own warnings are its own affair."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*WARNINGS))


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackProvider]:
    with LoopbackProvider(Reply(input_tokens=100, output_tokens=20)) as provider:
        for name, value in provider.environ().items():
            monkeypatch.setenv(name, value)
        yield provider


@pytest.fixture(scope="session")
def run_async() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine on the one event loop of all tests: frameworks keep their HTTP clients.

    What it leaves behind, such as generators being closed, is done when this returns.
    """
    loop = asyncio.new_event_loop()

    async def settled() -> bool:
        gc.collect()
        await asyncio.sleep(0)  # what closes a generator is called before it is a task
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest)
        return not rest

    async def alone(action: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await action
        finally:
            while not await settled():
                pass

    yield lambda action: loop.run_until_complete(alone(action))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

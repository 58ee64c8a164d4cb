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
LAST_STEPS = 10
"""Of a loop that nothing waits for, after a test."""
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
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The one event loop of all tests, since frameworks keep their HTTP clients."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def run_async(
    loop: asyncio.AbstractEventLoop,
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine; what it leaves behind, such as generators to be closed, is done at last."""
    yield loop.run_until_complete
    gc.collect()
    for _ in range(LAST_STEPS):
        loop.run_until_complete(asyncio.sleep(0))

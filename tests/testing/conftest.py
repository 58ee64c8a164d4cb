"""A running loopback provider, and proof that it leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from costtrace.testing import LoopbackProvider


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A provider that runs for one test and ends all its threads."""
    before = set(threading.enumerate())
    with LoopbackProvider() as running:
        yield running
    started = set(threading.enumerate()) - before
    assert [thread.name for thread in started if "loopback" in thread.name] == []

"""What every test may use: a provider on loopback, real SDK clients, a ledger, a clock."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from patched import sdk_methods
from vocabulary import vocabulary

from costtrace import CostLedger, SQLiteStore, active
from costtrace.accounting.health import FAULTS
from costtrace.testing import LoopbackProvider

with suppress(ImportError):  # what frameworks and older SDKs are tested with does without it
    import hypothesis

    # Time is for benchmarks: neither an example nor the making of one may take too long.
    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.register_profile(  # for those who ask only whether anything fails
        "unshrunk",
        hypothesis.settings.get_profile("any machine"),
        phases=[hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Nothing is taken from this user's folders, and nothing is left there."""
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="costtrace-state-")
    os.environ.pop("COSTTRACE_SPOOL", None)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabulary())


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as provider:
        yield provider


@pytest.fixture
def openai_client(provider: LoopbackProvider) -> Any:
    return provider.openai(max_retries=0)


@pytest.fixture
def anthropic_client(provider: LoopbackProvider) -> Any:
    return provider.anthropic(max_retries=0)


@pytest.fixture
def ledger() -> Iterator[CostLedger]:
    """A ledger in memory that must agree with itself when the test is over."""
    with CostLedger() as ledger:
        yield ledger
        assert ledger.verify() == []


@pytest.fixture(params=["memory", "sqlite"])
def any_ledger(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[CostLedger]:
    """The same ledger in memory and in a file."""
    store = None
    if request.param == "sqlite":  # patient: what waited for a loaded machine is in no total yet
        store = SQLiteStore(tmp_path / "costs.db", timeout_s=60)
    with CostLedger(store=store) as ledger:
        yield ledger
        assert ledger.verify() == []


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session", autouse=True)
def _garbage_is_sought_among_what_is_new() -> None:
    """What is there before any test, above all the SDKs, is no garbage, and takes long to visit."""
    import anthropic  # noqa: F401
    import openai  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _faults_are_its_own() -> Iterator[None]:
    """The tally of our faults is the process's: each test starts its own at nothing.

    Without `monkeypatch`, which would then be undone after the checks of other fixtures.
    """
    with mock.patch.object(FAULTS, "_counts", {}):
        yield


@pytest.fixture(autouse=True)
def _nothing_stays_patched() -> Iterator[None]:
    """Every test leaves the SDKs as they were, and no scope open."""
    import anthropic  # noqa: F401
    import openai  # noqa: F401

    before = sdk_methods()
    yield
    patience = time.monotonic() + 5
    while active() and time.monotonic() < patience:
        time.sleep(0.001)  # a worker thread may be about to drop its last work item
    assert not active()
    now = sdk_methods()
    assert [place for place in before if now[place] is not before[place]] == []

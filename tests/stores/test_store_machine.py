"""Random steps on each store, compared with a model after each of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from store_model import StoreMachine

from costtrace.stores import MemoryStore, SQLiteStore

pytestmark = pytest.mark.slow

SETTINGS = settings(
    max_examples=int(os.environ.get("COSTTRACE_TEST_EXAMPLES", "150")),
    stateful_step_count=25,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, for many short-lived files."""
    shared_memory = Path("/dev/shm")
    where = tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None)
    yield Path(where)
    shutil.rmtree(where)


def test_memory_store_does_what_the_model_does() -> None:
    """Whatever happens in whatever order, every answer and balance is the model's."""

    class Machine(StoreMachine):
        open_store = MemoryStore

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_sqlite_store_does_what_the_model_does(folder: Path) -> None:
    """Whatever happens in whatever order, every answer and balance is the model's."""
    numbers = iter(range(10**9))

    class Machine(StoreMachine):
        @staticmethod
        def open_store() -> SQLiteStore:
            return SQLiteStore(folder / f"{next(numbers)}.db", synchronous="NORMAL")

    run_state_machine_as_test(Machine, settings=SETTINGS)

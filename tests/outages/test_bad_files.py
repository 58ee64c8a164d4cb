"""A ledger's file that goes bad in mid-traffic: calls are refused, or go on and are entered later.

Which of the two is for `on_store_error` to say. No other error comes out, and nothing is lost that
the file, once it is whole again, can take.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from spool_workers import heard, started, told

from costtrace import BudgetStoreError, CostLedger, SQLiteStore, budget
from costtrace.testing import LoopbackProvider

ASK = [{"role": "user", "content": "0123456789abcdef"}]
NOBODY = 65534


def chat(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=20)


def files(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-wal")]


@contextmanager
def damaged(path: Path, how: str) -> Iterator[None]:
    """Overwrite the ledger's files in place, as a bad disk or another program does; then mend."""
    whole = [one.read_bytes() for one in files(path)]
    for one, content in zip(files(path), whole, strict=True):
        with one.open("r+b") as file:
            if how == "cut off":
                file.truncate(len(content) // 3)
            else:
                kept = 0 if how == "overwritten" else 4096
                file.seek(kept)
                file.write(random.Random(1).randbytes(max(len(content) - kept, 0)))
    try:
        yield
    finally:
        for one, content in zip(files(path), whole, strict=True):
            one.write_bytes(content)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)  # as after a restart of the machine


@pytest.mark.parametrize("how", ["overwritten", "overwritten but for its head", "cut off"])
def test_file_that_is_damaged_in_mid_traffic(how: str, provider: LoopbackProvider, tmp_path: Path):
    """Refused with an error that names the file, or answered and entered when it is mended."""
    path, client = tmp_path / "costs.db", provider.openai(max_retries=0)
    answered = []
    ledger = CostLedger(store=SQLiteStore(path, timeout_s=1))
    for number in range(20):
        with budget(f"user-{number % 3}", 1, ledger=ledger):
            answered.append(chat(client).id)
    with CostLedger(store=SQLiteStore(path, timeout_s=1)) as other, budget("bob", 1, ledger=other):
        answered.append(chat(client).id)  # what the first one remembers of the file is old now
    with damaged(path, how):
        for _ in range(3):
            with pytest.raises(BudgetStoreError) as refused, budget("user-1", 1, ledger=ledger):
                chat(client)
            assert str(path) in str(refused.value)
        assert len(provider.requests) == len(answered)
        for number in range(5):
            with budget(f"user-{number % 3}", 1, on_store_error="allow", ledger=ledger):
                answered.append(chat(client).id)
        health = ledger.health()
        assert (health.unreserved, health.lost, health.unspooled) == (5, 0, 0)
        assert health.waiting >= 5
        assert ledger.flush() is False
        with pytest.raises(BudgetStoreError, match=r"costs\.db"):
            CostLedger(path=path).entries[0]
        ledger.close()

    with CostLedger(path=path) as again:
        assert again.flush() is True
        assert sorted(str(entry.response_id) for entry in again.entries) == sorted(answered)
        assert again.total_cost == sum((e.cost_usd or Decimal(0)) for e in again.entries)
        assert budget("user-1", 1, ledger=again).reserved_usd == 0
        assert again.verify() == []


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may write to."""
    place = Path(tempfile.mkdtemp(prefix="costtrace-"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_file_that_may_no_longer_be_written_in_mid_traffic(provider: LoopbackProvider, place: Path):
    """A worker that is forked finds its parent's file read-only; made writable, it gets it all."""
    user = NOBODY if os.geteuid() == 0 else os.geteuid()  # root may write everything
    path = place / "costs.db"
    worker = started("fork_and_call", str(path), provider.url, str(user), str(place / "state"))
    assert heard(worker) == "called"
    path.chmod(0o444)
    told(worker)
    assert heard(worker).startswith(f"BudgetStoreError {path}: ")
    assert heard(worker) == "answered, flushed: False"
    assert len(provider.requests) == 3
    path.chmod(0o644)
    told(worker)
    assert heard(worker) == "flushed: True"
    told(worker)
    worker.communicate()
    with CostLedger(path=path) as ledger:
        assert [entry.user_id for entry in ledger.entries] == ["parent", "child"]
        assert ledger.verify() == []

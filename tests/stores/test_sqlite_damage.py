"""`verify` names what does not agree, after somebody changed the file by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_calls import ALICE, DAY, entry, hold, limit

from costtrace.stores import SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    """A ledger with three calls, one of them held."""
    store = SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL")
    calls = [entry(100, call_id="first"), entry(20), entry(3, call_id="held")]
    for call in calls:
        store.reserve(hold(call, limit(1000), limit(1000, DAY)))
    store.settle(calls[0], ALICE)
    store.settle(calls[1], ALICE)
    assert store.verify() == []
    yield store
    store.close()


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE balance SET spent_pico = spent_pico + 1", "user:alice: balance"),
        ("UPDATE balance SET reserved_calls = 0", "user:alice: balance"),
        ("UPDATE entry SET cost_pico = 99 WHERE call_id = 'first'", "minute 29922480 is not"),
        ("UPDATE entry SET cost_pico = NULL WHERE call_id = 'first'", "total of day 20779"),
        ("DELETE FROM entry WHERE call_id = 'first'", "ledger: minute 29922480 is not the sum"),
        ("UPDATE entry SET input_tokens = 1 WHERE call_id = 'first'", "total of day 20779"),
        ("UPDATE total SET calls = calls + 1", "is not the sum of its entries"),
        ("DELETE FROM total", "is not the sum of its entries"),
        ("UPDATE minute SET spent_tokens = 1", "ledger: minute 29922480"),
        ("DELETE FROM hold", "user:alice: balance"),
        ("UPDATE hold SET cost_pico = 4", "user:alice: balance"),
        ("DELETE FROM label", "call 'first' has lost its label or its owners"),
        ("DELETE FROM payers", "call 'held' has lost its label or its owners"),
        ("UPDATE hold SET call_id = 'first'", "call 'first' is held and in the ledger as well"),
        ("UPDATE label SET function_name = 'anwser'", "label 1 is not as it was written"),
        ("UPDATE label SET tags = '{'", "label 1: a label is damaged and cannot be read"),
        ("UPDATE owner SET name = 'user:alicf' WHERE id = 2", "payers 1 are not as they were"),
        ("UPDATE hold SET usage_rest = '{\"x\": 1}'", "call 'held' is damaged and cannot be read"),
        ("UPDATE entry SET gateway_cost_usd = '0.o'", "call 'first' is damaged and cannot be read"),
    ],
)
def test_damage_is_named(store: SQLiteStore, damage: str, finding: str) -> None:
    """Each kind of damage is found."""
    shell = sqlite3.connect(store.path)
    shell.execute(damage)
    shell.commit()
    shell.close()

    assert any(finding in found for found in store.verify()), store.verify()

"""A signal's handler that uses the ledger in the middle of a step is served or told so, at once."""

from __future__ import annotations

import gc
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alarms import alarms
from homes import KINDS, empty_home
from store_calls import ALICE, entry, hold, limit
from store_interrupts import broken_into_at

from costtrace import CostLedger, MemoryStore, budget
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError, CallConflictError
from costtrace.stores.base import ALWAYS, Watch
from costtrace.stores.reentry import AMID_A_STEP

SECONDS = float(os.environ.get("COSTTRACE_TEST_SIGNAL_SECONDS", "0.7"))


@pytest.mark.parametrize("kind", KINDS)
def test_handler_may_ask_for_a_report(kind: str, tmp_path: Path) -> None:
    """Nobody hangs, the step it broke into goes on, and all sums are right."""
    ledger = CostLedger(store=empty_home(kind, "reentry", tmp_path)())
    ledger.render("text")  # loads what it needs before anything may break in
    told: list[str] = []
    waits: list[float] = []

    def report() -> None:
        began = time.monotonic()
        try:
            ledger.report(file=io.StringIO())
            told.append("")
        except BudgetStoreError as error:
            told.append(str(error))
        waits.append(time.monotonic() - began)

    spender, pairs, end = budget("alice", 100, ledger=ledger), 0, time.monotonic() + SECONDS
    thresholds = gc.get_threshold()
    gc.set_threshold(50, 1, 1)
    try:
        with alarms(report):
            while time.monotonic() < end or (told.count("") < 3 and time.monotonic() < end + 20):
                spender.authorize("0.0001").settle("0.00005")
                pairs += 1
    finally:
        gc.set_threshold(*thresholds)

    assert told.count("") >= 3
    assert all("in the middle of a step" in text for text in told if text)
    assert max(waits) < 10
    assert ledger.spent(user_id="alice") == spender.spent_usd
    assert len(ledger.entries) == pairs
    assert ledger.verify() == []
    ledger.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_handler_that_spends_is_entered_sooner_or_later(kind: str, tmp_path: Path) -> None:
    """What it records amid a step waits for the step's end; nothing is lost or counted twice."""
    ledger = CostLedger(store=empty_home(kind, "reentry", tmp_path)())
    recorded = 0

    def spend() -> None:
        nonlocal recorded
        ledger.record("gpt-4o", "handler", "bob", 100, 10)
        recorded += 1

    spender, pairs, end = budget("alice", 100, ledger=ledger), 0, time.monotonic() + SECONDS
    with alarms(spend):
        while time.monotonic() < end or (recorded < 4 and time.monotonic() < end + 20):
            spender.authorize("0.0001").settle("0.00005")
            pairs += 1

    assert recorded > 3
    assert ledger.flush()
    assert len(ledger.entries) == pairs + recorded
    assert ledger.verify() == []
    ledger.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_instruction_of_a_step_is_one_that_a_handler_spoils(kind: str, tmp_path: Path) -> None:
    """Wherever it breaks in to spend: it is entered or told so at once, and both calls are kept."""
    store = empty_home(kind, "reentry", tmp_path)()
    at, answers, is_within = 0, set[str](), True
    while is_within:
        if kind == "memory":
            store = MemoryStore()
        call, other = entry(7, response_id="one"), entry(5, response_id="another")

        def work(store: Any = store, call: Any = call) -> None:
            store.reserve(hold(call))
            store.settle(call, ALICE)

        def spend(store: Any = store, other: Any = other) -> None:
            try:
                store.settle(other, ALICE)
                answers.add("")
            except BudgetStoreError as error:
                answers.add(str(error))

        is_within = broken_into_at(at, work, spend, is_anywhere=True, by="opcode")
        if is_within:
            store.settle(other, ALICE)  # as what waits is settled once more
            latest = list(store.entries(newest_first=True))[:2]
            assert sorted(map(repr, latest)) == sorted(map(repr, (call, other)))
        at += 1 if kind == "memory" else 5
    assert {bool(told) for told in answers} == {False, True}
    assert all(AMID_A_STEP in told for told in answers if told)
    assert store.balance("ledger", ALWAYS).reserved_pico == 0
    assert store.verify() == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_handler_that_asks_anywhere_in_a_step_never_waits_for_it(kind: str, tmp_path: Path) -> None:
    """Not even just after a lock was taken: it is answered or told so."""
    store, line, is_broken_into = empty_home(kind, "reentry", tmp_path)(), 0, True
    told: list[str] = []

    def ask() -> None:
        try:
            store.settle(entry(1), ALICE)
            store.sums()
        except BudgetStoreError as error:
            told.append(str(error))

    while is_broken_into:
        step = partial(store.settle, entry(1), ALICE)
        is_broken_into = broken_into_at(line, step, ask, is_anywhere=True)
        line += 1
    assert line > 20
    assert told
    assert [text for text in told if "in the middle of a step" not in text] == []
    assert store.verify() == []
    store.close()


WATCH = Watch("user:alice", ALWAYS, 1, "k")
STEPS: dict[str, Callable[[MemoryStore, CostEntry], object]] = {
    "reserve": lambda store, call: store.reserve(hold(call, limit(100))),
    "settle": lambda store, call: store.settle(call, ALICE, [WATCH]),
    "release": lambda store, call: store.release(call.call_id),
    "lapse": lambda store, call: store.lapse(),
    "rename": lambda store, call: store.rename_user("alice", "bob"),
}
"""A handler does any of them, of the same call or another one, in the middle of any of them."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("other", STEPS)
@pytest.mark.parametrize("is_same", [True, False])
def test_handler_that_writes_anywhere_in_a_step_in_memory(
    step: str, other: str, is_same: bool
) -> None:
    """Before, after, or told so: no call is entered twice, no limit passed, no alert sent twice."""
    line, is_broken_into = 0, True
    while is_broken_into:
        store, call = MemoryStore(), entry(60)
        another = call if is_same else entry(60)
        crossed: list[object] = []
        if step in ("settle", "release"):
            store.reserve(hold(call, limit(100)))

        def do(what: str, one: CostEntry, store: MemoryStore, crossed: list[object]) -> None:
            with suppress(BudgetStoreError, CallConflictError):
                said = STEPS[what](store, one)
                if what == "settle":
                    crossed += said  # type: ignore[misc]

        is_broken_into = broken_into_at(
            line,
            partial(do, step, call, store, crossed),
            partial(do, other, another, store, crossed),
        )
        line += 1

        assert store.verify() == []
        calls = [one.call_id for one in store.entries()]
        assert len(calls) == len(set(calls))
        assert len(crossed) <= 1
        balance = store.balance("user:alice", ALWAYS)
        if "settle" not in (step, other):
            assert balance.spent_pico + balance.reserved_pico <= 100
        assert store.settle(entry(1, call_id="next"), ALICE) == []
        assert store.verify() == []
    assert line > 10

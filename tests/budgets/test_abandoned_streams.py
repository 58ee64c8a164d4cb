"""Streams that nobody reads to the end, left to a garbage collector that runs all the time."""

from __future__ import annotations

import gc
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from alarms import alarms
from waiting import wait_until

from costtrace import BudgetStoreError, CostEntry, CostLedger, Usage, budget
from costtrace.accounting.charges import Charges
from costtrace.instrumentation.call import Call
from costtrace.providers import Reading
from costtrace.testing import LoopbackProvider, Reply

MANY = int(os.environ.get("COSTTRACE_TEST_STREAMS", "1000"))
ASK: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


@contextmanager
def collecting_all_the_time() -> Iterator[None]:
    """The collector looks through all that is new after each few dozen objects."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def abandon(client: Any, events: int) -> None:
    """Read some events of a stream, and leave it in a cycle with others like it."""
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, max_tokens=20, stream=True
    )
    for _ in range(events):
        next(stream, None)
    cycle: list[Any] = [stream]
    cycle.append(cycle)


def check(ledger: CostLedger, count: int, users: int) -> None:
    """A moment after it was collected, each stream is one entry and nothing is reserved.

    A settlement that a signal's handler met in the middle of a step waits for the next try.
    """
    gc.collect()
    spenders = [budget(f"user-{n}", 10**6, ledger=ledger) for n in range(users)]
    wait_until(lambda: not any(one.reserved_usd for one in spenders))
    entries = [entry for entry in ledger.entries if entry.adjusts is None]
    assert len(entries) == count
    assert {entry.status for entry in entries} <= {"partial", "ok"}
    for entry in entries:
        assert entry.cost_usd is not None
        assert entry.reserved_usd is not None
        assert 0 < entry.cost_usd <= max(entry.reserved_usd, WHOLE)
    assert sum((one.spent_usd for one in spenders), Decimal(0)) == ledger.total_cost
    assert ledger.verify() == []


WHOLE = Decimal("0.000027")  # 100 tokens in and 20 out, as the provider counts them


@pytest.fixture
def client(provider: LoopbackProvider) -> Any:
    provider.default = Reply(input_tokens=100, output_tokens=20)
    return provider.openai(max_retries=0)


def test_streams_in_cycles_are_entered_when_they_are_collected(
    any_ledger: CostLedger, client: Any
) -> None:
    """Signals break in meanwhile, whose handler asks for a report: nobody hangs."""
    reports, refused = 0, 0

    def report() -> None:
        nonlocal reports, refused
        try:
            any_ledger.report(file=io.StringIO())
            reports += 1
        except BudgetStoreError:
            refused += 1

    any_ledger.render("text")  # loads what it needs before anything may break in
    with collecting_all_the_time(), alarms(report):
        for number in range(200):
            with budget(f"user-{number % 5}", 10**6, ledger=any_ledger):
                abandon(client, events=number % 6)
    check(any_ledger, 200, users=5)
    assert reports > 10


@pytest.mark.slow
def test_many_streams_of_four_threads(ledger: CostLedger, provider: LoopbackProvider) -> None:
    """Each is collected in whichever thread comes next: all are entered, once.

    A client has a thousand connections, and no stream that nobody closes gives its one back: the
    SDK alone waits for ever then. So each few hundred have a client of their own.
    """
    provider.default = Reply(input_tokens=100, output_tokens=20)

    def work(user: int) -> None:
        for first in range(0, MANY // 4, 250):
            with (
                provider.openai(max_retries=0) as client,
                budget(f"user-{user}", 10**6, ledger=ledger),
            ):
                for number in range(first, min(first + 250, MANY // 4)):
                    abandon(client, events=number % 6)

    threads = [threading.Thread(target=work, args=(user,)) for user in range(4)]
    with collecting_all_the_time():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
            assert not thread.is_alive()
    check(ledger, MANY // 4 * 4, users=4)


def test_a_handler_that_meets_the_same_call_in_the_middle_of_its_entry_puts_it_off(
    ledger: CostLedger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for a report, which collects what was dropped: it would wait for its own thread."""
    made, reports = Call._made, []

    def broken_into(call: Call, make: Callable[[], CostEntry]) -> CostEntry:
        if not reports:
            reports.append("begun")
            again = partial(call.settle_partial, Reading(), is_final=True)
            ledger.postings.dropped.put(again)
            ledger.report(file=io.StringIO())
            reports.append("done")
        return made(call, make)

    def work() -> None:
        with budget("user-0", 10**6, ledger=ledger):
            abandon(client, events=2)

    monkeypatch.setattr(Call, "_made", broken_into)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert reports == ["begun", "done"]
    check(ledger, 1, users=1)


@pytest.mark.parametrize("end", [Call.end, partial(Call.settle_partial, is_final=True)])
def test_a_handler_that_meets_the_same_call_before_its_entry_is_written_puts_it_off(
    end: Callable[..., None], ledger: CostLedger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the rest that the entry keeps reserved would be given back before it is held."""
    made, enter = Call._made, Charges.enter
    calls: list[Any] = []

    def noted(call: Call, make: Callable[[], CostEntry]) -> CostEntry:
        calls.append(call)
        return made(call, make)

    def broken_into(charges: Charges, entry: CostEntry, **how: Any) -> None:
        if how["amend"] and how["rest"] is not None:  # of the outer scope
            arguments = () if end is Call.end else (Reading(),)
            ledger.postings.dropped.put(partial(end, calls[0], *arguments))
            ledger.report(file=io.StringIO())
            calls.append("broken into")
        enter(charges, entry, **how)

    monkeypatch.setattr(Call, "_made", noted)
    monkeypatch.setattr(Charges, "enter", broken_into)
    with budget("user-0", 10**6, ledger=ledger):
        with budget("team", ledger=ledger):
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=ASK, max_tokens=20, stream=True
            )
            next(stream)
        for _ in range(3):
            next(stream)
    assert "broken into" in calls
    del stream
    check(ledger, 1, users=1)


@pytest.mark.parametrize("is_thread", [False, True], ids=["handler", "thread"])
def test_what_is_learnt_while_a_call_is_entered_comes_after_that(
    is_thread: bool, ledger: CostLedger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scopes are left, the rest of it is about to be reserved again, and it ends just then."""
    made, entered, calls, ends = Call._made, Charges.enter, [], []

    def noted(call: Call, make: Callable[[], CostEntry]) -> CostEntry:
        calls.append(call)
        return made(call, make)

    def broken_into(charges: Charges, entry: CostEntry, **how: Any) -> None:
        if len(calls) == 2 and not ends:
            end = partial(calls[-1].settle, Reading(usage=Usage(100, 20)))
            ends.append(threading.Thread(target=end, daemon=True))
            if is_thread:
                ends[0].start()
                ends[0].join(20)
                assert not ends[0].is_alive()
            else:
                end()
        entered(charges, entry, **how)

    monkeypatch.setattr(Call, "_made", noted)
    monkeypatch.setattr(Charges, "enter", broken_into)
    spender = budget("user-0", 10**6, ledger=ledger)
    with spender:
        with budget("user-0", 10**3, ledger=ledger):
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=ASK, max_tokens=20, stream=True
            )
            next(stream)
        next(stream)
    assert len(ends) == 1
    assert spender.reserved_usd == 0
    assert [(entry.status, entry.cost_usd) for entry in ledger.entries] == [("ok", WHOLE)]
    assert ledger.verify() == []
    stream.close()

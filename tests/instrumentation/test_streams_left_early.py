"""Streams that are not read to their end: one entry each, never free, exact where it can be."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from waiting import wait_until

from costtrace import CostLedger, SQLiteStore, budget
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
GPT = Decimal("0.000027")
CLAUDE = Decimal("0.0002")
HUNDRED = Reply(input_tokens=100, output_tokens=20)


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = HUNDRED


def chat(client: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, max_tokens=50, stream=True
    )


def message(client: Any) -> Any:
    return client.messages.create(
        model="claude-haiku-4-5", messages=ASK, max_tokens=50, stream=True
    )


def response(client: Any) -> Any:
    return client.responses.create(
        model="gpt-4o-mini", input="Hi", max_output_tokens=50, stream=True
    )


class LeftError(Exception):
    """What a caller raises in the middle of a stream."""


def break_off(stream: Any) -> None:
    for n, _ in enumerate(stream):
        if n == 6:
            break


def break_off_in_with(stream: Any) -> None:
    with stream:
        break_off(stream)


def close(stream: Any) -> None:
    for _ in range(7):
        next(stream)
    stream.close()


def raise_in_the_loop(stream: Any) -> None:
    with contextlib.suppress(LeftError):
        for n, _ in enumerate(stream):
            if n == 6:
                raise LeftError


def keep_for_later(stream: Any) -> None:
    for _ in range(7):
        next(stream)
    KEPT.append(stream)


KEPT: list[Any] = []
WAYS = [break_off, break_off_in_with, close, raise_in_the_loop, keep_for_later]
MADE = [(chat, "openai"), (response, "openai"), (message, "anthropic")]


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize(("make", "sdk"), MADE)
@pytest.mark.parametrize("limit", [None, 1])
def test_a_stream_left_early_is_one_partial_entry(
    make: Callable[[Any], Any],
    sdk: str,
    leave: Callable[[Any], None],
    limit: int | None,
    openai_client: Any,
    anthropic_client: Any,
    any_ledger: CostLedger,
):
    """However it is left: entered by the exit of its scope, output counted from what came."""
    with budget("alice", limit, ledger=any_ledger) as b:
        leave(make(openai_client if sdk == "openai" else anthropic_client))

    (entry,) = any_ledger.entries
    assert (entry.status, entry.grade, entry.streamed) == ("partial", "estimated", True)
    assert 0 < entry.completion_tokens < 20
    assert 0 < b.spent_usd < (CLAUDE if sdk == "anthropic" else GPT)
    if sdk == "anthropic":
        assert entry.prompt_tokens == 100  # exact: the first event told it
    KEPT.clear()
    gc.collect()
    assert any_ledger.flush()
    assert (b.reserved_usd, len(any_ledger.entries)) == (0, 1)


@pytest.mark.parametrize(("make", "sdk"), MADE)
def test_a_stream_that_is_never_iterated_is_entered(
    make: Callable[[Any], Any],
    sdk: str,
    openai_client: Any,
    anthropic_client: Any,
    ledger: CostLedger,
):
    """It was sent, so it costs its input at least."""
    with budget("alice", 1, ledger=ledger):
        make(openai_client if sdk == "openai" else anthropic_client)
    (entry,) = ledger.entries
    assert (entry.status, entry.grade) == ("partial", "estimated")
    assert entry.cost_usd > 0


def test_a_dropped_stream_is_entered_outside_its_scope(openai_client: Any, ledger: CostLedger):
    """Collected by the garbage collector: whoever asks the ledger next finds it settled."""
    with budget("alice", 1, ledger=ledger) as b:
        stream = chat(openai_client)
        next(stream)
    assert b.reserved_usd > 0
    del stream
    gc.collect()
    assert (b.reserved_usd, len(ledger.entries)) == (0, 1)


def test_a_stream_may_be_read_on_in_another_thread(openai_client: Any, ledger: CostLedger):
    """The one who made it pays, and the whole of it is entered once."""
    with budget("alice", 1, ledger=ledger) as b:
        stream = chat(openai_client)
        next(stream)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    reader.join()
    assert (b.spent_usd, b.reserved_usd) == (GPT, 0)
    assert [(e.status, e.grade) for e in ledger.entries] == [("ok", "reported")]


def test_a_cancelled_task_is_a_partial_entry(provider: LoopbackProvider, any_ledger: CostLedger):
    """Cancelled while it waits for the next chunk."""
    gate = threading.Event()
    provider.default = Reply(input_tokens=100, output_tokens=20, gate=gate, gate_after_chunks=5)

    seen: list[object] = []

    async def read(stream: Any) -> None:
        async for event in stream:
            seen.append(event)

    async def main() -> None:
        async with provider.async_openai() as c, provider.async_anthropic() as a:
            with budget("alice", 1, ledger=any_ledger):
                tasks = [
                    asyncio.create_task(read(await chat(c))),
                    asyncio.create_task(read(await message(a))),
                ]
                while len(seen) < 9:  # a ping is no event
                    await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()
                assert len(await asyncio.gather(*tasks, return_exceptions=True)) == 2

    asyncio.run(main())
    gate.set()
    assert [e.status for e in any_ledger.entries] == ["partial"] * 2
    assert all(e.completion_tokens > 0 for e in any_ledger.entries)


def test_a_cancelled_request_is_charged_at_its_worst_case(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """Nobody knows whether the provider had begun."""

    async def main() -> None:
        async with provider.async_openai() as client:
            with budget("alice", 1, ledger=any_ledger) as b, provider.hold():
                task = asyncio.create_task(
                    client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=50)
                )
                while not provider.waiting:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert b.reserved_usd == 0
                assert b.spent_usd > GPT

    asyncio.run(main())
    assert [(e.status, e.grade) for e in any_ledger.entries] == [("partial", "assumed")]


@pytest.mark.parametrize(("make", "sdk"), MADE)
@pytest.mark.parametrize(
    "fault", ["cut_after_chunks", "truncate_after_chunks", "error_after_chunks"]
)
def test_a_stream_that_breaks_is_a_partial_entry(
    make: Callable[[Any], Any],
    sdk: str,
    fault: str,
    provider: LoopbackProvider,
    ledger: CostLedger,
):
    """Cut off, ended without a word, or ended by an error event: the caller sees what it saw."""

    def read(stream: Any) -> tuple[int, str]:
        count = 0
        try:
            for _ in stream:
                count += 1
        except Exception as error:
            return count, type(error).__name__
        return count, ""

    client: Any = provider.openai(max_retries=0)
    if sdk == "anthropic":
        client = provider.anthropic(max_retries=0)
    broken = Reply(input_tokens=100, output_tokens=20, **{fault: 9})
    provider.queue(broken, broken)
    without = read(make(client))
    with budget("alice", 1, ledger=ledger) as b:
        assert read(make(client)) == without
        assert b.reserved_usd == 0
        (entry,) = ledger.entries
        assert (entry.status, entry.grade) == ("partial", "estimated")
        assert 0 < entry.completion_tokens < 20


def test_a_stream_without_its_usage_but_with_its_end_is_ok(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """All was sent, and the chunk that would tell the usage was not waited for."""
    with budget("alice", 1, ledger=ledger), chat(openai_client) as stream:
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                break
    (entry,) = ledger.entries
    assert (entry.status, entry.grade) == ("ok", "estimated")


def test_every_choice_must_have_ended(openai_client: Any, ledger: CostLedger):
    """The first of three choices is at its end, the others are not."""
    with (
        budget("alice", 1, ledger=ledger),
        openai_client.chat.completions.create(
            model="gpt-4o-mini", messages=ASK, n=3, stream=True
        ) as stream,
    ):
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                break
    assert [e.status for e in ledger.entries] == ["partial"]


def test_a_searching_response_is_not_over_when_its_search_is(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """`response.web_search_call.completed` is the end of a step, not of the response."""
    extra = b'event: e\ndata: {"type":"response.web_search_call.completed","item_id":"i"}\n\n'

    def search(event: bytes) -> bytes:
        return event + extra if b'"response.in_progress"' in event else event

    provider.reply(transform=search, truncate_after_chunks=8)
    with budget("alice", 1, ledger=ledger):
        list(response(openai_client))
    assert [e.status for e in ledger.entries] == ["partial"]


# Errors


def test_an_answer_that_the_sdk_refuses_is_billed_all_the_same(
    openai_client: Any, anthropic_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """`parse` raises on a cut-off answer, after it was paid for."""
    import pydantic

    class City(pydantic.BaseModel):
        name: str

    with budget("alice", 1, ledger=ledger) as b:
        provider.reply(input_tokens=100, output_tokens=20, finish_reason="length")
        with pytest.raises(openai.LengthFinishReasonError):
            openai_client.chat.completions.parse(
                model="gpt-4o-mini", messages=ASK, response_format=City
            )
        with pytest.raises(pydantic.ValidationError):
            anthropic_client.messages.parse(
                model="claude-haiku-4-5", messages=ASK, max_tokens=50, output_format=City
            )
        assert b.spent_usd == GPT + CLAUDE
    assert [(e.status, e.grade) for e in ledger.entries] == [("raised", "reported")] * 2


def test_a_strict_client_that_refuses_an_answer_has_paid_for_it(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Its usage is read off the answer that the SDK did not accept."""
    client = provider.openai(max_retries=0, _strict_response_validation=True)
    kind = b'"object":"chat.completion"'
    provider.reply(
        input_tokens=100, output_tokens=20, transform=lambda body: body.replace(kind, b'"object":5')
    )
    with budget("alice", 1, ledger=ledger) as b:
        with pytest.raises(openai.APIResponseValidationError):
            client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        assert b.spent_usd == GPT
    assert [(e.status, e.grade) for e in ledger.entries] == [("raised", "reported")]


def test_a_refused_connection_costs_nothing(provider: LoopbackProvider, ledger: CostLedger):
    """Nothing reached anybody."""
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=1)
    with client, budget("alice", 1, ledger=ledger) as b:
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        assert (b.spent_usd, b.reserved_usd) == (0, 0)
    assert [(e.status, e.cost_usd, e.attempts) for e in ledger.entries] == [("error", 0, 2)]


def test_a_time_out_is_charged_at_its_worst_case(provider: LoopbackProvider, ledger: CostLedger):
    """It was sent; perhaps it was answered too late."""
    client = provider.anthropic(max_retries=0, timeout=0.2)
    with budget("alice", 1, ledger=ledger) as b, provider.hold():
        with pytest.raises(anthropic.APITimeoutError):
            client.messages.create(model="claude-haiku-4-5", messages=ASK, max_tokens=50)
        assert b.reserved_usd == 0
    (entry,) = ledger.entries
    assert (entry.status, entry.grade, entry.cost_usd) == ("partial", "assumed", entry.reserved_usd)


def test_an_attempt_that_was_cut_is_charged_beside_the_answer(
    provider: LoopbackProvider, ledger: CostLedger
):
    """A cut reply and then an answer: one call, and a line for what the first may have cost."""
    client = provider.openai(max_retries=2)
    provider.queue(Reply(cut_before_headers=True), HUNDRED)
    with budget("alice", 1, ledger=ledger) as b:
        client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=50)
        assert b.spent_usd > 2 * GPT
        assert b.reserved_usd == 0
    call, lost = sorted(ledger.entries, key=lambda entry: entry.adjusts is not None)
    assert (call.attempts, call.cost_usd, call.adjusts) == (2, GPT, None)
    assert (lost.adjusts, lost.grade) == (call.call_id, "assumed")


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 529])
def test_an_error_before_generation_costs_nothing(
    status: int,
    openai_client: Any,
    anthropic_client: Any,
    provider: LoopbackProvider,
    ledger: CostLedger,
):
    """Plain, streamed and raw: the SDK's error, one entry, no cost."""
    provider.on("*", Reply(status=status))
    makers: list[Any] = [
        lambda: chat(openai_client),
        lambda: openai_client.responses.with_raw_response.create(model="gpt-4o-mini", input="Hi"),
        lambda: message(anthropic_client),
    ]
    with budget("alice", 1, ledger=ledger) as b:
        for make in makers:
            with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
                make()
        assert (b.spent_usd, b.reserved_usd) == (0, 0)
    assert [(e.status, e.cost_usd) for e in ledger.entries] == [("error", 0)] * 3


@pytest.mark.parametrize("make", [chat, response, message])
def test_an_open_stream_takes_no_more_of_its_budgets_than_it_was_given(
    make: Callable[[Any], Any], provider: LoopbackProvider, any_ledger: CostLedger
):
    """Entered at the exit of each scope around it: what it may still cost stays reserved."""
    client = provider.anthropic() if make is message else provider.openai()
    with budget("alice", 5, ledger=any_ledger) as alice:
        with budget("team", ledger=any_ledger):
            stream = make(client)
            given = alice.reserved_usd
            for _ in range(5):
                next(stream)
        taken = [(alice.spent_usd, alice.reserved_usd)]
        for _ in range(3):
            next(stream)
    taken.append((alice.spent_usd, alice.reserved_usd))

    assert [spent + reserved for spent, reserved in taken] == [given, given]
    assert all(spent > 0 for spent, _ in taken)
    list(stream)
    (entry,) = any_ledger.entries
    assert (entry.status, alice.spent_usd, alice.reserved_usd) == ("ok", entry.cost_usd, 0)


def test_a_stream_that_ends_while_the_store_is_away_keeps_nothing_reserved(
    openai_client: Any, tmp_path: Path
):
    """What it might still have cost is given back when the store is there again."""
    path = tmp_path / "costs.db"
    with CostLedger(store=SQLiteStore(path, timeout_s=0.2)) as ledger:
        with budget("alice", 5, ledger=ledger) as alice:
            stream = chat(openai_client)
            next(stream)
        assert alice.reserved_usd > 0
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            list(stream)
            other.execute("ROLLBACK")
        wait_until(ledger.flush)

        (entry,) = ledger.entries
        assert (entry.status, alice.spent_usd, alice.reserved_usd) == ("ok", entry.cost_usd, 0)
        assert ledger.verify() == []

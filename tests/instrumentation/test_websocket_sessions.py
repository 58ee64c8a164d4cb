"""Sessions over WebSockets pass no `request`: their events are read as they are parsed."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from costtrace import CostLedger, InstrumentationWarning, budget
from costtrace.instrumentation import begin
from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

pytest.importorskip("websockets")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GPT = Decimal("0.000027")  # gpt-4o-mini, 100 and 20 tokens
REALTIME = Decimal("0.00072")  # gpt-realtime, text: 4 and 16 USD per million


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def client_of(provider: LoopbackProvider) -> Any:
    return provider.openai(websocket_base_url=provider.openai_url.replace("http", "ws"))


def until(connection: Any, kind: str) -> Any:
    while (event := connection.recv()).type != kind:
        pass
    return event


def test_each_turn_of_a_responses_session_is_an_entry(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """Two turns, two entries, each with its own usage."""
    with budget("alice", ledger=any_ledger), client_of(provider).responses.connect() as session:
        for _ in range(2):
            session.response.create(model="gpt-4o-mini", input="Hi")
            until(session, "response.completed")
    assert [(e.operation, e.model, e.cost_usd, e.status) for e in any_ledger.entries] == [
        ("responses", "gpt-4o-mini", GPT, "ok")
    ] * 2


@pytest.mark.parametrize("is_connected_before", [False, True])
def test_a_realtime_session_prices_by_its_model(
    is_connected_before: bool, provider: LoopbackProvider, ledger: CostLedger
):
    """Its responses name no model: the session's first event or its address does."""
    client = client_of(provider)
    manager = client.realtime.connect(model="gpt-realtime")
    session = manager.enter() if is_connected_before else None
    with budget("alice", ledger=ledger):
        session = session or manager.enter()
        session.response.create()
        until(session, "response.done")
        session.close()
    (entry,) = ledger.entries
    assert (entry.operation, entry.model) == ("realtime", "gpt-realtime")
    assert (entry.cost_usd, entry.status, entry.grade) == (REALTIME, "ok", "reported")


def test_cached_and_spoken_tokens_of_a_realtime_response_are_kept_apart(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Each modality has prices of its own."""
    used = Usage(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=40,
        audio_input_tokens=60,
        audio_output_tokens=15,
        audio_cache_read_tokens=30,
    )
    provider.default = Reply(usage=used)
    with (
        budget("alice", ledger=ledger),
        client_of(provider).realtime.connect(model="gpt-realtime") as session,
    ):
        session.response.create()
        until(session, "response.done")
    (entry,) = ledger.entries
    assert entry.usage == used


def test_a_transcript_of_what_was_heard_is_billed_to_its_own_model(
    provider: LoopbackProvider, ledger: CostLedger
):
    """The transcriber's price, not the realtime model's."""
    with (
        budget("alice", ledger=ledger),
        client_of(provider).realtime.connect(model="gpt-realtime") as session,
    ):
        heard = {"input": {"transcription": {"model": "whisper-1"}}}
        session.session.update(session={"type": "realtime", "audio": heard})
        session.input_audio_buffer.commit()
        until(session, "conversation.item.input_audio_transcription.completed")
    (entry,) = ledger.entries
    assert (entry.operation, entry.model) == ("transcriptions", "whisper-1")
    assert (entry.usage, entry.cost_usd) == (Usage(seconds=10), Decimal("0.001"))


def test_a_response_that_is_left_is_a_partial_entry(provider: LoopbackProvider, ledger: CostLedger):
    """Entered when its scope is left, from what had come by then."""
    provider.default = Reply(input_tokens=100, output_tokens=20, chunks=["yes yes"] * 4)
    with budget("alice", ledger=ledger), client_of(provider).responses.connect() as session:
        session.response.create(model="gpt-4o-mini", input="Why is the sky blue?")
        until(session, "response.output_text.delta")
    (entry,) = ledger.entries
    assert (entry.status, entry.grade) == ("partial", "estimated")
    assert 0 < entry.completion_tokens < 20
    assert 0 < entry.prompt_tokens < 30  # the request was seen when it was sent


def test_a_live_session_is_one_entry_of_its_running_total(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Three updates of a total: the last one counts, they are not added."""
    with budget("alice", ledger=ledger), client_of(provider).live.connect() as session:
        session.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        for _ in range(3):
            session.send({"type": "session.input_audio.append", "audio": ""})
            until(session, "session.usage.updated")
    (entry,) = ledger.entries
    assert (entry.model, entry.usage.seconds) == ("gpt-live-1", 30)


def test_async_sessions_are_seen(provider: LoopbackProvider, any_ledger: CostLedger):
    """The same class names, with Async before them."""

    async def main() -> None:
        url = provider.openai_url.replace("http", "ws")
        async with provider.async_openai(websocket_base_url=url) as client:
            with budget("alice", ledger=any_ledger):
                async with client.responses.connect() as session:
                    await session.response.create(model="gpt-4o-mini", input="Hi")
                    while (await session.recv()).type != "response.completed":
                        pass
                async with client.realtime.connect(model="gpt-realtime") as session:
                    await session.response.create()
                    async for event in session:
                        if event.type == "response.done":
                            break

    asyncio.run(main())
    assert [e.cost_usd for e in any_ledger.entries] == [GPT, REALTIME]


def test_a_limit_that_cannot_hold_a_session_says_so(
    provider: LoopbackProvider, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """Its responses are entered when they come, and cannot be refused."""
    monkeypatch.setattr(begin, "_warned", set())
    with budget("alice", 1, ledger=ledger) as b, client_of(provider).responses.connect() as session:
        session.response.create(model="gpt-4o-mini", input="Hi")
        with pytest.warns(InstrumentationWarning, match="sessions over WebSockets"):
            until(session, "response.completed")
    assert b.spent_usd == GPT


def test_outside_a_scope_nothing_is_entered(provider: LoopbackProvider, ledger: CostLedger):
    """A session that goes on after its scope is the caller's own again."""
    with client_of(provider).responses.connect() as session:
        with budget("alice", ledger=ledger):
            session.response.create(model="gpt-4o-mini", input="Hi")
            until(session, "response.completed")
        session.response.create(model="gpt-4o-mini", input="Hi")
        until(session, "response.completed")
    assert len(ledger.entries) == 1

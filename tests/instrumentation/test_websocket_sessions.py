"""Sessions over WebSockets pass no `request`: their events are read as they are parsed."""

from __future__ import annotations

import asyncio
import gc
from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, InstrumentationWarning, budget
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


def asked_of(provider: LoopbackProvider) -> list[Any]:
    """Return the events that have asked a session for a response."""
    bodies = [request.body for request in provider.requests]
    return [body for body in bodies if body.get("type") == "response.create"]


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


def test_a_response_is_reserved_before_it_is_asked_for(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """As any other call: held while it comes, and its cost once it is done."""
    with (
        budget("alice", 1, ledger=any_ledger) as b,
        client_of(provider).responses.connect() as session,
    ):
        session.response.create(model="gpt-4o-mini", input="Hi", max_output_tokens=100)
        assert 0 < b.reserved_usd < Decimal("0.001")
        until(session, "response.completed")
        assert (b.reserved_usd, b.spent_usd) == (0, GPT)


@pytest.mark.parametrize("kind", ["responses", "realtime"])
def test_a_response_that_does_not_fit_is_refused_and_not_sent(
    kind: str, provider: LoopbackProvider, ledger: CostLedger
):
    """The session goes on: a later budget pays for the next one."""
    client = client_of(provider)
    is_realtime = kind == "realtime"
    manager = (
        client.realtime.connect(model="gpt-realtime") if is_realtime else client.responses.connect()
    )
    asked: Any = {} if is_realtime else {"model": "gpt-4o-mini", "input": "Hi"}
    with manager as session:
        with budget("alice", "0.000001", ledger=ledger), pytest.raises(BudgetExceededError):
            session.response.create(**asked)
        assert (asked_of(provider), len(ledger.entries)) == ([], 0)
        with budget("bob", 9, ledger=ledger) as b:
            session.response.create(**asked)
            until(session, "response.done" if is_realtime else "response.completed")
        assert (b.spent_usd, b.reserved_usd) == (REALTIME if is_realtime else GPT, 0)


def test_async_responses_are_refused_too(provider: LoopbackProvider, any_ledger: CostLedger):
    """Off the event loop, where the store is a file."""

    async def main() -> None:
        url = provider.openai_url.replace("http", "ws")
        async with (
            provider.async_openai(websocket_base_url=url) as client,
            client.responses.connect() as session,
        ):
            with budget("alice", 0, ledger=any_ledger), pytest.raises(BudgetExceededError):
                await session.response.create(model="gpt-4o-mini", input="Hi")
            with budget("bob", 1, ledger=any_ledger) as b:
                await session.response.create(model="gpt-4o-mini", input="Hi")
                assert b.reserved_usd > 0
                while (await session.recv()).type != "response.completed":
                    pass
            assert (b.spent_usd, b.reserved_usd) == (GPT, 0)

    asyncio.run(main())
    assert len(asked_of(provider)) == 1


@pytest.mark.parametrize("kind", ["responses", "realtime"])
def test_a_response_without_a_cap_is_given_one_that_is_paid_for(
    kind: str, provider: LoopbackProvider, ledger: CostLedger
):
    """In the event, wherever its kind of session has it; a cap of the session's own is kept to."""
    client = client_of(provider)
    with budget("alice", "2.2" if kind == "realtime" else "0.1", ledger=ledger):
        if kind == "realtime":
            with client.realtime.connect(model="gpt-realtime") as session:
                session.response.create(response={"instructions": "Be kind."})
                until(session, "response.done")
                session.session.update(session={"type": "realtime", "max_output_tokens": 50})
                session.response.create()
                until(session, "response.done")
        else:
            with client.responses.connect() as session:
                session.response.create(model="gpt-4", input="Hi")
                until(session, "response.completed")
    bodies = asked_of(provider)
    if kind == "realtime":
        assert 0 < bodies[0]["response"]["max_output_tokens"] < 4096
        assert bodies[0]["response"]["instructions"] == "Be kind."
        assert "response" not in bodies[1]
    else:
        assert 0 < bodies[0]["max_output_tokens"] < 8192


def test_a_response_that_the_server_refuses_costs_nothing(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Its error gives back what was reserved."""
    with budget("alice", 1, ledger=ledger) as b, client_of(provider).responses.connect() as session:
        provider.reply(status=429)
        session.response.create(model="gpt-4o-mini", input="Hi")
        until(session, "error")
        assert (b.reserved_usd, b.spent_usd) == (0, 0)
    assert [entry.status for entry in ledger.entries] == ["error"]


def test_a_request_that_cannot_be_sent_costs_nothing(
    provider: LoopbackProvider, ledger: CostLedger
):
    """The connection was closed before."""
    from websockets.exceptions import ConnectionClosed

    with budget("alice", 1, ledger=ledger) as b, client_of(provider).responses.connect() as session:
        session.close()
        with pytest.raises(ConnectionClosed):
            session.response.create(model="gpt-4o-mini", input="Hi")
        assert b.reserved_usd == 0
    assert len(ledger.entries) == 0


def test_a_response_that_nobody_reads_is_not_free(provider: LoopbackProvider, ledger: CostLedger):
    """Entered as far as known when its scope is left, and exactly if it is read after all."""
    with client_of(provider).responses.connect() as session:
        with budget("alice", 1, ledger=ledger) as b:
            session.response.create(model="gpt-4o-mini", input="Hi", max_output_tokens=100)
        (entry,) = ledger.entries
        assert (entry.status, entry.grade) == ("partial", "estimated")
        assert entry.cost_usd is not None
        assert b.reserved_usd > 0
        with budget("bob", 1, ledger=ledger):
            until(session, "response.completed")
    (entry,) = ledger.entries
    assert (entry.status, entry.cost_usd, entry.user_id) == ("ok", GPT, "alice")
    assert b.reserved_usd == 0


def test_a_connection_that_is_dropped_holds_nothing(provider: LoopbackProvider, ledger: CostLedger):
    """What nobody can read any more is given back."""
    client = client_of(provider)
    with budget("alice", 1, ledger=ledger) as b:
        impatient = {"close_timeout": 0.1}  # of an end that waits for what is still to be read
        session = client.responses.connect(websocket_connection_options=impatient).enter()
        session.response.create(model="gpt-4o-mini", input="Hi", max_output_tokens=100)
        session.close()
    assert b.reserved_usd > 0
    del session
    gc.collect()
    assert b.reserved_usd == 0
    assert [entry.status for entry in ledger.entries] == ["partial"]


def test_a_limit_that_cannot_hold_a_session_says_so(
    provider: LoopbackProvider, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """The seconds of a live session are entered as they go by, and cannot be refused."""
    monkeypatch.setattr(begin, "_warned", set())
    with budget("alice", 1, ledger=ledger), client_of(provider).live.connect() as session:
        session.send({"type": "session.start", "session": {"model": "gpt-live-1"}})
        session.send({"type": "session.input_audio.append", "audio": ""})
        with pytest.warns(InstrumentationWarning, match="WebSocket sessions"):
            until(session, "session.usage.updated")
    assert len(ledger.entries) == 1


def test_outside_a_scope_nothing_is_entered(provider: LoopbackProvider, ledger: CostLedger):
    """A session that goes on after its scope is the caller's own again."""
    with client_of(provider).responses.connect() as session:
        with budget("alice", ledger=ledger):
            session.response.create(model="gpt-4o-mini", input="Hi")
            until(session, "response.completed")
        session.response.create(model="gpt-4o-mini", input="Hi")
        until(session, "response.completed")
    assert len(ledger.entries) == 1

"""The provider as a server: start and stop, many connections, holds, the log."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costtrace.testing import LoopbackProvider, Reply, count_input, count_text

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}


def address(provider: LoopbackProvider) -> tuple[str, int]:
    """Host and port."""
    host, port = provider.url.removeprefix("http://").split(":")
    return host, int(port)


def test_stop_ends_threads_and_frees_the_port() -> None:
    """After the block nothing listens and no thread is left, whatever clients still hold."""
    before = set(threading.enumerate())
    with LoopbackProvider() as provider:
        where = address(provider)
        idle = socket.create_connection(where)
        client = provider.openai()
        client.chat.completions.create(**CHAT)

    assert client.is_closed()
    assert set(threading.enumerate()) <= before
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


@pytest.mark.parametrize("way", ["gate", "latency", "hold"])
def test_stop_does_not_wait_for_waiting_requests(way: str) -> None:
    """A request that waits, for whatever reason, is cut when the provider stops."""
    errors: list[Exception] = []

    def ask(client: Any) -> None:
        try:
            client.chat.completions.create(**CHAT)
        except openai.APIConnectionError as error:
            errors.append(error)

    before = set(threading.enumerate())
    replies = {"gate": Reply(gate=threading.Event()), "latency": Reply(latency_s=60.0)}
    provider = LoopbackProvider(replies.get(way)).start()
    client = openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0)
    asking = threading.Thread(target=ask, args=(client,))
    with provider.hold() if way == "hold" else nullcontext():
        asking.start()
        provider.wait_for(1)
        provider.stop()
        asking.join(60)
    client.close()

    assert len(errors) == 1
    assert set(threading.enumerate()) <= before


def test_it_can_be_started_again_but_not_twice() -> None:
    """One provider runs once at a time; its log goes on."""
    provider = LoopbackProvider()
    for _ in range(2):
        with provider:
            provider.openai().chat.completions.create(**CHAT)
            with pytest.raises(RuntimeError, match="already"):
                provider.start()
    provider.stop()

    assert len(provider.requests) == 2
    with pytest.raises(RuntimeError, match="with block"):
        _ = provider.url


def test_hold_keeps_two_hundred_calls_in_the_air(provider: LoopbackProvider) -> None:
    """All of them wait at once, and all are answered after the release."""

    async def flood() -> int:
        async with provider.async_openai(max_retries=0) as client:
            with provider.hold():
                calls = [
                    asyncio.create_task(client.chat.completions.create(**CHAT)) for _ in range(200)
                ]
                await asyncio.to_thread(provider.wait_for_waiting, 200, 30.0)
                assert provider.waiting == 200
                assert not any(request.billed for request in provider.requests)
            return sum(done.usage.completion_tokens for done in await asyncio.gather(*calls))

    assert asyncio.run(flood()) == 4000
    assert provider.waiting == 0


def test_gate_stops_a_stream_where_the_test_says(provider: LoopbackProvider) -> None:
    """The client has exactly the events before the gate; leaving there bills only those."""
    provider.reply(gate=threading.Event(), gate_after_chunks=4)

    with provider.openai().chat.completions.create(**CHAT, stream=True) as stream:
        seen = [next(stream).choices[0].delta.content for _ in range(4)]
    provider.wait_finished()

    assert len(seen) == 4
    (request,) = provider.requests
    assert request.billed is not None
    assert request.billed.output_tokens == 3
    assert not request.is_completed


def test_nothing_is_sent_after_the_client_has_left(provider: LoopbackProvider) -> None:
    """Opening the gate for a client that is gone generates nothing more."""
    gate = threading.Event()
    provider.reply(gate=gate, gate_after_chunks=4)

    with provider.openai().chat.completions.create(**CHAT, stream=True) as stream:
        next(stream)
        provider.wait_for_waiting(1)
    gate.set()
    provider.wait_finished()

    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.output_tokens == 3


def test_gate_opens(provider: LoopbackProvider) -> None:
    """Once the gate is set the rest of the stream arrives."""
    gate = threading.Event()
    provider.reply(gate=gate, gate_after_chunks=2)

    with provider.openai().chat.completions.create(**CHAT, stream=True) as stream:
        next(stream)
        provider.wait_for_waiting(1)
        gate.set()
        assert len(list(stream)) == 21


def test_connection_is_kept_alive(provider: LoopbackProvider) -> None:
    """One connection serves many requests, chunked bodies and unread ones included."""
    connection = http.client.HTTPConnection(*address(provider))
    connection.connect()
    sock = connection.sock
    for _ in range(3):
        connection.request("POST", "/v1/chat/completions", json.dumps(CHAT))
        assert json.loads(connection.getresponse().read())["usage"]["completion_tokens"] == 20
    pieces = iter([json.dumps(CHAT)[:10].encode(), json.dumps(CHAT)[10:].encode()])
    connection.request("POST", "/v1/chat/completions", pieces, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["usage"]["completion_tokens"] == 20
    assert connection.sock is sock
    connection.close()
    with socket.create_connection(address(provider)) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
        while client.recv(4096):
            pass  # the end comes although the client did not close


def test_client_may_ask_before_it_sends_the_body(provider: LoopbackProvider) -> None:
    """Expect: 100-continue is answered at once."""
    body = json.dumps(CHAT).encode()
    with socket.create_connection(address(provider)) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n"
        client.sendall(head.encode() + b"expect: 100-continue\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "noise", [b"", b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf"]
)
def test_noise_harms_only_its_own_connection(provider: LoopbackProvider, noise: bytes) -> None:
    """What is no HTTP request closes its connection and is not logged."""
    with socket.create_connection(address(provider)) as client:
        client.sendall(noise)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""

    assert provider.requests == []
    provider.openai().chat.completions.create(**CHAT)


def test_keys_are_not_logged(provider: LoopbackProvider) -> None:
    """The log has the headers a test may want, and no key."""
    provider.openai(api_key="sk-mine").chat.completions.create(**CHAT)

    headers = provider.requests[0].headers
    assert "sk-mine" not in str(headers)
    assert "authorization" in headers
    assert headers["x-stainless-retry-count"] == "0"


def test_environ_reaches_clients_made_without_arguments(provider: LoopbackProvider) -> None:
    """With these variables set both SDKs talk to the provider."""
    with patch.dict(os.environ, provider.environ()), openai.OpenAI() as client:
        client.chat.completions.create(**CHAT)

    assert len(provider.requests) == 1


PROXIES = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_proxy_of_the_environment_is_not_asked(sdk: str, provider: LoopbackProvider) -> None:
    """The provider's own clients go straight to 127.0.0.1, which no proxy could reach for them."""

    def ask(client: Any) -> Any:
        messages = getattr(client, "messages", None) or client.chat.completions
        return messages.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=5)

    async def ask_async() -> None:
        async with getattr(provider, f"async_{sdk}")(max_retries=0) as client:
            await ask(client)

    with patch.dict(os.environ, PROXIES):
        ask(getattr(provider, sdk)(max_retries=0))
        asyncio.run(ask_async())
    assert len(provider.requests) == 2


def test_environ_goes_past_a_proxy(provider: LoopbackProvider) -> None:
    """A client of the test's own, too; hosts that were excepted before still are."""
    with patch.dict(os.environ, {**PROXIES, "NO_PROXY": "intranet"}):
        environ = provider.environ()
        with patch.dict(os.environ, environ), openai.OpenAI(max_retries=0) as client:
            client.chat.completions.create(**CHAT)
    assert environ["NO_PROXY"] == "intranet,127.0.0.1"


def test_log_can_be_waited_for_and_cleared(provider: LoopbackProvider) -> None:
    """Counting starts anew after clear; waiting in vain is an error that says for what."""
    client = provider.openai()
    client.chat.completions.create(**CHAT)
    provider.wait_for(1)
    provider.reply(output_tokens=1)
    provider.clear()

    assert (provider.requests, provider.billed_tokens, provider.queued) == ([], 0, 1)
    with pytest.raises(TimeoutError, match="2 requests"):
        provider.wait_for(2, timeout_s=0.01)
    provider.reset()
    assert provider.queued == 0


def test_models_calls_are_told_from_the_rest(provider: LoopbackProvider) -> None:
    """`model_calls` leaves the free requests out and keeps the refused ones."""
    provider.reply(status=400)
    client = provider.openai()
    client.models.list()
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**CHAT)

    assert [request.status for request in provider.model_calls] == [400]


def test_ids_differ_between_providers() -> None:
    """A ledger that counts each response id once must never meet the same id twice."""
    ids = set()
    for _ in range(3):
        with LoopbackProvider() as provider:
            client = provider.openai()
            ids |= {client.chat.completions.create(**CHAT).id for _ in range(2)}

    assert len(ids) == 6


def test_importing_it_loads_no_sdk() -> None:
    """The server is standard library only."""
    code = (
        "import sys, costtrace.testing;"
        "foreign = {'openai', 'anthropic', 'httpx', 'httpx2', 'pytest', 'contextvars'};"
        "print(sorted(foreign & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_counting_rule() -> None:
    """Four bytes are a token; names of fields, data URLs and numbers are not counted."""
    assert [count_text(text) for text in ("", "a", "abcd", "abcde", "äöü")] == [0, 1, 1, 2, 2]
    body = {"model": "ignored", "messages": [{"role": "user", "content": "abcd"}]}
    assert count_input(body) == 2
    assert count_input({"input": "data:image/png;base64,AAAA"}) == 1
    assert count_input({"input": [[1, 2], [3]]}) == 3
    assert count_input(None) == 1


@pytest.fixture(scope="module")
def shared() -> Any:
    """One provider for many examples."""
    with LoopbackProvider() as running:
        yield running


@settings(deadline=None)
@given(
    limit=st.integers(1, 60),
    choices=st.integers(1, 4),
    wanted=st.integers(0, 100),
    is_streamed=st.booleans(),
)
def test_bill_never_passes_the_limit(
    shared: LoopbackProvider, limit: int, choices: int, wanted: int, is_streamed: bool
) -> None:
    """Whatever a reply wants to say, at most limit times choices tokens are billed."""
    shared.reset()
    shared.reply(output_tokens=wanted)
    body = {**CHAT, "max_tokens": limit, "n": choices, "stream": is_streamed}
    connection = http.client.HTTPConnection(*address(shared))
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    connection.getresponse().read()
    connection.close()

    billed = shared.requests[0].billed
    assert billed is not None
    assert billed.output_tokens == min(limit, wanted) * choices


def test_long_streams_and_long_requests(provider: LoopbackProvider) -> None:
    """Bodies of some megabytes pass in both directions."""
    text = "word " * 200_000
    stream = provider.openai().chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": text}],
        stream=True,
        extra_body={"max_tokens": 3000},
    )
    assert len(list(stream)) == 22
    provider.reply(text="word " * 1000)
    pieces = provider.openai().chat.completions.create(**CHAT, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)

    assert said == "word " * 1000
    first = provider.requests[0].billed
    assert first is not None
    assert first.input_tokens == count_text(text + "user")


def test_client_that_leaves_a_slow_stream_is_noticed(provider: LoopbackProvider) -> None:
    """A paced stream ends, and its bill, when nobody reads it any more."""
    provider.reply(output_tokens=5000, delay_per_chunk_s=0.001)

    with provider.openai().chat.completions.create(**CHAT, stream=True) as stream:
        for _ in range(3):
            next(stream)
    provider.wait_finished()

    (request,) = provider.requests
    assert request.billed is not None
    assert 1 <= request.billed.output_tokens < 4000
    assert not request.is_completed


def test_client_that_leaves_without_reading_is_noticed(provider: LoopbackProvider) -> None:
    """When the answer starts too late for its client, the log says that it was not received."""
    with provider.hold(), socket.create_connection(address(provider)) as client:
        body = json.dumps(CHAT).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        provider.wait_for_waiting(1)
        client.close()
    provider.wait_finished()

    (request,) = provider.requests
    assert request.billed is not None
    assert (request.billed.output_tokens, request.is_completed) == (20, False)

"""WebSocket sessions: responses, realtime and live."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import pytest

from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

HANDSHAKE = (
    b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Client:
    """Just enough of a WebSocket client."""

    def __init__(self, provider: LoopbackProvider, path: str) -> None:
        host, port = provider.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n".encode() + HANDSHAKE)
        self.stream = self.socket.makefile("rb")
        self.head = b"".join(iter(self.stream.readline, b"\r\n"))

    def frame(self, kind: int, payload: bytes) -> None:
        """Send one frame, masked as every client must."""
        mask = os.urandom(4)
        body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.socket.sendall(bytes([kind]) + length + mask + body)

    def send(self, **event: Any) -> None:
        """Send one event."""
        self.frame(0x81, json.dumps(event).encode())

    def read(self) -> tuple[int, bytes]:
        """One frame: its kind and payload."""
        kind, size = self.stream.read(2)
        if size == 126:
            size = int.from_bytes(self.stream.read(2), "big")
        return kind & 0x0F, self.stream.read(size)

    def event(self) -> Any:
        """One event."""
        return json.loads(self.read()[1])

    def close(self) -> None:
        """Leave without a word."""
        self.stream.close()
        self.socket.close()


@pytest.fixture
def connect(provider: LoopbackProvider) -> Any:
    """Opens sessions that are closed with the test."""
    clients = []

    def open_one(path: str) -> Client:
        clients.append(Client(provider, path))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


def test_handshake_ping_pieces_and_close(connect: Any) -> None:
    """The protocol's own example key, a ping, a message in two frames, a close."""
    client = connect("/v1/responses")
    assert b"101" in client.head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in client.head

    client.frame(0x89, b"are you there")
    assert client.read() == (0xA, b"are you there")
    event = json.dumps({"type": "response.create", "model": "m", "input": "x" * 200}).encode()
    client.frame(0x01, event[:9])
    client.frame(0x80, event[9:])
    assert client.event()["type"] == "response.created"
    client.frame(0x88, b"\x03\xe8")
    frames = iter(client.read, (0x8, b"\x03\xe8"))
    assert json.loads(list(frames)[-1][1])["type"] == "response.completed"


def test_responses_session_bills_each_turn(provider: LoopbackProvider, connect: Any) -> None:
    """Each turn is a request in the log, and reads the turn it continues."""
    client = connect("/v1/responses")
    usages, previous = [], None
    for _ in range(2):
        client.send(
            type="response.create", model="gpt-4.1", input="abcd", previous_response_id=previous
        )
        while (event := client.event())["type"] != "response.completed":
            pass
        previous = event["response"]["id"]
        usages.append(event["response"]["usage"])

    assert [usage["input_tokens"] for usage in usages] == [1, 22]
    bills = [request.billed for request in provider.requests]
    assert [bill and bill.usage for bill in bills] == [Usage(1, 20), Usage(22, 20)]
    assert {request.method for request in provider.requests} == {"WEBSOCKET"}


def test_session_can_be_cut_and_refused(provider: LoopbackProvider, connect: Any) -> None:
    """A refusal is an event and costs nothing; a cut bills what was generated."""
    provider.queue(Reply(status=429), Reply(cut_after_chunks=6))
    client = connect("/v1/responses")

    client.send(type="response.create", model="m", input="x")
    assert client.event()["type"] == "error"
    client.send(type="response.create", model="m", input="x")
    assert len([client.event() for _ in range(6)]) == 6
    assert client.stream.read() == b""

    bills = [request.billed for request in provider.requests]
    assert [bill and bill.output_tokens for bill in bills] == [None, 2]


def test_realtime_session_reads_its_history_again(provider: LoopbackProvider, connect: Any) -> None:
    """Items and earlier answers are input of the next response; audio is transcribed apart."""
    client = connect("/v1/realtime?model=gpt-realtime")
    assert client.event()["session"]["model"] == "gpt-realtime"
    content = [{"type": "input_text", "text": "abcd"}]
    client.send(
        type="conversation.item.create",
        item={"type": "message", "role": "user", "content": content},
    )
    assert client.event()["type"] == "conversation.item.added"
    totals = []
    for _ in range(2):
        client.send(type="response.create")
        while (event := client.event())["type"] != "response.done":
            pass
        totals.append(event["response"]["usage"]["input_tokens"])
    assert totals[1] == totals[0] + 20

    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    client.send(type="session.update", session={"type": "realtime", "audio": audio})
    assert client.event()["type"] == "session.updated"
    client.send(type="input_audio_buffer.commit")
    assert client.event()["type"] == "input_audio_buffer.committed"
    assert client.event()["usage"] == {"type": "duration", "seconds": 10}
    last = provider.requests[-1].billed
    assert last is not None
    assert (last.model, last.usage) == ("whisper-1", Usage(seconds=10))


def test_realtime_usage_by_kind_of_content(provider: LoopbackProvider, connect: Any) -> None:
    """A `Usage` becomes the details of a realtime usage object."""
    usage = Usage(
        100,
        30,
        cache_read_tokens=40,
        audio_input_tokens=60,
        audio_cache_read_tokens=30,
        audio_output_tokens=20,
    )
    provider.reply(usage=usage)
    client = connect("/v1/realtime")
    client.send(type="response.create")
    while (event := client.event())["type"] != "response.done":
        pass

    words = event["response"]["usage"]
    assert words["input_token_details"] == {
        "text_tokens": 40,
        "audio_tokens": 60,
        "image_tokens": 0,
        "cached_tokens": 40,
        "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 30, "image_tokens": 0},
    }
    assert words["output_token_details"] == {"text_tokens": 10, "audio_tokens": 20}


def test_live_session_counts_seconds_up(provider: LoopbackProvider, connect: Any) -> None:
    """Usage events are totals so far; the log has what each piece of audio added."""
    provider.default = Reply(seconds=3)
    client = connect("/v1/live/sessions")
    client.send(type="session.start", session={"model": "gpt-live-1"})
    assert client.event()["type"] == "session.started"
    seconds = []
    for _ in range(2):
        client.send(type="session.input_audio.append", audio="AAAA")
        seconds.append(client.event()["usage"]["seconds"])
    client.send(type="session.close")
    assert client.event()["type"] == "session.closed"

    assert seconds == [3, 6]
    bills = [request.billed for request in provider.requests if request.billed]
    assert [(bill.model, bill.usage.seconds) for bill in bills] == [("gpt-live-1", 3)] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning:openai._websocket_connection")
def test_sdks_own_sessions(provider: LoopbackProvider) -> None:
    """The SDK's connections, sync and async, understand every event."""
    pytest.importorskip("websockets")
    client = provider.openai()
    with client.responses.connect() as session:
        session.response.create(model="gpt-4.1", input="abcd")
        for event in session:
            if event.type == "response.completed":
                break
        assert event.response.usage.output_tokens == 20

    async def talk() -> Any:
        async with provider.async_openai() as client, client.realtime.connect(model="m") as session:
            await session.response.create()
            async for event in session:
                if event.type == "response.done":
                    break
            return event.response.usage

    assert asyncio.run(talk()).output_tokens == 20

"""Raw responses: their usage is read off the bytes that the caller reads, as it reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.stream import Watch, watch_bytes
from costtrace.providers import Provider, Reading, Request, StreamReader, parsed

MOST_KEPT = 64 * 1024 * 1024
"""Bytes of one JSON answer that are kept until it is complete."""


def read_body(provider: Provider, request: Request, content: bytes) -> Reading:
    """Read an answer whose body is there."""
    answer = parsed(content)  # None for sound, subtitles, plain text
    return provider.read(request, answer)


def body_reader(http: Any, provider: Provider, request: Request) -> StreamReader:
    """Return what reads the body of an HTTP response as it comes in, by its kind."""
    kind = str(http.headers.get("content-type", ""))
    if "event-stream" in kind:
        return _EventBytes(provider.reader(request, hide_usage=False))
    if "json" in kind:
        return _JsonBytes(provider, request)
    return _OpaqueBytes(provider, request)


class _JsonBytes:
    """Collects a JSON answer, which is complete when it can be parsed."""

    def __init__(self, provider: Provider, request: Request) -> None:
        self._provider = provider
        self._request = request
        self._content = bytearray()

    def see(self, event: object) -> bool:
        if isinstance(event, bytes) and len(self._content) + len(event) <= MOST_KEPT:
            self._content += event
        return False

    def reading(self) -> Reading:
        answer = parsed(bytes(self._content))
        if not isinstance(answer, dict):
            return Reading(is_complete=False)
        return self._provider.read(self._request, answer)


class _EventBytes:
    """Takes the events out of server-sent bytes."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._rest = b""

    def see(self, event: object) -> bool:
        if isinstance(event, bytes):
            *lines, self._rest = (self._rest + event).split(b"\n")
            for line in lines:
                self._see_line(line.strip())
        return False

    def reading(self) -> Reading:
        return self._reader.reading()

    def _see_line(self, line: bytes) -> None:
        if line.startswith(b"data:") and (event := parsed(line[5:])) is not None:
            self._reader.see(event)


class _OpaqueBytes:
    """Sound or plain text, which says nothing of usage: it is billed by what was asked for."""

    def __init__(self, provider: Provider, request: Request) -> None:
        self._provider = provider
        self._request = request

    def see(self, event: object) -> bool:
        return False

    def reading(self) -> Reading:
        return self._provider.read(self._request, None)


def watch_body(http: Any, watch: Watch) -> None:
    """Let a watch see the decoded bytes of a response, whichever way the caller reads them."""
    read, read_async = http.iter_bytes, http.aiter_bytes

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        for chunk in read(*args, **kwargs):
            watch.saw(chunk)
            yield chunk
        watch.ended()

    async def aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        async for chunk in read_async(*args, **kwargs):
            watch.saw(chunk)
            yield chunk
        await watch.ended_async()

    with guard("watch a raw response"):
        http.iter_bytes, http.aiter_bytes = iter_bytes, aiter_bytes
        watch_bytes(http, watch)

"""Raw responses: their usage is read off the bytes that the caller reads, as it reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.stream import watch_bytes
from costtrace.instrumentation.watch import StreamWatch
from costtrace.providers import Reading

MOST_KEPT = 64 * 1024 * 1024
"""Bytes of one JSON answer that are kept until it is complete."""


def watch_raw(http: Any, call: Call) -> StreamWatch | None:
    """Settle a raw response if its body is there, else watch it being read."""
    if getattr(http, "is_closed", False) and not call.request.is_stream:
        call.settle(_read_json(call, http.content))
        return None
    is_events = "event-stream" in str(http.headers.get("content-type", ""))
    reader = _EventBytes(call) if is_events else _JsonBytes(call)
    watch = StreamWatch(call, reader, is_raw=True)
    _tee(http, reader, watch)
    watch_bytes(http, watch)
    watch.open()
    return watch


def _read_json(call: Call, content: bytes) -> Reading:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None  # sound, subtitles, plain text
    return call.provider.read(call.request, answer)


class _JsonBytes:
    """Collects a JSON answer."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._content = bytearray()

    def see(self, event: object) -> bool:
        if isinstance(event, bytes) and len(self._content) + len(event) <= MOST_KEPT:
            self._content += event
        return False

    def reading(self) -> Reading:
        content = bytes(self._content)
        try:
            answer = json.loads(content)
        except ValueError:
            return Reading(is_complete=False)
        return self._call.provider.read(self._call.request, answer)


class _EventBytes:
    """Takes the events out of server-sent bytes."""

    def __init__(self, call: Call) -> None:
        self._reader = call.provider.reader(call.request, hide_usage=False)
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
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                return  # [DONE], or cut
            self._reader.see(event)


def _tee(http: Any, reader: _JsonBytes | _EventBytes, watch: StreamWatch) -> None:
    """Let the reader see the decoded bytes of a response, whichever way the caller reads them."""
    read, read_async = http.iter_bytes, http.aiter_bytes

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        for chunk in read(*args, **kwargs):
            with guard("read a raw response"):
                reader.see(chunk)
            yield chunk
        watch.ended()

    async def aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        async for chunk in read_async(*args, **kwargs):
            with guard("read a raw response"):
                reader.see(chunk)
            yield chunk
        await watch.ended_async()

    http.iter_bytes, http.aiter_bytes = iter_bytes, aiter_bytes

"""The iterators put inside the SDK's own stream, so that its end and its usage are seen.

The caller keeps the SDK's object; only what it iterates is ours. A stream that is left early tells
so by closing its bytes, perhaps from a finaliser that runs in any thread and inside any lock: then
nothing is done but to queue the call, and whoever touches the ledger next settles it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol


class Watch(Protocol):
    """What is told of a stream; none of it raises."""

    def saw(self, event: object) -> bool:
        """An event has come; return whether it is to be hidden from the caller."""

    def ended(self) -> None:
        """The events are at their end."""

    async def ended_async(self) -> None:
        """The events are at their end, on an event loop."""

    def broke(self, error: BaseException) -> None:
        """Reading has failed, or was cancelled."""

    def dropped(self) -> None:
        """The bytes were closed or collected, possibly in a finaliser."""


class WatchedEvents:
    """The events of a sync stream, watched."""

    __slots__ = ("_events", "_next", "_saw", "_watch")

    def __init__(self, events: Iterator[Any], watch: Watch) -> None:
        self._events = events
        self._watch = watch
        self._next = events.__next__
        self._saw = watch.saw

    def __iter__(self) -> WatchedEvents:
        return self

    def __next__(self) -> Any:
        try:
            while True:
                event = self._next()
                if not self._saw(event):
                    return event
        except StopIteration:
            self._watch.ended()
            raise
        except BaseException as error:
            self._watch.broke(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)


class AsyncWatchedEvents:
    """The events of an async stream, watched."""

    __slots__ = ("_events", "_next", "_saw", "_watch")

    def __init__(self, events: AsyncIterator[Any], watch: Watch) -> None:
        self._events = events
        self._watch = watch
        self._next = events.__anext__
        self._saw = watch.saw

    def __aiter__(self) -> AsyncWatchedEvents:
        return self

    async def __anext__(self) -> Any:
        try:
            while True:
                event = await self._next()
                if not self._saw(event):
                    return event
        except StopAsyncIteration:
            await self._watch.ended_async()
            raise
        except BaseException as error:
            self._watch.broke(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)


def is_stream(answer: object) -> bool:
    """Tell whether an answer is iterated: an SDK's stream of events, or of a file's lines."""
    return hasattr(answer, "_iterator") and _http_of(answer) is not None


def watch_events(stream: Any, watch: Watch) -> None:
    """Let a watch see the events of an SDK's stream, and the end of its bytes."""
    events = stream._iterator
    is_async = hasattr(events, "__anext__")
    stream._iterator = (AsyncWatchedEvents if is_async else WatchedEvents)(events, watch)
    watch_bytes(_http_of(stream), watch)


def _http_of(stream: Any) -> Any:
    return getattr(stream, "response", None) or getattr(stream, "http_response", None)


def watch_bytes(response: Any, watch: Watch) -> None:
    """Be told when an HTTP response's byte stream is closed or collected.

    The class is made after the stream's own, since HTTP libraries check the type on close, and
    passes on everything else, such as an observer that the SDK has put there.
    """
    inner = getattr(response, "stream", None)
    if inner is None:
        return
    if isinstance(response.stream, _watched_class(type(inner))):
        return
    response.stream = _watched_class(type(inner))(inner, watch)


_classes: dict[type, type] = {}


def _watched_class(kind: type) -> type:
    """Return a byte stream class of the same flavours as `kind` that reports its close."""
    if kind in _classes:
        return _classes[kind]
    flavours = tuple(
        base for base in kind.__mro__ if base.__name__ in ("SyncByteStream", "AsyncByteStream")
    )
    watched = type("WatchedBytes", (_WatchedBytes, *flavours), {})
    return _classes.setdefault(kind, watched)


class _WatchedBytes:
    """Delegates to the byte stream it holds."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._inner)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._inner)

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._watch.dropped()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._watch.dropped()

    def __getattr__(self, name: str) -> Any:
        if name in ("_inner", "_watch"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        if (watch := self.__dict__.get("_watch")) is not None:
            watch.dropped()

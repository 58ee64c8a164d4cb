"""The iterators put inside the SDK's own stream, so that its end and its usage are seen.

The caller keeps the SDK's object; only what it iterates is ours. A stream that is left early tells
so by closing its bytes, perhaps from a finaliser that runs in any thread and inside any lock: then
nothing is done but to queue the call, and whoever touches the ledger next settles it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol


class Watch(Protocol):
    """What is told of a stream; none of it raises, but `see`, which has the least to do."""

    def see(self, event: Any, /) -> bool:
        """An event has come; returns whether it is to be hidden from the caller. It may raise."""

    def saw(self, event: object, /) -> bool:
        """Do the same without raising."""

    def overlooked(self, error: Exception) -> None:
        """An event could not be read."""

    def ended(self) -> None:
        """The events are at their end."""

    async def ended_async(self) -> None:
        """The events are at their end, on an event loop."""

    def broke(self, error: BaseException) -> None:
        """Reading has failed, or was cancelled."""

    def dropped(self) -> None:
        """The bytes were closed or collected, possibly in a finaliser."""


def watched_events(events: Iterator[Any], watch: Watch) -> Iterator[Any]:
    """Yield the events of a sync stream to whom they are for, after the watch.

    A generator: of all that Python can iterate it adds the least to each event.
    """
    see = watch.see
    try:
        for event in events:
            try:
                is_hidden = see(event)
            except Exception as error:
                watch.overlooked(error)
                is_hidden = False
            if not is_hidden:
                yield event
    except GeneratorExit:
        raise  # nobody reads on: the end of the bytes says what has become of it
    except BaseException as error:
        watch.broke(error)
        raise
    watch.ended()


class AsyncWatchedEvents:
    """The events of an async stream, watched."""

    __slots__ = ("_events", "_next", "_see", "_watch")

    def __init__(self, events: AsyncIterator[Any], watch: Watch) -> None:
        self._events = events
        self._watch = watch
        self._next = events.__anext__
        self._see = watch.see

    def __aiter__(self) -> AsyncWatchedEvents:
        return self

    async def __anext__(self) -> Any:
        try:
            while True:
                event = await self._next()
                try:
                    if self._see(event):
                        continue
                except Exception as error:
                    self._watch.overlooked(error)
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
    watched = AsyncWatchedEvents if hasattr(events, "__anext__") else watched_events
    stream._iterator = watched(events, watch)
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

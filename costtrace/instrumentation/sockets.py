"""Sessions over WebSockets, which pass no `request`: their events are read as they are parsed."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from costtrace.instrumentation.begin import warn_uncovered, warn_unlimited
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.patch import Patch, PatchedModule, Wrapper
from costtrace.instrumentation.presence import is_seen
from costtrace.instrumentation.watch import StreamWatch
from costtrace.providers import Reading, Request
from costtrace.providers.base import get, name_of, text_of
from costtrace.providers.openai import OpenAI
from costtrace.providers.openai_sessions import (
    ENDED,
    LIVE,
    RESPONSES,
    SESSIONS,
    TRANSCRIBED,
    UNCOVERED,
    live_reading,
    requested,
    transcriber_of,
)
from costtrace.scopes import Scope, current

_provider = OpenAI()
_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
_live_calls: WeakValueDictionary[str, Call] = WeakValueDictionary()
"""By session: it may be listened to by several connections, and is billed once."""


class Session:
    """What one connection has said about itself, and its responses under way."""

    def __init__(self, kind: str, connection: Any) -> None:
        self._kind = kind
        self._model = _model_of(connection)
        self._transcriber: str | None = None
        self._session_id: str | None = None
        self._asked: dict[str, Any] = {}
        self._watches: dict[str, StreamWatch] = {}
        self._live: Call | None = None

    def sent(self, event: object) -> None:
        """Note what the client asks for next."""
        is_request, body = requested(event)
        if is_request:
            self._asked = body
        elif (session := get(event, "session")) is not None:
            self._note(session)

    def saw(self, event: object, scope: Scope | None) -> None:
        """Read one event of the server's."""
        kind = text_of(get(event, "type")) or ""
        if (session := get(event, "session")) is not None:
            self._note(session)
        if kind == "response.event":
            self._see_response(RESPONSES, get(event, "event"), scope)
        elif kind.startswith("response."):
            self._see_response(self._kind, event, scope)
        elif kind == TRANSCRIBED:
            self._see_transcript(event, scope)
        elif self._kind == LIVE and (reading := live_reading(event, self._model)) is not None:
            self._see_seconds(reading, scope)

    def _note(self, session: object) -> None:
        self._model = name_of(get(session, "model")) or self._model
        self._session_id = name_of(get(session, "id")) or self._session_id
        self._transcriber = transcriber_of(session) or self._transcriber

    def _see_response(self, operation: str, event: object, scope: Scope | None) -> None:
        key = self._key(event)
        watch = self._watches.get(key)
        if watch is None:
            if get(event, "response", "id") is None:
                return  # a piece of a response that was begun unseen
            watch = self._watches[key] = self._begin(operation, event, scope)
        watch.saw(event)
        if get(event, "type") in ENDED:
            del self._watches[key]
            watch.ended()

    def _key(self, event: object) -> str:
        """Return which response an event belongs to: the last one begun, where it does not say."""
        key = text_of(get(event, "response", "id")) or text_of(get(event, "response_id"))
        return key or next(reversed(self._watches), "")

    def _begin(self, operation: str, event: object, scope: Scope | None) -> StreamWatch:
        body, self._asked = self._asked, {}
        model = name_of(get(event, "response", "model")) or name_of(body.get("model"))
        request = self._request(operation, model or self._model, body)
        call = Call(_provider, request, scope)
        warn_unlimited(call, "sessions over WebSockets")
        watch = StreamWatch(call, _provider.reader(request, hide_usage=False))
        watch.open()
        return watch

    def _see_transcript(self, event: object, scope: Scope | None) -> None:
        request = self._request("transcriptions", self._transcriber, {})
        Call(_provider, request, scope).settle(_provider.read(request, event))

    def _see_seconds(self, reading: Reading, scope: Scope | None) -> None:
        """Enter what a live session has used so far: running totals, which replace each other."""
        if self._live is None:
            call = Call(_provider, self._request("live", self._model, {}), scope)
            key = self._session_id
            self._live = call if key is None else _live_calls.setdefault(key, call)
        if reading.is_complete:
            self._live.settle(reading)
        else:
            self._live.settle_partial(reading, is_final=False)

    def _request(self, operation: str, model: str | None, body: dict[str, Any]) -> Request:
        return Request(
            provider=_provider.name,
            operation=operation,
            model=model or "unknown",
            body=body,
            is_stream=True,
        )


def _model_of(connection: Any) -> str | None:
    """Return the model that a connection's address names; its first event repeats it."""
    path = text_of(get(connection, "_connection", "request", "path")) or ""
    query = parse_qs(urlsplit(path).query)
    return name_of((query.get("model") or query.get("deployment") or [""])[0])


def _session(kind: str, connection: Any) -> Session:
    session = _sessions.get(connection)
    if session is None:
        session = _sessions[connection] = Session(kind, connection)
    return session


def parsed_wrapper(kind: str) -> Wrapper:
    """Return what listens to `parse_event`, which every event of a session passes."""

    def parse_event(
        wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        event = wrapped(*args, **kwargs)
        with guard("read a session's event"):
            scope = current()
            if not is_seen(scope):
                return event
            if kind == UNCOVERED:
                warn_uncovered(_provider.name, "/realtime/translations")
            else:
                _session(kind, connection).saw(event, scope)
        return event

    return parse_event


def sent_wrapper(kind: str) -> Wrapper:
    """Return what listens to `send`: a request for a response says what it sends."""

    def send(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with guard("read a session's request"):
            _session(kind, connection).sent(args[0] if args else kwargs.get("event"))
        return wrapped(*args, **kwargs)

    return send


def _patches(name: str, kind: str) -> tuple[Patch, ...]:
    parsed, sent = parsed_wrapper(kind), sent_wrapper(kind)
    return tuple(
        Patch(owner, method, wrapper, is_required=False)
        for owner in (name, f"Async{name}")
        for method, wrapper in (("parse_event", parsed), ("send", sent))
    )


SOCKETS = tuple(
    PatchedModule(_provider.name, module, _patches(name, kind))
    for module, (name, kind) in SESSIONS.items()
)

"""Sessions over WebSockets, which pass no `request`: their events are read as they come and go."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from costtrace.instrumentation.authorize import authorize, authorize_async
from costtrace.instrumentation.begin import warn_uncovered, warn_unlimited
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard, harmless
from costtrace.instrumentation.patch import Patch, PatchedModule, Wrapper
from costtrace.instrumentation.presence import is_seen
from costtrace.instrumentation.watch import StreamWatch
from costtrace.providers import Reading, Request
from costtrace.providers.base import cap_of, get, name_of, number, text_of
from costtrace.providers.openai import OpenAI
from costtrace.providers.openai_sessions import (
    ENDED,
    LIVE,
    RESPONSES,
    SESSIONS,
    TRANSCRIBED,
    UNCOVERED,
    adjusted,
    live_reading,
    requested,
    transcriber_of,
)
from costtrace.scopes import Scope, current

_provider = OpenAI()
UNASKED = "responses, transcripts and seconds that nobody asked for in WebSocket sessions"
_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
_live_calls: WeakValueDictionary[str, Call] = WeakValueDictionary()
"""By session: it may be listened to by several connections, and is billed once."""


class SentEvent:
    """An event that asks for a response, as an authorization may change it."""

    client: Any = None
    options: Any = None
    max_retries = 0

    def __init__(self, kind: str, event: Any) -> None:
        self.event = event
        self._kind = kind

    def set(self, values: Mapping[str, Any]) -> None:
        """Set values of what it asks for, in a copy: the caller's own dict stays as it is."""
        self.event = adjusted(self._kind, self.event, values)

    def set_max_retries(self, retries: int) -> None:
        """A session tries nothing again."""


class Session:
    """What one connection has said about itself, and its responses under way."""

    def __init__(self, kind: str, connection: Any) -> None:
        self._kind = kind
        self._model = _model_of(connection)
        self._most_output: int | None = None
        self._transcriber: str | None = None
        self._session_id: str | None = None
        self._asked: deque[StreamWatch] = deque()
        """Responses that were authorized and have not begun."""
        self._watches: dict[str, StreamWatch] = {}
        self._live: Call | None = None

    def __del__(self) -> None:
        for watch in (*self._asked, *self._watches.values()):
            watch.dropped()

    @property
    def is_followed(self) -> bool:
        """Whether responses are under way that somebody pays for."""
        return bool(self._asked or self._watches)

    def call(self, event: object, scope: Scope | None) -> Call | None:
        """Return the call that an event of the client's is; None for other events."""
        body = requested(self._kind, event)
        if body is None:
            if (session := get(event, "session")) is not None:
                self._note(session)
            return None
        return Call(_provider, self._request_for(body), scope)

    def expect(self, call: Call) -> StreamWatch:
        """Wait for the response that a call asks for, which is about to be sent."""
        watch = self._watch(call)
        self._asked.append(watch)
        return watch

    def forget(self, watch: StreamWatch, error: BaseException) -> None:
        """Sending a request has failed: nothing is to be expected of it."""
        watch.stop()
        if watch in self._asked:
            self._asked.remove(watch)
        if isinstance(error, Exception):
            watch.call.release()
        else:
            watch.call.assume()

    def saw(self, event: object, scope: Scope | None) -> None:
        """Read one event of the server's."""
        kind = text_of(get(event, "type")) or ""
        if (session := get(event, "session")) is not None:
            self._note(session)
        if kind == "response.event":
            self._see_response(RESPONSES, get(event, "event"), scope)
        elif kind.startswith("response."):
            self._see_response(self._kind, event, scope)
        elif kind == "error" and self._asked:
            self._see_refusal()
        elif not is_seen(scope):
            return
        elif kind == TRANSCRIBED:
            self._see_transcript(event, scope)
        elif self._kind == LIVE and (reading := live_reading(event, self._model)) is not None:
            self._see_seconds(reading, scope)

    def _note(self, session: object) -> None:
        self._model = name_of(get(session, "model")) or self._model
        self._session_id = name_of(get(session, "id")) or self._session_id
        self._transcriber = transcriber_of(session) or self._transcriber
        self._most_output = number(get(session, "max_output_tokens")) or self._most_output

    def _see_response(self, operation: str, event: object, scope: Scope | None) -> None:
        key = self._key(event)
        watch = self._watches.get(key)
        if watch is None:
            if get(event, "response", "id") is None:
                return  # a piece of a response that was begun unseen
            if self._asked:
                watch = self._asked.popleft()
            elif is_seen(scope):
                watch = self._begin(operation, event, scope)
            else:
                return
            self._watches[key] = watch
        watch.saw(event)
        if get(event, "type") in ENDED:
            del self._watches[key]
            watch.ended()

    def _see_refusal(self) -> None:
        """The server has refused what was asked of it: that costs nothing."""
        watch = self._asked.popleft()
        watch.stop()
        watch.call.fail()

    def _key(self, event: object) -> str:
        """Return which response an event belongs to: the last one begun, where it does not say."""
        key = text_of(get(event, "response", "id")) or text_of(get(event, "response_id"))
        return key or next(reversed(self._watches), "")

    def _begin(self, operation: str, event: object, scope: Scope | None) -> StreamWatch:
        """Follow a response that nobody asked for here: the server answers what it hears."""
        model = name_of(get(event, "response", "model")) or self._model
        call = Call(_provider, self._request(operation, model, {}), scope)
        warn_unlimited(call, UNASKED)
        return self._watch(call)

    def _watch(self, call: Call) -> StreamWatch:
        watch = StreamWatch(call, _provider.reader(call.request, hide_usage=False))
        watch.open()
        return watch

    def _request_for(self, body: dict[str, Any]) -> Request:
        """Return the request for a response; what was said before it is read again."""
        if self._kind == RESPONSES:
            request = _provider.request("/responses", body)
            if isinstance(request, Request):
                return replace(request, is_stream=True)
        cap = cap_of(body, "max_output_tokens")
        return replace(
            self._request(self._kind, name_of(body.get("model")) or self._model, body),
            output_cap=self._most_output if cap is None else cap,
            has_hosted_tools=True,
        )

    def _see_transcript(self, event: object, scope: Scope | None) -> None:
        request = self._request("transcriptions", self._transcriber, {})
        call = Call(_provider, request, scope)
        call.estimate.upload_bytes = 0  # nothing bounds what was heard but what the event says
        warn_unlimited(call, UNASKED)
        call.settle(_provider.read(request, event))

    def _see_seconds(self, reading: Reading, scope: Scope | None) -> None:
        """Enter what a live session has used so far: running totals, which replace each other."""
        if self._live is None:
            call = Call(_provider, self._request("live", self._model, {}), scope)
            warn_unlimited(call, UNASKED)
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
            known = _sessions.get(connection)
            if not is_seen(scope) and not (known and known.is_followed):
                return event
            if kind == UNCOVERED:
                warn_uncovered(_provider.name, "/realtime/translations")
            else:
                _session(kind, connection).saw(event, scope)
        return event

    return parse_event


def sent_wrapper(kind: str) -> Wrapper:
    """Return what stands around `send`: a request for a response is authorized before it is sent.

    What a server begins by itself, such as answering what it hears, nobody can refuse here.
    """

    def send(wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        asked = _asked(kind, connection, args, kwargs)
        if asked is None:
            return wrapped(*args, **kwargs)
        session, call, sent = asked
        with harmless("authorize a session's call"):
            authorize(call, sent)
        watch = session.expect(call)
        try:
            return wrapped(sent.event)
        except BaseException as error:
            session.forget(watch, error)
            raise

    return send


def async_sent_wrapper(kind: str) -> Wrapper:
    """Return the same for async connections."""

    async def send(
        wrapped: Any, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        asked = _asked(kind, connection, args, kwargs)
        if asked is None:
            return await wrapped(*args, **kwargs)
        session, call, sent = asked
        with harmless("authorize a session's call"):
            await authorize_async(call, sent)
        watch = session.expect(call)
        try:
            return await wrapped(sent.event)
        except BaseException as error:
            session.forget(watch, error)
            raise

    return send


def _asked(
    kind: str, connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Session, Call, SentEvent] | None:
    """Return the call that sending an event is; None where it is none, or nobody's."""
    with guard("read a session's request"):
        event, scope = args[0] if args else kwargs["event"], current()
        session = _session(kind, connection)
        call = session.call(event, scope)
        if call is not None and is_seen(scope):
            return session, call, SentEvent(kind, event)
    return None


def _patches(name: str, kind: str) -> tuple[Patch, ...]:
    parsed = parsed_wrapper(kind)
    return tuple(
        Patch(owner, method, wrapper, is_required=False)
        for owner, sent in ((name, sent_wrapper(kind)), (f"Async{name}", async_sent_wrapper(kind)))
        for method, wrapper in (("parse_event", parsed), ("send", sent))
    )


SOCKETS = tuple(
    PatchedModule(_provider.name, module, _patches(name, kind))
    for module, (name, kind) in SESSIONS.items()
)

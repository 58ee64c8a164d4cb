"""The loopback provider: a server on 127.0.0.1 that answers as OpenAI and Anthropic do."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from costtrace.testing.answer import Answer, Call, Frame, Refusal, Stored, dump
from costtrace.testing.connection import Connection, RawRequest, Server
from costtrace.testing.delivery import deliver, deliver_messages
from costtrace.testing.direct import direct_client, without_proxy
from costtrace.testing.errors import error_answer
from costtrace.testing.gates import Gates
from costtrace.testing.log import Exchange, LoggedRequest, Received, RequestLog
from costtrace.testing.parsing import receive
from costtrace.testing.replies import Match, Replies, Script
from costtrace.testing.reply import Reply
from costtrace.testing.routes import Route, find_route
from costtrace.testing.sessions import Session, error_event, open_session
from costtrace.testing.websocket import WebSocket, wants_websocket

FAKE_KEY = "sk-loopback"


class LoopbackProvider:
    """A real HTTP server that speaks both providers' protocols, for tests without a network.

    It runs from entering the `with` block (or `start()`) to leaving it (or `stop()`), answers
    every call at once with a predictable text and usage, and logs what was sent and billed. Safe
    from any thread; the same for synchronous and asynchronous clients.

    Without a reply of the test's own the answer is "yes" 20 times, 20 tokens, or as many as the
    request's limit allows; the input is counted by `count_input`. Every event of a WebSocket
    session is a request of its own in the log, with the method "WEBSOCKET".

    A stream is written at once: a client that leaves early is billed for all of it, unless
    `Reply.delay_per_chunk_s` or `Reply.gate_after_chunks` keep the rest back.

        with LoopbackProvider() as provider:
            client = provider.openai()
            client.chat.completions.create(model="gpt-4o-mini", messages=[...])
            assert provider.requests[0].billed.output_tokens == 20
    """

    def __init__(self, default: Reply | None = None) -> None:
        self._log = RequestLog()
        self._replies = Replies()
        self._gates = Gates()
        self._stored = Stored()
        self._server: Server | None = None
        self._clients: list[Any] = []
        if default is not None:
            self.default = default

    # Running.

    def start(self) -> LoopbackProvider:
        """Listen on a free port; `RuntimeError` when it already runs."""
        if self._server is not None:
            raise RuntimeError("the loopback provider already runs")
        self._gates = Gates()
        self._server = Server(self._respond)
        return self

    def stop(self) -> None:
        """Cut every connection, end every thread, close the clients made here. May be repeated."""
        server, self._server = self._server, None
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()
        if server is not None:
            self._gates.stop()
            server.stop()

    def __enter__(self) -> LoopbackProvider:
        return self.start()

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    # Reaching it.

    @property
    def url(self) -> str:
        """`http://127.0.0.1:<port>`; `RuntimeError` while it does not run."""
        if self._server is None:
            raise RuntimeError("the loopback provider does not run: use it in a with block")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """Base URL for Anthropic clients."""
        return self.url

    def environ(self) -> dict[str, str]:
        """Environment variables that point both SDKs here, past any proxy."""
        return {
            **{name: without_proxy(os.environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")},
            "OPENAI_BASE_URL": self.openai_url,
            "OPENAI_API_KEY": FAKE_KEY,
            "ANTHROPIC_BASE_URL": self.anthropic_url,
            "ANTHROPIC_API_KEY": FAKE_KEY,
        }

    def openai(self, **options: Any) -> Any:
        """An `openai.OpenAI` that talks to this provider; closed when the provider stops."""
        return self._keep(self._client("openai", "OpenAI", self.openai_url, options))

    def async_openai(self, **options: Any) -> Any:
        """An `openai.AsyncOpenAI` that talks to this provider; close it in its event loop."""
        return self._client("openai", "AsyncOpenAI", self.openai_url, options)

    def anthropic(self, **options: Any) -> Any:
        """An `anthropic.Anthropic` that talks to this provider; closed when it stops."""
        return self._keep(self._client("anthropic", "Anthropic", self.anthropic_url, options))

    def async_anthropic(self, **options: Any) -> Any:
        """An `anthropic.AsyncAnthropic` that talks to this provider; close it in its event loop."""
        return self._client("anthropic", "AsyncAnthropic", self.anthropic_url, options)

    def _client(self, module: str, name: str, base_url: str, options: dict[str, Any]) -> Any:
        create = getattr(importlib.import_module(module), name)
        defaults: dict[str, Any] = {"api_key": FAKE_KEY, "base_url": base_url}
        if "http_client" not in options:
            defaults["http_client"] = direct_client(module, is_async=name.startswith("Async"))
        return create(**{**defaults, **options})

    def _keep(self, client: Any) -> Any:
        self._clients.append(client)
        return client

    # Telling it what to answer.

    @property
    def default(self) -> Reply:
        """The reply of every model call that nothing else decides."""
        return self._replies.default

    @default.setter
    def default(self, reply: Reply) -> None:
        self._replies.default = reply

    def queue(self, *replies: Reply) -> None:
        """Answer the next model calls with these, one each, in order of arrival.

        A retry of the SDK is a call of its own. Free requests (token counts, retrievals, files)
        use none.
        """
        self._replies.enqueue(*replies)

    def reply(self, **fields: Any) -> None:
        """`queue(Reply(**fields))`."""
        self.queue(Reply(**fields))

    def on(self, match: Match, reply: Reply | Script, *, times: int | None = None) -> None:
        """Answer matching requests with `reply`, always or `times` times; the first rule wins.

        `match` is the end of a path ("/embeddings"), a pattern ("*/files/*") or a function of the
        request; `reply` may be a function of the request too. Rules come before the queue, and
        are the only way to change the answer of a free request.
        """
        self._replies.add_rule(match, reply, times)

    def script(self, function: Script | None) -> None:
        """Ask `function` for the reply of each model call that no rule or queued reply answers.

        Where it returns None the default applies.
        """
        self._replies.set_script(function)

    @property
    def queued(self) -> int:
        """Queued replies that no call has used yet."""
        return self._replies.queued

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let model calls wait unanswered until the block is left."""
        with self._gates.hold():
            yield

    @property
    def waiting(self) -> int:
        """Requests that wait at a `hold()` or a `Reply.gate` right now."""
        return self._gates.waiting

    def wait_for_waiting(self, count: int, timeout_s: float = 10.0) -> None:
        """Return once `count` requests wait; `TimeoutError` after `timeout_s` seconds."""
        self._gates.wait_for_waiting(count, timeout_s)

    # Reading what happened.

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far, in order of arrival, as it stands now."""
        return self._log.snapshots()

    @property
    def model_calls(self) -> list[LoggedRequest]:
        """The requests that ask a model for something, refused ones included."""
        return [request for request in self.requests if _is_model_call(request)]

    @property
    def billed_tokens(self) -> int:
        """Input and output tokens billed so far."""
        return sum(request.billed.usage.total_tokens for request in self.requests if request.billed)

    def clear(self) -> None:
        """Forget the requests so far; replies and stored objects stay."""
        self._log.clear()

    def reset(self) -> None:
        """Forget the requests, replies and rules, and go back to the plain default."""
        self._log.clear()
        self._replies.reset()

    def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Return once `count` requests have arrived; `TimeoutError` after `timeout_s` seconds."""
        self._log.wait_for(count, timeout_s)

    def wait_finished(self, timeout_s: float = 10.0) -> None:
        """Return once no request is in progress; `TimeoutError` after `timeout_s` seconds."""
        self._log.wait_finished(timeout_s)

    # Answering, in the thread of the connection.

    def _respond(self, client: Connection, raw: RawRequest) -> bool:
        received = receive(raw)
        session = open_session(received) if wants_websocket(raw.headers) else None
        if session is not None:
            self._converse(client, received, session)
            return False
        exchange = self._log.open(received)
        try:
            stays = self._exchange(client, exchange)
        finally:
            self._log.close(exchange)
        return stays and raw.headers.get("connection", "").lower() != "close"

    def _converse(self, client: Connection, received: Received, session: Session) -> None:
        """Serve a WebSocket until it closes; each event of the client is a request in the log."""
        socket = WebSocket(client)
        socket.accept(received.headers)
        start = Call(received, Reply(), self._stored)
        for greeting in session.greet(start):
            socket.send(dump(greeting))
        while (message := socket.receive()) is not None:
            event = json.loads(message)
            body = event if isinstance(event, dict) else {}
            exchange = self._log.open(replace(received, method="WEBSOCKET", body=body))
            try:
                if not self._react(session, socket, exchange):
                    return
            finally:
                self._log.close(exchange)

    def _react(self, session: Session, socket: WebSocket, exchange: Exchange) -> bool:
        received = exchange.received
        is_model_call = session.is_model_call(received.body)
        try:
            reply = self._replies.choose(received, is_model_call)
            if reply.status >= 400:
                answer = Answer(frames=(Frame(error_event(reply.status, reply.error)),))
            else:
                answer = session.answer(Call(received, reply, self._stored))
        except Exception as error:  # a script or a reply of the test's own failed: tell the test
            reply, answer = Reply(), Answer(frames=(Frame(error_event(400, repr(error))),))
        if is_model_call:
            self._gates.pass_hold()
        return deliver_messages(answer, reply, socket, exchange, self._gates)

    def _exchange(self, client: Connection, exchange: Exchange) -> bool:
        received, found = exchange.received, find_route(exchange.received)
        is_model_call = found is not None and found[0].is_model_call
        try:
            reply = self._replies.choose(received, is_model_call)
            answer = self._answer(received, reply, found)
        except Exception as error:  # a script or a reply of the test's own failed: tell the test
            reply, answer = Reply(), _failure(received, error)
        if is_model_call:
            self._gates.pass_hold()
        return deliver(answer, reply, client, exchange, self._gates)

    def _answer(self, received: Received, reply: Reply, found: _Found) -> Answer:
        provider = _provider_of(received, found)
        if reply.status >= 400:
            return error_answer(provider, reply.status, reply.error)
        if found is None:
            return error_answer(provider, 404, f"Invalid URL ({received.method} {received.path})")
        route, values = found
        try:
            answer = route.endpoint(Call(received, reply, self._stored, values, self._ask))
        except Refusal as refusal:
            return error_answer(provider, refusal.status, str(refusal))
        name = "request-id" if provider == "anthropic" else "x-request-id"
        return replace(answer, headers={name: self._stored.new_id("req_"), **answer.headers})

    def _ask(self, path: str, body: Any) -> Answer:
        received = Received("POST", path, body=body)
        reply = self._replies.choose(received, is_model_call=True)
        return self._answer(received, reply, find_route(received))


_Found = tuple[Route, Mapping[str, str]] | None


def _failure(received: Received, error: Exception) -> Answer:
    # A status that no SDK tries again, so that the test sees the message at once.
    message = f"the loopback provider failed: {type(error).__name__}: {error}"
    return error_answer(_provider_of(received, None), 400, message)


def _is_model_call(received: Received) -> bool:
    found = find_route(received)
    return found is not None and found[0].is_model_call


def _provider_of(received: Received, found: _Found) -> str:
    if found is not None:
        return found[0].provider
    return "anthropic" if "anthropic-version" in received.headers else "openai"

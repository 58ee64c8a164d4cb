"""OpenAI's WebSocket sessions: responses, realtime and live, event in, events out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from costtrace.testing.answer import Answer, Call, Frame, dump, with_usage
from costtrace.testing.generation import Generation, count_input, generate
from costtrace.testing.log import Billed, Received
from costtrace.testing.openai_chat import PROVIDER
from costtrace.testing.openai_responses import create
from costtrace.usage import Usage

_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class Session(Protocol):
    """One connection's conversation."""

    def greet(self, call: Call) -> list[Mapping[str, Any]]:
        """What the provider says first."""

    def is_model_call(self, event: Mapping[str, Any]) -> bool:
        """Whether an event of the client's asks a model for something."""

    def answer(self, call: Call) -> Answer:
        """The events that answer the event in `call.body`, as frames of JSON."""


def open_session(received: Received) -> Session | None:
    """The session that a path opens."""
    path = received.path
    if path.endswith("/responses"):
        return _ResponsesSession()
    if path.endswith("/realtime"):
        return _RealtimeSession(received.query.get("model", "gpt-realtime"))
    if "/live/" in path:
        return _LiveSession()
    return None


def error_event(status: int, message: str | None) -> bytes:
    """How a session refuses."""
    text = message or f"The loopback provider was asked for status {status}."
    return dump({"type": "error", "status": status, "error": {"type": "error", "message": text}})


class _ResponsesSession:
    """`responses.connect`: each `response.create` is streamed as POST /responses would be."""

    def greet(self, call: Call) -> list[Mapping[str, Any]]:
        return []

    def is_model_call(self, event: Mapping[str, Any]) -> bool:
        return event.get("type") == "response.create"

    def answer(self, call: Call) -> Answer:
        if not self.is_model_call(call.body):
            return Answer(frames=())
        asked = {name: value for name, value in call.body.items() if name != "type"}
        asked = {"input": [], **asked, "stream": True}
        streamed = create(replace(call, received=replace(call.received, body=asked)))
        frames = streamed.frames or ()
        texts = (frame.data.partition(b"data: ")[2].strip() for frame in frames)
        plain = (replace(frame, data=text) for frame, text in zip(frames, texts, strict=True))
        return Answer(frames=tuple(plain), billed=streamed.billed)


class _RealtimeSession:
    """`realtime.connect`: items gather in a conversation that every response reads again."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._heard_tokens = 0
        self._transcriber: str | None = None

    def greet(self, call: Call) -> list[Mapping[str, Any]]:
        session = {"type": "realtime", "object": "realtime.session", "model": self._model}
        return [{"type": "session.created", "event_id": _event_id(call), "session": session}]

    def is_model_call(self, event: Mapping[str, Any]) -> bool:
        is_transcribed = self._transcriber is not None
        return event.get("type") == "response.create" or (
            event.get("type") == "input_audio_buffer.commit" and is_transcribed
        )

    def answer(self, call: Call) -> Answer:
        event, kind = call.body, call.body.get("type")
        if kind == "response.create":
            return self._respond(call)
        if kind == "input_audio_buffer.commit":
            return self._commit(call)
        if kind == "session.update":
            audio = (event["session"].get("audio") or {}).get("input") or {}
            self._transcriber = (audio.get("transcription") or {}).get("model")
            return _events(call, {"type": "session.updated", "session": event["session"]})
        if kind == "conversation.item.create":
            self._heard_tokens += count_input({"input": event["item"]})
            return _events(call, {"type": "conversation.item.added", "item": event["item"]})
        return Answer(frames=())

    def _commit(self, call: Call) -> Answer:
        item = call.stored.new_id("item_")
        committed = {"type": "input_audio_buffer.committed", "item_id": item}
        if self._transcriber is None:
            return _events(call, committed)
        usage = Usage(seconds=call.reply.seconds)
        raw = call.usage_object({"type": "duration", "seconds": call.reply.seconds})
        done = {"type": _TRANSCRIBED, "item_id": item, "content_index": 0, "transcript": "yes"}
        answer = _events(call, committed, with_usage(done, raw))
        billed = Billed(PROVIDER, call.reply.model or self._transcriber, usage, None, raw)
        return replace(answer, billed=billed)

    def _respond(self, call: Call) -> Answer:
        call = call.with_default_model(self._model)
        asked = call.body.get("response") or {}
        limit = asked.get("max_output_tokens")
        given = call.reply.input_tokens
        read = max(1, self._heard_tokens) if given is None else given
        generation = generate(call.reply, read, limit=limit if isinstance(limit, int) else None)
        raw = call.usage_object(_realtime_words(generation.usage))
        self._heard_tokens += generation.usage.output_tokens
        frames = tuple(_realtime_frames(call, generation, raw))
        return Answer(frames=frames, billed=call.billed(PROVIDER, generation.usage, raw))


class _LiveSession:
    """`live.connect`: every piece of audio adds `Reply.seconds` to the session's total."""

    def __init__(self) -> None:
        self._seconds = 0
        self._model = "gpt-live"

    def greet(self, call: Call) -> list[Mapping[str, Any]]:
        return []

    def is_model_call(self, event: Mapping[str, Any]) -> bool:
        return event.get("type") == "session.input_audio.append"

    def answer(self, call: Call) -> Answer:
        kind = call.body.get("type")
        if kind == "session.start":
            self._model = (call.body.get("session") or {}).get("model", self._model)
            return _events(call, {"type": "session.started", "session": {"model": self._model}})
        if kind == "session.close":
            return _events(call, {"type": "session.closed"})
        if not self.is_model_call(call.body):
            return Answer(frames=())
        self._seconds += call.reply.seconds
        usage = {"seconds": self._seconds}
        answer = _events(call, {"type": "session.usage.updated", "usage": usage})
        added = Usage(seconds=call.reply.seconds)
        return replace(answer, billed=Billed(PROVIDER, self._model, added, None, usage))


def _event_id(call: Call) -> str:
    return call.stored.new_id("event_")


def _events(call: Call, *events: Mapping[str, Any]) -> Answer:
    frames = tuple(Frame(dump({**event, "event_id": _event_id(call)})) for event in events)
    return Answer(frames=frames)


def _realtime_frames(call: Call, generation: Generation, raw: Any) -> Iterator[Frame]:
    key, item_key = call.stored.new_id("resp_"), call.stored.new_id("item_")
    response: dict[str, Any] = {
        "id": key,
        "object": "realtime.response",
        "status": "in_progress",
        "output": [],
        "usage": None,
    }
    place = {"response_id": key, "item_id": item_key, "output_index": 0, "content_index": 0}
    total, pieces = generation.usage.output_tokens, generation.pieces

    def frame(event: Mapping[str, Any], tokens: int) -> Frame:
        return Frame(dump({**event, "event_id": _event_id(call)}), tokens)

    yield frame({"type": "response.created", "response": response}, 0)
    for position, piece in enumerate(pieces, start=1):
        delta = {"type": "response.output_text.delta", **place, "delta": piece}
        yield frame(delta, total * position // len(pieces))
    text = {"type": "output_text", "text": generation.text}
    item = {"id": item_key, "type": "message", "role": "assistant", "content": [text]}
    yield frame({"type": "response.output_text.done", **place, "text": generation.text}, total)
    status = "incomplete" if generation.is_limited else "completed"
    done = {**response, "status": call.reply.finish_reason or status, "output": [item]}
    yield frame({"type": "response.done", "response": with_usage(done, raw)}, total)


def _realtime_words(usage: Usage) -> dict[str, Any]:
    """A realtime usage object: the cached tokens are inside the input, by kind of content."""
    audio, image = usage.audio_input_tokens, usage.image_input_tokens
    cached_audio, cached_image = usage.audio_cache_read_tokens, usage.image_cache_read_tokens
    cached_text = usage.cache_read_tokens - cached_audio - cached_image
    spoken = usage.audio_output_tokens
    return {
        "total_tokens": usage.total_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens - audio - image,
            "audio_tokens": audio,
            "image_tokens": image,
            "cached_tokens": usage.cache_read_tokens,
            "cached_tokens_details": {
                "text_tokens": cached_text,
                "audio_tokens": cached_audio,
                "image_tokens": cached_image,
            },
        },
        "output_token_details": {
            "text_tokens": usage.output_tokens - spoken,
            "audio_tokens": spoken,
        },
    }

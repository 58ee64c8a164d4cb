"""What OpenAI's streams say about their usage, event by event.

A stream of chunks (chat, completions) reports it once, near its end, and only if asked; gateways
may repeat it as a running total, of which the last one counts. A stream of events (responses, runs,
images, audio) ends with an event that carries the whole object.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costtrace.providers.base import (
    Reading,
    Request,
    as_count,
    fields_of,
    get,
    given,
    items,
    name_of,
    text_of,
)
from costtrace.providers.openai_answers import has_totals, normal_tier, read_answer

ENDED = frozenset(
    f"{what}.{how}"
    for what in ("response", "thread.run")
    for how in ("completed", "incomplete", "failed", "cancelled", "expired")
) | {
    "response.done",
    "image_generation.completed",
    "image_edit.completed",
    "transcript.text.done",
    "speech.audio.done",
}
_NOTHING_SAID = Reading()
SOUND = ("response.audio.delta", "response.output_audio.delta", "speech.audio.delta")


def reader_of(request: Request, *, hide_usage: bool) -> ChunkReader | EventReader:
    """Return what follows the stream of a request."""
    if request.operation in ("chat", "completions"):
        return ChunkReader(request, hide_usage=hide_usage)
    return EventReader(request)


class ChunkReader:
    """Follows a stream of chunks."""

    def __init__(self, request: Request, *, hide_usage: bool) -> None:
        self._request = request
        self._hide_usage = hide_usage
        self._choices = as_count(given(request.body, "n")) or 1
        self._usage_source: object = None
        self._model: str | None = None
        self._tier: str | None = None
        self._id: str | None = None
        self._finished: set[object] = set()
        self._text: list[str] = []

    def see(self, event: Any) -> bool:
        try:  # a piece of text as nearly every event is, told by the fewest steps
            fields = event.__dict__
            (choice,) = fields["choices"]
            choice = choice.__dict__
            piece = choice["delta"].__dict__["content"]
            is_plain = choice["finish_reason"] is None and fields["usage"] is None and self._id
        except (AttributeError, KeyError, TypeError, ValueError):
            return self._see_other(event)
        if not is_plain or type(piece) is not str or not piece:
            return self._see_other(event)
        self._text.append(piece)
        if self._hide_usage:
            _unset_usage(event)
        return False

    def _see_other(self, event: object) -> bool:
        fields = fields_of(event)
        choices = fields.get("choices")
        for choice in choices if type(choices) is list else ():
            self._see_choice(choice)
        if self._id is None:
            self._note_names(event)
        if fields.get("usage") is None:
            if self._hide_usage:
                _unset_usage(event)
            return False
        self._note_names(event)
        if self._usage_source is None or has_totals(fields["usage"]):
            self._usage_source = event
        return self._hide_usage and choices == []

    def _note_names(self, chunk: object) -> None:
        self._id = self._id or name_of(get(chunk, "id"))
        self._model = name_of(get(chunk, "model")) or self._model
        self._tier = name_of(get(chunk, "service_tier")) or self._tier

    def reading(self) -> Reading:
        source = self._usage_source
        whole = _NOTHING_SAID if source is None else read_answer(self._request, source)
        has_usage = whole.usage is not None
        return Reading(
            model=self._model or whole.model,
            usage=whole.usage,
            tier=normal_tier(self._tier) or whole.tier,
            response_id=self._id or whole.response_id,
            is_complete=has_usage or len(self._finished) >= self._choices,
            parts=whole.parts,
            gateway_cost=whole.gateway_cost,
            text="" if has_usage else "".join(self._text),
        )

    def _see_choice(self, choice: object) -> None:
        fields = fields_of(choice)
        if fields.get("finish_reason") is not None:
            self._finished.add(as_count(fields.get("index")))
        delta = fields.get("delta")
        piece = fields.get("text") if delta is None else fields_of(delta).get("content")
        if piece:
            if type(piece) is str:
                self._text.append(piece)
        else:
            self._text.extend(_other_pieces(delta))


def _unset_usage(chunk: object) -> None:
    """Make a chunk what it would be without our question: one that has no `usage: null`."""
    given_fields = getattr(chunk, "__pydantic_fields_set__", None)
    if given_fields is not None and "usage" in given_fields:
        given_fields.discard("usage")


def _other_pieces(delta: object) -> list[str]:
    """Return what a chunk adds to the answer beside its plain text."""
    texts = [
        text_of(get(delta, "refusal")),
        text_of(get(delta, "reasoning_content")),
        text_of(get(delta, "function_call", "arguments")),
    ]
    texts += [
        text_of(get(call, "function", "arguments")) for call in items(get(delta, "tool_calls"))
    ]
    return [text for text in texts if text]


class EventReader:
    """Follows a stream of events."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_background = given(request.body, "background") is True
        self._usage_source: object = None
        self._model: str | None = None
        self._tier: str | None = None
        self._id: str | None = None
        self._is_complete = False
        self._text: list[str] = []

    def see(self, event: object) -> bool:
        fields = fields_of(event)
        kind = fields.get("type")
        if type(kind) is not str:
            kind = text_of(fields.get("event")) or ""
        if kind.endswith(".delta"):
            self._see_delta(kind, event)
            return False
        source = self._source(kind, event)
        if source is not None:
            self._id = name_of(get(source, "id")) or self._id
            self._model = name_of(get(source, "model")) or self._model
            self._tier = name_of(get(source, "service_tier")) or self._tier
            if get(source, "usage") is not None:
                self._usage_source = source
            if kind in ENDED:
                self._is_complete = True
        return False

    def reading(self) -> Reading:
        whole = read_answer(self._request, self._usage_source) if self._usage_source else Reading()
        has_usage = whole.usage is not None and self._is_complete
        return replace(
            whole,
            usage=whole.usage if has_usage else None,
            model=self._model or whole.model,
            tier=normal_tier(self._tier) or whole.tier,
            response_id=self._id or whole.response_id,
            is_complete=self._is_complete,
            is_pending=not self._is_complete and self._goes_on,
            text="" if has_usage else "".join(self._text),
        )

    @property
    def _goes_on(self) -> bool:
        """Whether the work is done to its end though nobody listens."""
        return self._id is not None and (self._is_background or self._request.operation == "runs")

    def _see_delta(self, kind: str, event: object) -> None:
        if kind in SOUND:
            return  # base64, which is no text
        if (piece := fields_of(event).get("delta")) is not None:
            if type(piece) is str:
                self._text.append(piece)
            return
        for part in items(get(event, "data", "delta", "content")):
            self._text.extend(filter(None, [text_of(get(part, "text", "value"))]))

    def _source(self, kind: str, event: object) -> Any:
        """Return the object that an event shows a state of; None for parts of it."""
        if kind.startswith("thread."):
            is_run = kind.startswith("thread.run.") and not kind.startswith("thread.run.step.")
            return get(event, "data") if is_run else None
        response = get(event, "response")
        if response is not None:
            return response
        return event if kind in ENDED else None

"""OpenAI's WebSocket sessions: which classes carry them, and what their events say of usage.

A session is many calls: each response is billed by itself, as is each transcript of what was heard.
A live session is one call, billed by the second; its events carry the seconds so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costtrace.providers.base import Reading, as_units, get, name_of
from costtrace.usage import Usage

REALTIME, RESPONSES, LIVE, UNCOVERED = "realtime", "responses", "live", "uncovered"
_RESOURCES = "openai.resources"
SESSIONS = {  # module -> the class of its connections (the async one is named after it), their kind
    f"{_RESOURCES}.realtime.realtime": ("RealtimeConnection", REALTIME),
    f"{_RESOURCES}.beta.realtime.realtime": ("RealtimeConnection", REALTIME),
    f"{_RESOURCES}.responses.responses": ("ResponsesConnection", RESPONSES),
    f"{_RESOURCES}.beta.responses.responses": ("ResponsesConnection", RESPONSES),
    f"{_RESOURCES}.live.live": ("LiveConnection", LIVE),
    f"{_RESOURCES}.live.forks": ("ForksConnection", LIVE),
    f"{_RESOURCES}.live.sideband": ("SidebandConnection", LIVE),
    f"{_RESOURCES}.realtime.translations.translations": ("TranslationsConnection", UNCOVERED),
}
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
ENDED = ("response.done", "response.completed", "response.incomplete", "response.failed")


def session_of(event: object) -> object:
    """Return the session that an event describes; None for other events."""
    return get(event, "session")


def transcriber_of(session: object) -> str | None:
    """Return the model that transcribes what is heard in a session, if any does."""
    for path in (("audio", "input", "transcription", "model"), ("input_audio_transcription",)):
        found = get(session, *path)
        found = found if isinstance(found, str) else get(found, "model")
        if (name := name_of(found)) is not None:
            return name
    return None


def requested(kind: str, event: object) -> dict[str, Any] | None:
    """Return what an event of the client's asks of a response; None where it asks for none."""
    fields = event_fields(event)
    if fields.get("type") != "response.create" or kind not in (REALTIME, RESPONSES):
        return None
    if kind == REALTIME:
        inner = fields.get("response")
        return inner if isinstance(inner, dict) else {}
    return {name: value for name, value in fields.items() if name not in ("type", "event_id")}


def adjusted(kind: str, event: object, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event that asks for a response, with some values of what it asks for replaced."""
    fields = event_fields(event)
    if kind == REALTIME:
        return {**fields, "response": {**(fields.get("response") or {}), **values}}
    return {**fields, **values}


def event_fields(event: object) -> dict[str, Any]:
    """Return the fields of an event, which the SDK takes as a model or as a dict."""
    if isinstance(event, dict):
        return event
    dump = getattr(event, "model_dump", None)
    return dict(dump(exclude_unset=True)) if callable(dump) else {}


def live_reading(event: object, model: str | None) -> Reading | None:
    """Return what a live session has used so far; None for an event that does not say."""
    seconds = get(event, "usage", "seconds")
    kind = get(event, "type")
    if seconds is None or kind not in ("session.usage.updated", "session.closed"):
        return None
    is_over = kind == "session.closed"
    return Reading(model=model, usage=Usage(seconds=as_units(seconds)), is_complete=is_over)

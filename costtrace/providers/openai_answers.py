"""What OpenAI's answers and streams say about their usage.

The details are parts of the totals: cached, cache-write, audio and image tokens are inside the
input, reasoning inside the output. What hosted tools used comes beside them and is added.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from costtrace.providers.base import (
    Part,
    Reading,
    Request,
    as_count,
    count,
    get,
    given,
    items,
    text_of,
)
from costtrace.usage import Usage

TIERS = {"default": "standard", "auto": "standard", "fast": "priority"}
ENDED = ("completed", "incomplete", "failed", "cancelled")  # states of a response or a run
IMAGE_TOOL_MODEL = "gpt-image-1"  # what the image tool runs on when its item names no model


def read_answer(request: Request, answer: object) -> Reading:
    """Read a whole answer of any operation."""
    usage = _usage(request, answer)
    status = get(answer, "status")
    return Reading(
        model=text_of(get(answer, "model")),
        usage=usage,
        tier=_tier(answer),
        response_id=text_of(get(answer, "id")),
        is_pending=usage is None and status in ("queued", "in_progress", "requires_action"),
        parts=_parts(answer),
        gateway_cost=_money(get(answer, "usage", "cost")),
        text=_text(request, answer) if usage is None else "",
    )


class EventReader:
    """Follows a stream of chunks (chat, completions) or of events (responses and others)."""

    def __init__(self, request: Request, *, hide_usage: bool) -> None:
        self._request = request
        self._hide_usage = hide_usage
        self._usage_source: object = None  # the last chunk or object that carried usage
        self._model: str | None = None
        self._tier: str | None = None
        self._id: str | None = None
        self._is_complete = False
        self._text: list[str] = []

    def see(self, event: object) -> bool:
        choices = get(event, "choices")
        if isinstance(choices, list):
            return self._see_chunk(event, choices)
        self._see_event(event)
        return False

    def _see_chunk(self, chunk: object, choices: list[Any]) -> bool:
        self._model = text_of(get(chunk, "model")) or self._model
        self._id = self._id or text_of(get(chunk, "id"))
        self._tier = text_of(get(chunk, "service_tier")) or self._tier
        for choice in choices:
            self._is_complete = self._is_complete or get(choice, "finish_reason") is not None
            self._text.extend(_pieces(choice))
        if get(chunk, "usage") is None:
            return False
        self._usage_source = chunk  # running totals where there are several: the last one counts
        return self._hide_usage and not choices

    def _see_event(self, event: object) -> None:
        kind = text_of(get(event, "type")) or text_of(get(event, "event")) or ""
        if kind.endswith(".delta"):
            self._text.extend(filter(None, [text_of(get(event, "delta"))]))
            return
        source = get(event, "response") or get(event, "data") or event
        self._id = self._id or text_of(get(source, "id"))
        self._model = text_of(get(source, "model")) or self._model
        self._tier = text_of(get(source, "service_tier")) or self._tier
        if get(source, "usage") is not None:
            self._usage_source = source
            self._is_complete = True
        if kind.rpartition(".")[2] in ENDED:
            self._is_complete = True

    def reading(self) -> Reading:
        whole = read_answer(self._request, self._usage_source) if self._usage_source else Reading()
        has_usage = whole.usage is not None
        return replace(
            whole,
            model=self._model or whole.model,
            tier=normal_tier(self._tier) or whole.tier,
            response_id=self._id or whole.response_id,
            is_complete=has_usage or self._is_complete,
            is_pending=False,
            text="" if has_usage else "".join(self._text),
        )


def _usage(request: Request, answer: object) -> Usage | None:
    """Return the usage of an answer; None when it has none, or has not got it yet."""
    operation, usage = request.operation, get(answer, "usage")
    if operation in ("speech", "videos") and usage is None:
        return _usage_from_request(request)
    if get(usage, "seconds") is not None and get(usage, "input_tokens") is None:
        return Usage(seconds=as_count(get(usage, "seconds")))
    if operation in ("transcriptions", "translations") and usage is None:
        seconds = as_count(get(answer, "duration"))
        return Usage(seconds=seconds) if seconds else None
    if operation == "images" and usage is None:
        return Usage(images=len(items(get(answer, "data"))) or 1)
    if all(get(usage, name) is None for name in _TOTALS):
        return None
    counted = _token_counts(usage)
    return replace(counted, **_tool_calls(request, answer)) if operation == "responses" else counted


_TOTALS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")


def _token_counts(usage: object) -> Usage:
    """Read token counts under either of the two spellings of the API."""
    sent = get(usage, "prompt_tokens_details") or get(usage, "input_tokens_details")
    sent = sent or get(usage, "input_token_details")
    made = get(usage, "completion_tokens_details") or get(usage, "output_tokens_details")
    made = made or get(usage, "output_token_details")
    long_lived = count(sent, "cache_write_tokens_details", "ttl_12h_tokens")
    written = max(
        count(sent, "cache_write_tokens"),
        long_lived + count(sent, "cache_write_tokens_details", "ttl_30m_tokens"),
    )
    return Usage(
        input_tokens=count(usage, "prompt_tokens") or count(usage, "input_tokens"),
        output_tokens=count(usage, "completion_tokens") or count(usage, "output_tokens"),
        cache_read_tokens=count(sent, "cached_tokens"),
        cache_write_tokens=written,
        cache_write_30m_tokens=written - long_lived,
        cache_write_12h_tokens=long_lived,
        reasoning_tokens=count(made, "reasoning_tokens"),
        audio_input_tokens=count(sent, "audio_tokens"),
        audio_output_tokens=count(made, "audio_tokens"),
        audio_cache_read_tokens=count(sent, "cached_tokens_details", "audio_tokens"),
        image_input_tokens=count(sent, "image_tokens"),
        image_output_tokens=count(made, "image_tokens"),
        image_cache_read_tokens=count(sent, "cached_tokens_details", "image_tokens"),
    )


def _tool_calls(request: Request, answer: object) -> dict[str, int]:
    """Return the calls of hosted tools that are billed each."""
    kinds = [
        (get(item, "type"), get(item, "action", "type")) for item in items(get(answer, "output"))
    ]
    searches = sum(
        kind == "web_search_call" and action in ("search", None) for kind, action in kinds
    )
    reported = get(answer, "tool_usage", "web_search", "num_requests")
    searches = searches if reported is None else as_count(reported)
    preview = "web_search_preview_calls" in request.tool_uses
    return {
        "web_search_preview_calls" if preview else "web_search_calls": searches,
        "file_search_calls": sum(kind == "file_search_call" for kind, _ in kinds),
    }


def _parts(answer: object) -> tuple[Part, ...]:
    """Return what ran beside the model: images made by a tool, vectors made beside an image."""
    parts = []
    image = get(answer, "tool_usage", "image_gen")
    if count(image, "total_tokens") or count(image, "output_tokens"):
        models = (
            text_of(get(tool, "model"))
            for tool in items(get(answer, "tools"))
            if get(tool, "type") == "image_generation"
        )
        parts.append(Part(next(filter(None, models), IMAGE_TOOL_MODEL), _token_counts(image)))
    drawing = get(answer, "svg_usage")
    if model := text_of(get(drawing, "model")):
        parts.append(Part(model, _token_counts(drawing)))
    return tuple(parts)


def _usage_from_request(request: Request) -> Usage | None:
    """Return what a reply without usage is billed by: the request itself."""
    if request.operation == "speech":
        text = text_of(given(request.body, "input"))
        return Usage(characters=len(text)) if text else None
    return Usage(seconds=as_count(given(request.body, "seconds")) or 4)  # the API's own default


def _tier(answer: object) -> str | None:
    return normal_tier(text_of(get(answer, "service_tier")))


def normal_tier(tier: str | None) -> str | None:
    """Return the tier that a request or an answer names, in the words of the price table."""
    return TIERS.get(tier, tier) if tier else None


def _pieces(choice: object) -> list[str]:
    """Return all texts that a chunk's choice adds to the answer."""
    delta = get(choice, "delta")
    texts = [
        text_of(get(choice, "text")),
        text_of(get(delta, "content")),
        text_of(get(delta, "refusal")),
        text_of(get(delta, "reasoning_content")),
        text_of(get(delta, "function_call", "arguments")),
    ]
    texts += [
        text_of(get(call, "function", "arguments")) for call in items(get(delta, "tool_calls"))
    ]
    return [text for text in texts if text]


def _text(request: Request, answer: object) -> str:
    """Return the text of a whole answer that came without usage."""
    if isinstance(answer, str):
        return answer
    if request.operation == "responses":
        blocks = [b for item in items(get(answer, "output")) for b in items(get(item, "content"))]
        return "".join(text_of(get(block, "text")) or "" for block in blocks)
    texts = [
        text_of(get(choice, "message", "content")) or text_of(get(choice, "text"))
        for choice in items(get(answer, "choices"))
    ]
    return "".join(filter(None, texts))


def _money(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None

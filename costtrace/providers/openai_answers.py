"""What OpenAI's answers say about their usage.

The details are parts of the totals: cached, cache-write, audio and image tokens are inside the
input, reasoning inside the output. What hosted tools used comes beside them and is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from costtrace.providers.base import (
    Part,
    Reading,
    Request,
    all_fields_of,
    as_count,
    as_units,
    count,
    get,
    given,
    items,
    name_of,
    number,
    text_of,
)
from costtrace.usage import Usage

TIERS = {"default": "standard", "auto": "standard", "fast": "priority"}
UNFINISHED = ("queued", "in_progress", "requires_action", "cancelling")  # of responses, runs
MOST_GATEWAY_USD = 1_000_000  # what claims more for one call is no amount
VIDEO_SECONDS = 4  # the API's own default
IMAGE_TOOL_MODEL = "gpt-image-1"  # what the image tool runs on when its item names no model


def read_answer(request: Request, answer: object) -> Reading:
    """Read a whole answer of any operation."""
    said = all_fields_of(answer)
    counts = all_fields_of(said.get("usage"))
    usage, cost = _usage(request, answer, counts), counts.get("cost")
    return Reading(
        model=name_of(said.get("model")),
        usage=usage,
        tier=normal_tier(name_of(said.get("service_tier"))),
        response_id=name_of(said.get("id")),
        is_pending=usage is None and said.get("status") in UNFINISHED,
        parts=_parts(answer) if "tool_usage" in said or "svg_usage" in said else (),
        gateway_cost=None if cost is None else _money(cost),
        text=_text(request, answer) if usage is None else "",
    )


def _usage(request: Request, answer: object, said: Mapping[str, Any]) -> Usage | None:
    """Return the usage of an answer; None when it has none, or has not got it yet."""
    operation = request.operation
    if not said and operation not in ("chat", "responses", "embeddings"):
        return _usage_unsaid(request, answer)
    if said.get("seconds") is not None and said.get("input_tokens") is None:
        return Usage(seconds=as_units(said["seconds"]))
    if not _says_totals(said):
        return None
    counted = _token_counts(said)
    if operation == "images" and said.get("output_tokens_details") is None:
        counted = replace(
            counted, image_output_tokens=counted.output_tokens
        )  # nothing else is made
    calls = _tool_calls(request, answer) if operation == "responses" else {}
    return replace(counted, **calls) if any(calls.values()) else counted


def _usage_unsaid(request: Request, answer: object) -> Usage | None:
    """Return what an answer that has no usage is billed by, if it says that elsewhere."""
    operation = request.operation
    if get(answer, "usage") is not None:
        return None
    if operation in ("speech", "videos"):
        return _usage_from_request(request, answer)
    if operation in ("transcriptions", "translations"):
        seconds = as_units(get(answer, "duration"))
        return Usage(seconds=seconds) if seconds else None
    if operation == "images":
        return Usage(images=len(items(get(answer, "data"))) or 1)
    return None


def has_totals(usage: object) -> bool:
    """Tell whether a usage object says anything that can be billed."""
    return _says_totals(all_fields_of(usage))


def _says_totals(said: Mapping[str, Any]) -> bool:
    return any(name in said and number(said[name]) is not None for name in _TOTALS)


_TOTALS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")


def _token_counts(said: Mapping[str, Any]) -> Usage:
    """Read token counts under either of the two spellings of the API."""
    sent = said.get("prompt_tokens_details") or said.get("input_tokens_details")
    sent = all_fields_of(sent or said.get("input_token_details"))
    made = said.get("completion_tokens_details") or said.get("output_tokens_details")
    made = all_fields_of(made or said.get("output_token_details"))
    counts = {}
    for given_as, name in _SENT if sent else ():
        if value := sent.get(given_as):
            counts[name] = as_count(value)
    for given_as, name in _MADE if made else ():
        if value := made.get(given_as):
            counts[name] = as_count(value)
    if sent.get("cache_write_tokens") or sent.get("cache_write_tokens_details"):
        counts |= _cache_writes(sent)
    if sent.get("cached_tokens_details"):
        cached = all_fields_of(sent["cached_tokens_details"])
        counts["audio_cache_read_tokens"] = as_count(cached.get("audio_tokens"))
        counts["image_cache_read_tokens"] = as_count(cached.get("image_tokens"))
    return Usage(
        as_count(said.get("prompt_tokens")) or as_count(said.get("input_tokens")),
        as_count(said.get("completion_tokens")) or as_count(said.get("output_tokens")),
        **counts,
    )


_SENT = (
    ("cached_tokens", "cache_read_tokens"),
    ("audio_tokens", "audio_input_tokens"),
    ("image_tokens", "image_input_tokens"),
)
_MADE = (
    ("reasoning_tokens", "reasoning_tokens"),
    ("audio_tokens", "audio_output_tokens"),
    ("image_tokens", "image_output_tokens"),
)


def _cache_writes(sent: Mapping[str, Any]) -> dict[str, int]:
    """Return the cache writes, by the lifetimes that are told apart."""
    lifetimes = sent.get("cache_write_tokens_details")
    long_lived = count(lifetimes, "ttl_12h_tokens")
    written = max(
        as_count(sent.get("cache_write_tokens")), long_lived + count(lifetimes, "ttl_30m_tokens")
    )
    return {
        "cache_write_tokens": written,
        "cache_write_30m_tokens": written - long_lived,
        "cache_write_12h_tokens": long_lived,
    }


def _tool_calls(request: Request, answer: object) -> dict[str, int]:
    """Return the calls of hosted tools that are billed each."""
    kinds = [
        (get(item, "type"), get(item, "action", "type")) for item in items(get(answer, "output"))
    ]
    searches = sum(
        kind == "web_search_call" and action in ("search", None) for kind, action in kinds
    )
    reported = get(answer, "tool_usage", "web_search", "num_requests")
    searches = searches if reported is None else as_units(reported)
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
            name_of(get(tool, "model"))
            for tool in items(get(answer, "tools"))
            if get(tool, "type") == "image_generation"
        )
        counts = _token_counts(all_fields_of(image))
        parts.append(Part(next(filter(None, models), IMAGE_TOOL_MODEL), counts))
    drawing = get(answer, "svg_usage")
    if model := name_of(get(drawing, "model")):
        parts.append(Part(model, _token_counts(all_fields_of(drawing))))
    return tuple(parts)


def _usage_from_request(request: Request, answer: object) -> Usage | None:
    """Return what a reply without usage is billed by: mostly the request itself."""
    if request.operation == "speech":
        text = text_of(given(request.body, "input"))
        return Usage(characters=len(text)) if text else None
    asked = given(request.body, "seconds")  # a remix is as long as what it remixes: it asks none
    return Usage(seconds=as_units(get(answer, "seconds")) or as_units(asked) or VIDEO_SECONDS)


def normal_tier(tier: str | None) -> str | None:
    """Return the tier that a request or an answer names, in the words of the price table."""
    return TIERS.get(tier, tier) if tier else None


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
    return amount if amount.is_finite() and 0 <= amount < MOST_GATEWAY_USD else None

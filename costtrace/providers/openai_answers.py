"""What OpenAI's answers say about their usage.

The details are parts of the totals: cached, cache-write, audio and image tokens are inside the
input, reasoning inside the output. What hosted tools used comes beside them and is added.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation

from costtrace.providers.base import (
    Part,
    Reading,
    Request,
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
    usage = _usage(request, answer)
    status = get(answer, "status")
    return Reading(
        model=name_of(get(answer, "model")),
        usage=usage,
        tier=_tier(answer),
        response_id=name_of(get(answer, "id")),
        is_pending=usage is None and status in UNFINISHED,
        parts=_parts(answer),
        gateway_cost=_money(get(answer, "usage", "cost")),
        text=_text(request, answer) if usage is None else "",
    )


def _usage(request: Request, answer: object) -> Usage | None:
    """Return the usage of an answer; None when it has none, or has not got it yet."""
    operation, usage = request.operation, get(answer, "usage")
    if operation in ("speech", "videos") and usage is None:
        return _usage_from_request(request, answer)
    if get(usage, "seconds") is not None and get(usage, "input_tokens") is None:
        return Usage(seconds=as_units(get(usage, "seconds")))
    if operation in ("transcriptions", "translations") and usage is None:
        seconds = as_units(get(answer, "duration"))
        return Usage(seconds=seconds) if seconds else None
    if operation == "images" and usage is None:
        return Usage(images=len(items(get(answer, "data"))) or 1)
    if not has_totals(usage):
        return None
    counted = _token_counts(usage)
    if operation == "images" and get(usage, "output_tokens_details") is None:
        counted = replace(
            counted, image_output_tokens=counted.output_tokens
        )  # nothing else is made
    return replace(counted, **_tool_calls(request, answer)) if operation == "responses" else counted


def has_totals(usage: object) -> bool:
    """Tell whether a usage object says anything that can be billed."""
    return any(number(get(usage, name)) is not None for name in _TOTALS)


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
        parts.append(Part(next(filter(None, models), IMAGE_TOOL_MODEL), _token_counts(image)))
    drawing = get(answer, "svg_usage")
    if model := name_of(get(drawing, "model")):
        parts.append(Part(model, _token_counts(drawing)))
    return tuple(parts)


def _usage_from_request(request: Request, answer: object) -> Usage | None:
    """Return what a reply without usage is billed by: mostly the request itself."""
    if request.operation == "speech":
        text = text_of(given(request.body, "input"))
        return Usage(characters=len(text)) if text else None
    asked = given(request.body, "seconds")  # a remix is as long as what it remixes: it asks none
    return Usage(seconds=as_units(get(answer, "seconds")) or as_units(asked) or VIDEO_SECONDS)


def _tier(answer: object) -> str | None:
    return normal_tier(name_of(get(answer, "service_tier")))


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

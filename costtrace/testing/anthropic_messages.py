"""Anthropic's Messages: request in, answer out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from costtrace.testing.answer import (
    Answer,
    Call,
    Frame,
    json_answer,
    merged,
    named_event,
    stream_answer,
    with_usage,
)
from costtrace.testing.generation import Generation, generate, split
from costtrace.usage import Usage

PROVIDER = "anthropic"
ERROR_FRAME = named_event(
    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
)
_TIERS = {"auto": "standard", "standard_only": "standard"}
# What the last event of a stream repeats of the usage: totals so far, no split, no tier.
_DELTA_FIELDS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
)


def create(call: Call) -> Answer:
    """POST /v1/messages."""
    call.require("messages", "max_tokens")
    generation = generate(call.reply, call.input_tokens, limit=call.body["max_tokens"])
    tier = _served_tier(call)
    usage = call.usage_object({**usage_words(generation.usage), "service_tier": tier})
    billed = call.billed(PROVIDER, generation.usage, usage, tier)
    message = {
        "id": call.stored.new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": list(_content(call, generation)),
        "stop_reason": _stop_reason(call, generation),
        "stop_sequence": None,
    }
    if call.is_streamed:
        frames = tuple(_frames(call, generation, message, usage))
        return stream_answer(frames, ERROR_FRAME, billed)
    return json_answer(merged(with_usage(message, usage), call.reply.extra), billed)


def count_tokens(call: Call) -> Answer:
    """POST /v1/messages/count_tokens."""
    return json_answer({"input_tokens": call.input_tokens})


def usage_words(usage: Usage) -> dict[str, Any]:
    """A usage object of Messages; the cached tokens are not among its `input_tokens`."""
    written, hour = usage.cache_write_tokens, usage.cache_write_1h_tokens
    words = {
        "input_tokens": usage.input_tokens - usage.cache_read_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        words["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if usage.web_search_calls:
        searches = usage.web_search_calls
        words["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return words


def _served_tier(call: Call) -> str:
    asked = call.body.get("service_tier") or "standard"
    return call.reply.service_tier or _TIERS.get(asked, asked)


def _stop_reason(call: Call, generation: Generation) -> str:
    reason = "tool_use" if generation.tool_calls else "end_turn"
    return call.reply.finish_reason or ("max_tokens" if generation.is_limited else reason)


def _content(call: Call, generation: Generation) -> Iterator[dict[str, Any]]:
    if call.reply.reasoning is not None:
        yield {"type": "thinking", "thinking": call.reply.reasoning, "signature": "c2lnbmVk"}
    if generation.text:
        yield {"type": "text", "text": generation.text, "citations": None}
    for tool in generation.tool_calls:
        arguments = json.loads(tool.arguments)
        yield {"type": "tool_use", "id": tool.id, "name": tool.name, "input": arguments}
    yield from (dict(block) for block in call.reply.output_items)


def _frames(
    call: Call, generation: Generation, message: Mapping[str, Any], usage: Any
) -> Iterator[Frame]:
    events = list(_events(call, generation, message, usage))
    pieces = sum(1 for event in events if event["type"] == "content_block_delta")
    sent = 0
    for number, event in enumerate(events):
        sent += event["type"] == "content_block_delta"
        is_over = number >= len(events) - 2
        tokens = generation.tokens_after(1.0 if is_over else sent / max(1, pieces))
        yield Frame(named_event(event), tokens if sent or is_over else 0)


def _events(
    call: Call, generation: Generation, message: Mapping[str, Any], usage: Any
) -> Iterator[dict[str, Any]]:
    started = {**message, "content": [], "stop_reason": None}
    yield {"type": "message_start", "message": with_usage(started, _usage_at_start(usage))}
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block, generation)
        if index == 0:
            yield {"type": "ping"}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield with_usage({"type": "message_delta", "delta": delta}, _usage_at_end(usage))
    yield {"type": "message_stop"}


def _usage_at_start(usage: Any) -> Any:
    if not isinstance(usage, Mapping):
        return usage
    later = ("output_tokens_details", "server_tool_use", "iterations")
    # The output is not known yet: the provider writes a placeholder.
    start = {name: value for name, value in usage.items() if name not in later}
    return start | ({"output_tokens": 1} if "output_tokens" in usage else {})


def _usage_at_end(usage: Any) -> Any:
    if not isinstance(usage, Mapping):
        return usage
    return {name: usage[name] for name in _DELTA_FIELDS if name in usage}


def _block_events(
    index: int, block: Mapping[str, Any], generation: Generation
) -> Iterator[dict[str, Any]]:
    kind = block["type"]
    deltas: list[dict[str, Any]] = []
    start = dict(block)
    if kind == "text" and block["text"] == generation.text:
        start["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in generation.pieces]
    elif kind == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind == "tool_use":
        start["input"] = {}
        parts = split(json.dumps(block["input"]), 3)
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}

"""OpenAI's Responses: create, stream, background, retrieve, compact, count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from costtrace.testing.generation import Generation, ToolCall, generate, split
from costtrace.testing.openai_chat import PROVIDER, served_tier
from costtrace.usage import Usage

ERROR_FRAME = named_event(
    {
        "type": "error",
        "sequence_number": 0,
        "code": "server_error",
        "message": "The server had an error while processing your request.",
        "param": None,
    }
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A response that can be retrieved: as it is when done, and the events that lead there."""

    response: Mapping[str, Any]
    frames: tuple[Frame, ...]
    tokens: int


def create(call: Call) -> Answer:
    """POST /responses."""
    call.require("input") if "prompt" not in call.body else None
    generation = generate(
        call.reply, _context_tokens(call), limit=call.body.get("max_output_tokens")
    )
    usage = call.usage_object(usage_words(generation.usage))
    billed = call.billed(PROVIDER, generation.usage, usage, served_tier(call))
    response = _response(call, generation, usage)
    is_resumable = call.is_streamed or call.body.get("background")
    frames = tuple(_frames(call, generation, response)) if is_resumable else ()
    key = response["id"]
    call.stored.put(key, _Kept(response, frames, generation.usage.total_tokens))
    call.stored.put(f"polls:{key}", call.reply.polls)
    if call.is_streamed:
        return stream_answer(frames, ERROR_FRAME, billed)
    if call.body.get("background"):
        return json_answer(_unfinished(response, "queued"), billed)
    return json_answer(response, billed)


def retrieve(call: Call) -> Answer:
    """GET /responses/{id}: the response, or with `stream=true` its events after a given one."""
    key = call.values["id"]
    kept: _Kept = call.stored.get(key)
    query = call.received.query
    if query.get("stream") == "true":
        after = int(query.get("starting_after", -1))
        return stream_answer(kept.frames[after + 1 :], ERROR_FRAME, None)
    is_done = call.stored.poll(key)
    return json_answer(kept.response if is_done else _unfinished(kept.response, "in_progress"))


def cancel(call: Call) -> Answer:
    """POST /responses/{id}/cancel."""
    key = call.values["id"]
    kept: _Kept = call.stored.get(key)
    cancelled = replace(kept, response=_unfinished(kept.response, "cancelled"))
    call.stored.put(key, cancelled)
    return json_answer(cancelled.response)


def compact(call: Call) -> Answer:
    """POST /responses/compact."""
    generation = generate(call.reply, _context_tokens(call))
    usage = call.usage_object(usage_words(generation.usage))
    item = {
        "type": "compaction",
        "id": call.stored.new_id("cmp_"),
        "encrypted_content": generation.text,
    }
    answer = {
        "id": call.stored.new_id("resp_"),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [item],
    }
    billed = call.billed(PROVIDER, generation.usage, usage, served_tier(call))
    return json_answer(merged(with_usage(answer, usage), call.reply.extra), billed)


def count_input_tokens(call: Call) -> Answer:
    """POST /responses/input_tokens."""
    tokens = _context_tokens(call)
    return json_answer({"object": "response.input_tokens", "input_tokens": tokens})


def usage_words(usage: Usage) -> dict[str, Any]:
    """A usage object of Responses; the details are parts of the totals."""
    lifetimes = {
        "ttl_30m_tokens": usage.cache_write_30m_tokens,
        "ttl_12h_tokens": usage.cache_write_12h_tokens,
    }
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            **({"cache_write_tokens_details": lifetimes} if any(lifetimes.values()) else {}),
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _context_tokens(call: Call) -> int:
    """Tokens read: the request, and the stored response that it continues."""
    previous = call.stored.find(call.body.get("previous_response_id"))
    earlier = previous.tokens if isinstance(previous, _Kept) else 0
    return call.input_tokens + (earlier if call.reply.input_tokens is None else 0)


def _response(call: Call, generation: Generation, usage: Any) -> dict[str, Any]:
    status = "incomplete" if generation.is_limited else "completed"
    status = call.reply.finish_reason or status
    body = call.body
    response = {
        "id": call.stored.new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": bool(body.get("background")),
        "error": _failure(call) if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": call.model,
        "output": list(_output(call, generation, "incomplete" if generation.is_limited else None)),
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": served_tier(call),
        "store": body.get("store") is not False,
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "metadata": body.get("metadata") or {},
    }
    return merged(with_usage(response, usage), call.reply.extra)


def _failure(call: Call) -> dict[str, str]:
    return {"code": "server_error", "message": call.reply.error or "The model failed."}


def _unfinished(response: Mapping[str, Any], status: str) -> dict[str, Any]:
    return {**response, "status": status, "output": [], "usage": None, "error": None}


def _output(call: Call, generation: Generation, status: str | None) -> Iterator[dict[str, Any]]:
    new_id = call.stored.new_id
    if call.reply.reasoning is not None or generation.usage.reasoning_tokens:
        summary = call.reply.reasoning
        parts = [] if summary is None else [{"type": "summary_text", "text": summary}]
        yield {"type": "reasoning", "id": new_id("rs_"), "summary": parts}
    if generation.text or not generation.tool_calls:
        yield _message(new_id("msg_"), generation.text, status or "completed")
    for tool in generation.tool_calls:
        yield _function_call(new_id("fc_"), tool, tool.arguments, status or "completed")
    yield from (dict(item) for item in call.reply.output_items)


def _message(key: str, text: str, status: str) -> dict[str, Any]:
    content = [] if status == "in_progress" else [_text_part(text)]
    return {
        "type": "message",
        "id": key,
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _function_call(key: str, tool: ToolCall, arguments: str, status: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": key,
        "status": status,
        "call_id": tool.id,
        "name": tool.name,
        "arguments": arguments,
    }


def _frames(call: Call, generation: Generation, response: Mapping[str, Any]) -> Iterator[Frame]:
    events = list(_events(call, generation, response))
    pieces = sum(1 for event in events if event["type"].endswith(".delta"))
    sent = 0
    for number, event in enumerate(events):
        sent += event["type"].endswith(".delta")
        is_last = number == len(events) - 1
        share = 1.0 if is_last else sent / max(1, pieces)
        data = named_event({**event, "sequence_number": number})
        yield Frame(data, generation.tokens_after(share) if sent or is_last else 0)


def _events(
    call: Call, generation: Generation, response: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    started = _unfinished(response, "in_progress")
    if call.body.get("background"):
        queued = _unfinished(response, "queued")
        yield {"type": "response.created", "response": queued}
        yield {"type": "response.queued", "response": queued}
    else:
        yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    for index, item in enumerate(response["output"]):
        place = {"output_index": index}
        yield {"type": "response.output_item.added", **place, "item": _begun(item)}
        place["item_id"] = item.get("id")
        if item["type"] == "message":
            yield from _message_events(generation, item, place)
        elif item["type"] == "function_call":
            yield from _call_events(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
    }
    blank = empty.get(item["type"])
    return dict(item) if blank is None else {**item, "status": "in_progress", **blank}


def _message_events(
    generation: Generation, item: Mapping[str, Any], place: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    place = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": _text_part("")}
    for piece in generation.pieces:
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    text = generation.text
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": item["content"][0]}


def _call_events(item: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = item["arguments"]
    for piece in split(arguments, 3):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **place, "arguments": arguments}

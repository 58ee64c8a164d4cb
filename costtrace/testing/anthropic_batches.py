"""Anthropic's message batches, and the text completions of its SDK before 1.0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from costtrace.testing.answer import (
    Answer,
    Call,
    Frame,
    dump,
    json_answer,
    named_event,
    stream_answer,
)
from costtrace.testing.anthropic_messages import ERROR_FRAME, PROVIDER
from costtrace.testing.generation import Generation, generate
from costtrace.testing.openai_stored import total_billed


def create_batch(call: Call) -> Answer:
    """POST /v1/messages/batches: each request is answered as a call of its own would be.

    It is billed here, all requests together, and ends after `Reply.polls` retrievals.
    """
    call.require("requests")
    asked = call.body["requests"]
    answers = [call.ask("/v1/messages", request["params"]) for request in asked]
    lines = [_result_line(*line) for line in zip(asked, answers, strict=True)]
    succeeded = sum(1 for answer in answers if answer.status < 400)
    key = call.stored.new_id("msgbatch_")
    now = datetime.now(timezone.utc)
    batch = {
        "id": key,
        "type": "message_batch",
        "created_at": now.isoformat(),
        "expires_at": (now + timedelta(hours=24)).isoformat(),
        "archived_at": None,
        "cancel_initiated_at": None,
    }
    counts = {"succeeded": succeeded, "errored": len(asked) - succeeded}
    call.stored.put(key, (batch, counts))
    call.stored.put(f"results:{key}", b"\n".join(lines) + b"\n")
    call.stored.put(f"polls:{key}", call.reply.polls)
    return json_answer(_unfinished(batch, len(asked)), total_billed(PROVIDER, answers))


def retrieve_batch(call: Call) -> Answer:
    """GET /v1/messages/batches/{id}."""
    key = call.values["id"]
    batch, counts = call.stored.get(key)
    if not call.stored.poll(key):
        return json_answer(_unfinished(batch, sum(counts.values())))
    host = call.received.headers.get("host", "127.0.0.1")
    ended = {
        "processing_status": "ended",
        "ended_at": datetime.now(timezone.utc).isoformat(),
        "results_url": f"http://{host}/v1/messages/batches/{key}/results",
        "request_counts": {"processing": 0, "canceled": 0, "expired": 0, **counts},
    }
    return json_answer({**batch, **ended})


def batch_results(call: Call) -> Answer:
    """GET /v1/messages/batches/{id}/results: one JSON object a line."""
    lines = call.stored.get(f"results:{call.values['id']}")
    return Answer(lines, content_type="application/x-jsonl")


def complete_text(call: Call) -> Answer:
    """POST /v1/complete: answers without usage, though it is billed."""
    call.require("prompt", "max_tokens_to_sample")
    generation = generate(call.reply, call.input_tokens, limit=call.body["max_tokens_to_sample"])
    completion = {
        "type": "completion",
        "id": call.stored.new_id("compl_"),
        "model": call.model,
        "completion": generation.text,
        "stop_reason": "max_tokens" if generation.is_limited else "stop_sequence",
    }
    billed = call.billed(PROVIDER, generation.usage)
    if call.is_streamed:
        return stream_answer(tuple(_text_frames(completion, generation)), ERROR_FRAME, billed)
    return json_answer(completion, billed)


def _text_frames(completion: Mapping[str, Any], generation: Generation) -> Iterator[Frame]:
    pieces = generation.pieces
    for position, piece in enumerate(pieces, start=1):
        event = {**completion, "completion": piece, "stop_reason": None}
        yield Frame(named_event(event), generation.tokens_after(position / len(pieces)))
    yield Frame(named_event({**completion, "completion": ""}), generation.usage.output_tokens)


def _unfinished(batch: Mapping[str, Any], total: int) -> dict[str, Any]:
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    more = {"ended_at": None, "results_url": None, "request_counts": counts}
    return {**batch, **more, "processing_status": "in_progress"}


def _result_line(asked: Mapping[str, Any], answer: Answer) -> bytes:
    body = json.loads(answer.body)
    if answer.status < 400:
        result = {"type": "succeeded", "message": body}
    else:
        result = {"type": "errored", "error": body}
    return dump({"custom_id": asked["custom_id"], "result": result})

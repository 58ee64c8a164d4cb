"""OpenAI's objects that live on the server: files, batches, threads and their runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from costtrace.testing.answer import (
    Answer,
    Call,
    Frame,
    Refusal,
    data_event,
    dump,
    json_answer,
    stream_answer,
)
from costtrace.testing.generation import generate
from costtrace.testing.log import Billed
from costtrace.testing.openai_chat import DONE, ERROR_FRAME, PROVIDER, usage_words
from costtrace.usage import Usage


def create_file(call: Call) -> Answer:
    """POST /files."""
    if not call.received.files:
        raise Refusal(400, "Missing required parameter: 'file'.")
    upload = call.received.files[0]
    key = _keep_file(call, upload.filename, upload.content, call.body.get("purpose", "batch"))
    return json_answer(call.stored.get(key))


def retrieve_file(call: Call) -> Answer:
    """GET /files/{id}."""
    return json_answer(call.stored.get(call.values["id"]))


def file_content(call: Call) -> Answer:
    """GET /files/{id}/content."""
    content = call.stored.get(f"content:{call.values['id']}")
    return Answer(content, content_type="application/octet-stream")


def create_batch(call: Call) -> Answer:
    """POST /batches: every line of the input file is answered as a call of its own would be.

    The queue and the rules give the replies. It is billed here, all lines together, and done
    after `Reply.polls` retrievals.
    """
    call.require("input_file_id", "endpoint")
    source = call.stored.get(f"content:{call.body['input_file_id']}")
    asked = [json.loads(line) for line in source.splitlines() if line.strip()]
    answers = [call.ask(line["url"], line["body"]) for line in asked]
    lines = list(zip(asked, answers, strict=True))
    done = [_batch_line(call, *line) for line in lines if line[1].status < 400]
    failed = [_batch_line(call, *line) for line in lines if line[1].status >= 400]
    billed = total_billed(PROVIDER, answers)
    key = call.stored.new_id("batch_")
    batch = {
        "id": key,
        "object": "batch",
        "endpoint": call.body["endpoint"],
        "errors": None,
        "input_file_id": call.body["input_file_id"],
        "completion_window": call.body.get("completion_window", "24h"),
        "created_at": int(time.time()),
        "metadata": call.body.get("metadata"),
        "request_counts": {"total": len(lines), "completed": len(done), "failed": len(failed)},
    }
    outcome = {
        "output_file_id": _keep_lines(call, done),
        "error_file_id": _keep_lines(call, failed),
        "completed_at": int(time.time()),
        "model": None if billed is None else billed.model,
        "usage": None if billed is None else _batch_usage(billed.usage),
    }
    call.stored.put(key, (batch, outcome))
    call.stored.put(f"polls:{key}", call.reply.polls)
    unfinished = {**batch, "status": "validating"}
    return json_answer(unfinished, billed)


def retrieve_batch(call: Call) -> Answer:
    """GET /batches/{id}."""
    key = call.values["id"]
    batch, outcome = call.stored.get(key)
    if not call.stored.poll(key):
        return json_answer({**batch, "status": "in_progress"})
    return json_answer({**batch, **outcome, "status": "completed"})


def total_billed(provider: str, answers: list[Answer]) -> Billed | None:
    """All lines of a batch as one bill at the batch tier; the first line names the model."""
    bills = [answer.billed for answer in answers if answer.billed is not None]
    if not bills:
        return None
    usage = sum((bill.usage for bill in bills), Usage())
    return Billed(provider, bills[0].model, usage, "batch")


def create_thread(call: Call) -> Answer:
    """POST /threads, /assistants and a thread's messages: kept, so that they have an id."""
    kind = {"assistants": "assistant", "messages": "thread.message"}.get(
        call.received.path.rsplit("/", 1)[-1], "thread"
    )
    prefix = {"assistant": "asst_", "thread": "thread_"}.get(kind, "msg_")
    kept = {
        **call.body,
        "id": call.stored.new_id(prefix),
        "object": kind,
        "created_at": int(time.time()),
        "thread_id": call.values.get("thread"),
    }
    call.stored.put(kept["id"], kept)
    return json_answer(kept)


def create_run(call: Call) -> Answer:
    """POST /threads/{thread}/runs, /threads/runs and .../submit_tool_outputs."""
    assistant = call.stored.find(call.body.get("assistant_id")) or {}
    call = call.with_default_model(assistant.get("model") or "gpt-4o")
    generation = generate(
        call.reply, call.input_tokens, limit=call.body.get("max_completion_tokens")
    )
    words = usage_words(generation.usage)
    raw = call.usage_object({n: words[n] for n in words if not n.endswith("_details")})
    billed = call.billed(PROVIDER, generation.usage, raw)
    key = call.values.get("id") or call.stored.new_id("run_")
    run: dict[str, Any] = {
        "id": key,
        "object": "thread.run",
        "created_at": int(time.time()),
        "thread_id": call.values.get("thread") or call.stored.new_id("thread_"),
        "assistant_id": call.body.get("assistant_id"),
        "model": call.model,
        "instructions": call.body.get("instructions") or "",
        "tools": [],
        "metadata": {},
    }
    finished = {**run, "status": call.reply.finish_reason or "completed", "usage": raw}
    call.stored.put(key, (run, finished))
    call.stored.put(f"polls:{key}", call.reply.polls)
    if call.is_streamed:
        total = generation.usage.output_tokens
        frames = tuple(_run_frames(call, run, finished, generation.pieces, total))
        return stream_answer(frames, ERROR_FRAME, billed)
    return json_answer(_queued(run), billed)


def retrieve_run(call: Call) -> Answer:
    """GET /threads/{thread}/runs/{id}."""
    key = call.values["id"]
    run, finished = call.stored.get(key)
    if not call.stored.poll(key):
        return json_answer({**run, "status": "in_progress", "usage": None})
    return json_answer(finished)


def _queued(run: Mapping[str, Any]) -> dict[str, Any]:
    return {**run, "status": "queued", "usage": None}


def _run_frames(
    call: Call,
    run: Mapping[str, Any],
    finished: Mapping[str, Any],
    pieces: tuple[str, ...],
    total: int,
) -> Iterator[Frame]:
    yield Frame(_event("thread.run.created", _queued(run)))
    yield Frame(_event("thread.run.in_progress", {**_queued(run), "status": "in_progress"}))
    key = call.stored.new_id("msg_")
    message = {"id": key, "object": "thread.message", "role": "assistant", "content": []}
    yield Frame(_event("thread.message.created", message))
    for position, piece in enumerate(pieces, start=1):
        part = {"index": 0, "type": "text", "text": {"value": piece, "annotations": []}}
        delta = {"id": key, "object": "thread.message.delta", "delta": {"content": [part]}}
        yield Frame(_event("thread.message.delta", delta), total * position // len(pieces))
    said = {"type": "text", "text": {"value": "".join(pieces), "annotations": []}}
    yield Frame(_event("thread.message.completed", {**message, "content": [said]}), total)
    yield Frame(_event(f"thread.run.{finished['status']}", finished), total)
    yield Frame(b"event: done\n" + DONE, total)


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\n".encode() + data_event(value)


def _keep_file(call: Call, filename: str, content: bytes, purpose: str) -> str:
    key = call.stored.new_id("file-")
    record = {
        "id": key,
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }
    call.stored.put(key, record)
    call.stored.put(f"content:{key}", content)
    return key


def _keep_lines(call: Call, lines: list[bytes]) -> str | None:
    if not lines:
        return None
    return _keep_file(call, "batch_output.jsonl", b"\n".join(lines) + b"\n", "batch_output")


def _batch_line(call: Call, asked: Mapping[str, Any], answer: Answer) -> bytes:
    response = {
        "status_code": answer.status,
        "request_id": call.stored.new_id("req_"),
        "body": json.loads(answer.body),
    }
    line = {
        "id": call.stored.new_id("batch_req_"),
        "custom_id": asked.get("custom_id"),
        "response": response,
        "error": None,
    }
    return dump(line)


def _batch_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }

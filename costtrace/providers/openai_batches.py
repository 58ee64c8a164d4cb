"""The output file of an OpenAI batch: one answer a line, each a call of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from costtrace.providers.base import (
    BatchLine,
    Request,
    Retrieval,
    get,
    name_of,
    parsed,
    text_of,
)
from costtrace.providers.openai_answers import read_answer

OBJECTS = {  # the `object` of an answer -> operation
    "chat.completion": "chat",
    "text_completion": "completions",
    "response": "responses",
    "list": "embeddings",
}


def lines_of(retrieval: Retrieval, answer: object) -> Iterator[BatchLine]:
    """Yield the answered lines of a file; none where it is no batch's output."""
    content = answer if isinstance(answer, (str, bytes)) else get(answer, "content")
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if not isinstance(content, bytes) or not _is_output(content):
        return
    for text in content.splitlines():
        if (line := _parsed(text)) is not None and (found := _line(retrieval, line)) is not None:
            yield found


def _is_output(content: bytes) -> bool:
    """Tell a batch's output from any other file by its first line."""
    start = content[:1_000].lstrip()
    if not start.startswith(b"{"):
        return False
    end = content.find(b"\n")
    first = _parsed(content if end < 0 else content[:end])
    return first is not None and {"custom_id", "response"} <= first.keys()


def _parsed(text: bytes) -> dict[str, Any] | None:
    line = parsed(text)
    return line if isinstance(line, dict) else None


def _line(retrieval: Retrieval, line: dict[str, Any]) -> BatchLine | None:
    body = get(line, "response", "body")
    if get(line, "response", "status_code") != 200 or not isinstance(body, dict):
        return None
    operation = OBJECTS.get(text_of(body.get("object")) or "")
    if operation is None:
        operation = "images" if "data" in body else "chat"
    request = Request(
        provider=retrieval.provider,
        operation=operation,
        model=name_of(body.get("model")) or "unknown",
        body={},
    )
    key = name_of(line.get("id")) or f"{retrieval.key}/{line.get('custom_id')}"
    return BatchLine(
        line_id=key, operation=operation, reading=replace(read_answer(request, body), tier="batch")
    )

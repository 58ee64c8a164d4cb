"""Endpoints that answer in one piece: embeddings, moderations, decisions, both model lists."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from costtrace.testing.answer import Answer, Call, json_answer, merged, with_usage
from costtrace.testing.generation import generate
from costtrace.testing.openai_chat import PROVIDER, served_tier
from costtrace.testing.openai_responses import usage_words
from costtrace.usage import Usage

_DIMENSIONS = 8
_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "text-embedding-3-small")


def embed(call: Call) -> Answer:
    """POST /embeddings: short vectors that follow from the text, as floats or base64."""
    call.require("input")
    given = call.body["input"]
    is_many = isinstance(given, list) and not (given and isinstance(given[0], int))
    texts = given if is_many else [given]
    usage = _input_only(call)
    raw = call.usage_object(
        {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    )
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, call.body)}
        for index, text in enumerate(texts)
    ]
    answer = with_usage({"object": "list", "data": data, "model": call.model}, raw)
    return json_answer(merged(answer, call.reply.extra), call.billed(PROVIDER, usage, raw))


def moderate(call: Call) -> Answer:
    """POST /moderations: nothing is ever flagged, nothing is billed."""
    given = call.body.get("input")
    categories = ("harassment", "hate", "self-harm", "sexual", "violence")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(categories, False),
        "category_scores": dict.fromkeys(categories, 0.001),
        "category_applied_input_types": {name: ["text"] for name in categories},
    }
    results = [result] * (len(given) if isinstance(given, list) else 1)
    model = call.with_default_model("omni-moderation-latest").model
    return json_answer({"id": call.stored.new_id("modr-"), "model": model, "results": results})


def decide(call: Call) -> Answer:
    """POST /decisions: the first choice, the lowest score, an even chance."""
    call.require("input", "questions")
    usage = generate(call.reply, call.input_tokens).usage
    raw = call.usage_object(usage_words(usage))
    answers = [_decision(question) for question in call.body["questions"]]
    answer = merged(with_usage({"answers": answers, "model": call.model}, raw), call.reply.extra)
    return json_answer(answer, call.billed(PROVIDER, usage, raw, served_tier(call)))


def list_models(_call: Call) -> Answer:
    """GET /models."""
    data = [_model(name) for name in _MODELS]
    return json_answer({"object": "list", "data": data, "has_more": False})


def retrieve_model(call: Call) -> Answer:
    """GET /models/{id}: every model exists."""
    return json_answer(_model(call.values["id"]))


def _model(name: str) -> dict[str, Any]:
    openai = {"object": "model", "created": 1_700_000_000, "owned_by": "loopback"}
    anthropic = {"type": "model", "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
    return {"id": name, **openai, **anthropic}


def _input_only(call: Call) -> Usage:
    given = call.reply.usage
    return given if isinstance(given, Usage) else Usage(input_tokens=call.input_tokens)


def _vector(text: Any, body: Mapping[str, Any]) -> str | list[float]:
    size = body.get("dimensions") or _DIMENSIONS
    digest = hashlib.sha256(repr(text).encode("utf-8", "surrogatepass")).digest()
    floats = [digest[position % len(digest)] / 255 for position in range(size)]
    packed = struct.pack(f"<{size}f", *floats)
    if body.get("encoding_format") == "base64":
        return base64.b64encode(packed).decode()
    return list(struct.unpack(f"<{size}f", packed))


def _decision(question: Mapping[str, Any]) -> dict[str, Any]:
    common = {"name": question.get("name"), "type": question["type"]}
    if question["type"] == "predicate":
        return {**common, "probability": 0.5}
    if question["type"] == "choice":
        value = question["choices"][0]["value"]
        chances = [{"value": value, "probability": 1.0}]
        return {**common, "choice": value, "confidence": 1.0, "probabilities": chances}
    levels = [
        {"label": level["label"], "value": value, "probability": float(value == 0)}
        for value, level in enumerate(question["levels"])
    ]
    return {**common, "score": 0.0, "confidence": 1.0, "probabilities": levels}

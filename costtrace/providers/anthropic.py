"""Anthropic's Messages API: what is billed, and where its usage is written.

Cache reads and writes are counted beside `input_tokens`, not inside; the counts of a stream's
`message_delta` are running totals, which replace what came before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from costtrace.providers.base import (
    BatchLine,
    Part,
    Reading,
    Request,
    Retrieval,
    StreamReader,
    as_count,
    as_units,
    cap_of,
    count,
    fields_of,
    get,
    given,
    items,
    name_of,
    number,
    parsed,
    text_of,
)
from costtrace.usage import Usage

BILLED = {"/v1/messages": "messages", "/v1/complete": "completions"}
FREE = re.compile(
    r"/v1/(messages/(count_tokens|batches)|agents|environments|vaults|memory_stores|user_profiles"
    r"|tunnels|skills|files|models|organizations|webhook\w*|deployments|sessions|dreams)(/.*)?"
)
UNCOVERED = re.compile(r"/v1/(sessions(/[^/]+/events)?|dreams|deployments/[^/]+/run)")
RESULTS = re.compile(r".*/v1/messages/batches/(?P<id>[^/]+)/results")
TOOL_FEES = {"web_search": "web_search_calls"}  # start of a server tool's type -> usage field
SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "tool_search", "mcp", "advisor")


class Anthropic:
    """The `anthropic` SDK: `Anthropic`, `AnthropicBedrock`, `AnthropicVertex` and their kin."""

    name = "anthropic"
    module = "anthropic._base_client"

    def request(
        self, path: str, body: Mapping[str, Any], *, host: str = "", api_version: str = ""
    ) -> Request | Literal["free", "uncovered"]:
        operation = BILLED.get(path)
        if operation is None:
            is_free = FREE.fullmatch(path) and not UNCOVERED.fullmatch(path)
            return "free" if is_free else "uncovered"
        tools = _tool_types(body)
        return Request(
            provider=self.name,
            operation=operation,
            model=name_of(given(body, "model")) or "unknown",
            body=body,
            is_stream=given(body, "stream") is True,
            output_cap=cap_of(body, "max_tokens", "max_tokens_to_sample"),
            tier="fast" if given(body, "speed") == "fast" else "standard",
            region="us" if given(body, "inference_geo") == "us" else "",
            host=host,
            api_version=api_version,
            tool_uses={
                usage_field: as_count(uses) or None
                for kind, uses in tools
                for start, usage_field in TOOL_FEES.items()
                if kind.startswith(start)
            },
            cache_lifetimes=None if _may_write_cache(body) else (),
            has_hosted_tools=any(kind.startswith(SERVER_TOOLS) for kind, _ in tools)
            or bool(given(body, "mcp_servers")),
        )

    def retrieval(self, method: str, path: str) -> Retrieval | None:
        found = RESULTS.fullmatch(path) if method == "get" else None
        if found is None:
            return None
        return Retrieval(provider=self.name, operation="messages", key=found["id"], is_batch=True)

    def batch_lines(self, retrieval: Retrieval, answer: object) -> Iterator[BatchLine]:
        if isinstance(answer, (bytes, str)):
            for text in answer.splitlines():
                yield from self.batch_lines(retrieval, parsed(text))
        elif get(answer, "result", "type") == "succeeded":
            request = Request(provider=self.name, operation="messages", model="unknown", body={})
            reading = replace(self.read(request, get(answer, "result", "message")), tier="batch")
            key = f"{retrieval.key}/{get(answer, 'custom_id')}"
            yield BatchLine(line_id=key, operation="messages", reading=reading)

    def read(self, request: Request, response: object) -> Reading:
        usage, model = get(response, "usage"), name_of(get(response, "model"))
        counted, parts = _usage(usage, model)
        return Reading(
            model=model,
            usage=counted,
            tier=_tier(usage),
            region=_region(usage),
            response_id=name_of(get(response, "id")),
            parts=parts,
            text=_text(response) if counted is None else "",
        )

    def reader(self, request: Request, *, hide_usage: bool) -> StreamReader:
        return _MessageReader()

    def capped(self, request: Request, tokens: int) -> dict[str, Any]:
        if request.operation == "completions":
            return {"max_tokens_to_sample": tokens}
        return {"max_tokens": tokens}

    def usage_option(self, request: Request) -> dict[str, Any] | None:
        return None  # its streams always report their usage


class _MessageReader:
    """Collects `message_start` and the last value of every field of `message_delta`."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._model: str | None = None
        self._id: str | None = None
        self._is_complete = False
        self._has_final_count = False
        self._text: list[str] = []

    def see(self, event: object) -> bool:
        fields = fields_of(event)
        kind = fields.get("type")
        if kind == "content_block_delta":
            delta = fields_of(fields.get("delta"))
            piece = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
            if type(piece) is str:
                self._text.append(piece)
        elif kind == "message_start":
            message = get(event, "message")
            self._model = name_of(get(message, "model"))
            self._id = name_of(get(message, "id"))
            self._take(get(message, "usage"))
        elif kind == "message_delta":
            self._take(get(event, "usage"))
            self._has_final_count = number(get(event, "usage", "output_tokens")) is not None
        elif kind == "content_block_start":
            if get(event, "content_block", "type") == "fallback":
                to = name_of(get(event, "content_block", "to", "model"))
                self._model = to or self._model
        elif kind == "message_stop":
            self._is_complete = True
        elif kind in ("completion", None):  # the text completions of old
            self._model = name_of(get(event, "model")) or self._model
            self._text.append(text_of(get(event, "completion")) or "")
            self._is_complete = get(event, "stop_reason") is not None
        return False

    def reading(self) -> Reading:
        usage, parts = _usage(self._usage or None, self._model)
        ended = self._is_complete or self._has_final_count
        return Reading(
            model=self._model,
            usage=usage,
            tier=_tier(self._usage),
            region=_region(self._usage),
            response_id=self._id,
            is_complete=ended,
            parts=parts,
            text="" if ended and usage else "".join(self._text),
        )

    def _take(self, usage: object) -> None:
        for name in _FIELDS:
            value = get(usage, name)
            if value is None or (value == 0 and name in _SENT):
                continue  # not repeated, or a gateway's placeholder: what was said before stays
            self._usage[name] = value


_SENT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "inference_geo",
    "speed",
    "iterations",
)


def _usage(usage: object, served: str | None) -> tuple[Usage | None, tuple[Part, ...]]:
    """Return what a message used of the model that served it, and what it used of others."""
    if all(number(get(usage, name)) is None for name in ("input_tokens", "output_tokens")):
        return None, ()
    total = _counts(usage)
    besides, hops = [], []
    for iteration in items(get(usage, "iterations")):
        kind, model = get(iteration, "type"), name_of(get(iteration, "model"))
        if kind == "compaction":  # not inside the totals, unlike the other kinds
            besides.append(Part(model or "", _counts(iteration)))
        elif kind == "advisor_message" and model:
            besides.append(Part(model, _counts(iteration)))
        elif kind in ("message", "fallback_message") and model and not _is_same(model, served):
            hops.append(Part(model, _counts(iteration)))
    for part in besides:
        total = total if part.model else total + part.usage
    parts = (*(part for part in besides if part.model), *hops)
    return _without_hops(total, hops, usage), parts


def _is_same(model: str, served: str | None) -> bool:
    """Tell whether two names are one model's, of which one may be dated."""
    return not served or model.startswith(served) or served.startswith(model)


def _without_hops(total: Usage, hops: list[Part], usage: object) -> Usage:
    """Take what other models declined before off a total that has it inside."""
    entries = [
        _counts(iteration)
        for iteration in items(get(usage, "iterations"))
        if get(iteration, "type") in ("message", "fallback_message")
    ]
    everything, elsewhere = sum(entries, Usage()), sum((hop.usage for hop in hops), Usage())
    counted = _counts(usage)
    if not hops or everything.total_tokens != counted.total_tokens:
        return total
    names = [name for name in _SPLIT if getattr(total, name) >= getattr(elsewhere, name)]
    return replace(total, **{n: getattr(total, n) - getattr(elsewhere, n) for n in names})


_SPLIT = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)


def _text(response: object) -> str:
    """Return the text of a message, or of a text completion, that came without usage."""
    blocks = [get(block, "text") for block in items(get(response, "content"))]
    return "".join(text_of(text) or "" for text in (get(response, "completion"), *blocks))


def _counts(usage: object) -> Usage:
    read = count(usage, "cache_read_input_tokens")
    split_5m = count(usage, "cache_creation", "ephemeral_5m_input_tokens")
    split_1h = count(usage, "cache_creation", "ephemeral_1h_input_tokens")
    written = get(usage, "cache_creation_input_tokens")
    total_written = split_5m + split_1h if written is None else as_count(written)
    one_hour = min(split_1h, total_written)  # a stream's later total wins over its earlier split
    return Usage(
        input_tokens=count(usage, "input_tokens") + read + total_written,
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=total_written,
        cache_write_5m_tokens=total_written - one_hour,
        cache_write_1h_tokens=one_hour,
        reasoning_tokens=count(usage, "output_tokens_details", "thinking_tokens"),
        web_search_calls=as_units(get(usage, "server_tool_use", "web_search_requests")),
    )


def _tier(usage: object) -> str | None:
    if get(usage, "speed") == "fast":
        return "fast"
    tier = name_of(get(usage, "service_tier"))
    # `priority` is capacity bought beforehand: it has no list price of its own
    return "standard" if tier == "priority" else tier


def _region(usage: object) -> str:
    return "us" if get(usage, "inference_geo") == "us" else ""


def _tool_types(body: Mapping[str, Any]) -> list[tuple[str, object]]:
    tools = items(given(body, "tools"))
    return [(text_of(get(tool, "type")) or "", get(tool, "max_uses")) for tool in tools]


def _may_write_cache(body: Mapping[str, Any]) -> bool:
    """Tell whether anything in the request is marked to be cached."""
    if given(body, "cache_control") is not None:
        return True
    for name in ("system", "tools", "messages"):
        value = given(body, name)
        if value is None or isinstance(value, str):
            continue
        if not isinstance(value, (list, tuple)):
            return True  # an iterator, which is not ours to read
        for block in value:
            if get(block, "cache_control") is not None:
                return True
            content = get(block, "content")
            if isinstance(content, list) and any(get(b, "cache_control") for b in content):
                return True
    return False

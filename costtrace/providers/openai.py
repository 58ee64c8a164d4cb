"""OpenAI's API: what is billed, and what a request asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from costtrace.providers.base import (
    Reading,
    Request,
    StreamReader,
    as_count,
    cap_of,
    get,
    given,
    items,
    text_of,
)
from costtrace.providers.openai_answers import EventReader, normal_tier, read_answer

BILLED = {  # path of the request -> operation
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/responses/compact": "compact",
    "/embeddings": "embeddings",
    "/images/generations": "images",
    "/images/edits": "images",
    "/images/variations": "images",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcriptions",
    "/audio/translations": "translations",
    "/decisions": "decisions",
    "/videos": "videos",
    "/videos/edits": "videos",
    "/videos/extensions": "videos",
}
BILLED_WITH_ID = (
    (re.compile(r"/videos/[^/]+/remix"), "videos"),
    (re.compile(r"/threads(/[^/]+)?/runs(/[^/]+/submit_tool_outputs)?"), "runs"),
)
UNCOVERED = (
    re.compile(r"/fine_tuning/jobs"),
    re.compile(r"/fine_tuning/alpha/graders/run"),
    re.compile(r"/evals/[^/]+/runs"),
    re.compile(r"/agents(/.*)?"),
    re.compile(r"/vector_stores/[^/]+/search"),
    re.compile(r"/containers"),
)
CAPS = {  # operation -> the names under which its body caps the output, the one to set first
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "runs": ("max_completion_tokens",),
}
CACHE_OPTIONS = ("prompt_cache_retention", "prompt_cache_options")
STREAMS_USAGE_ON_REQUEST = ("chat", "completions")
REGIONAL_HOST = re.compile(r"(us|eu|au|in|jp)\.api\.openai\.com")
LEGACY_DEFAULT_CAP = 16  # of the completions endpoint, when its body names none


class OpenAI:
    """The `openai` SDK: `OpenAI`, `AzureOpenAI` and their kin, and hosts with its protocol."""

    name = "openai"
    module = "openai._base_client"

    def request(
        self, path: str, body: Mapping[str, Any], *, host: str = ""
    ) -> Request | Literal["free", "uncovered"]:
        operation = _operation(path)
        if operation is None:
            return "uncovered" if any(p.fullmatch(path) for p in UNCOVERED) else "free"
        tool_uses = _tool_uses(body)
        regional = REGIONAL_HOST.fullmatch(host)
        return Request(
            provider=self.name,
            operation=operation,
            model=text_of(given(body, "model")) or "unknown",
            body=body,
            is_stream=given(body, "stream") is True,
            output_cap=_output_cap(operation, body),
            choices=max(as_count(given(body, "n")), as_count(given(body, "best_of")), 1),
            tier=normal_tier(text_of(given(body, "service_tier"))) or "standard",
            region=regional[1] if regional else "",
            host=host,
            tool_uses=tool_uses,
            cache_lifetimes=_cache_lifetimes(body),
            has_hosted_tools=_has_hosted_tools(body),
        )

    def read(self, request: Request, response: object) -> Reading:
        return read_answer(request, response)

    def reader(self, request: Request, *, hide_usage: bool) -> StreamReader:
        return EventReader(request, hide_usage=hide_usage)

    def capped(self, request: Request, tokens: int) -> dict[str, Any]:
        names = CAPS.get(request.operation, ())
        named = [name for name in names if given(request.body, name) is not None]
        return dict.fromkeys(named or names[:1], tokens)

    def usage_option(self, request: Request) -> dict[str, Any] | None:
        if not request.is_stream or request.operation not in STREAMS_USAGE_ON_REQUEST:
            return None
        options = given(request.body, "stream_options")
        if isinstance(options, Mapping):
            if "include_usage" in options:
                return None  # the caller has decided
        elif options is not None:
            return None
        return {"stream_options": {**(options or {}), "include_usage": True}}


def _operation(path: str) -> str | None:
    if operation := BILLED.get(path):
        return operation
    return next((name for pattern, name in BILLED_WITH_ID if pattern.fullmatch(path)), None)


def _output_cap(operation: str, body: Mapping[str, Any]) -> int | None:
    if operation in ("embeddings", "transcriptions", "translations"):
        return 0 if operation == "embeddings" else None
    cap = cap_of(body, *CAPS.get(operation, ()))
    return LEGACY_DEFAULT_CAP if cap is None and operation == "completions" else cap


def _tool_uses(body: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the fees that the declared tools may cause: usage field -> most uses."""
    most = as_count(given(body, "max_tool_calls")) or None
    fees: dict[str, int | None] = {}
    for tool in items(given(body, "tools")):
        kind = text_of(get(tool, "type")) or ""
        if kind.startswith("web_search_preview"):
            fees["web_search_preview_calls"] = most
        elif kind.startswith("web_search"):
            fees["web_search_calls"] = most
        elif kind == "file_search":
            fees["file_search_calls"] = most
    if given(body, "web_search_options") is not None:
        fees["web_search_preview_calls"] = 1  # a chat model that searches does so once
    return fees


def _has_hosted_tools(body: Mapping[str, Any]) -> bool:
    if given(body, "web_search_options") is not None:
        return True
    kinds = (get(tool, "type") for tool in items(given(body, "tools")))
    return any(kind not in ("function", "custom", None) for kind in kinds)


def _cache_lifetimes(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the cache writes that may happen: the short ones by themselves, others if asked."""
    asked = any(given(body, name) is not None for name in CACHE_OPTIONS)
    return None if asked else ("30m",)

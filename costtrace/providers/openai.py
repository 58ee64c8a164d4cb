"""OpenAI's API: what is billed, and what a request asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from costtrace.providers.base import (
    BatchLine,
    Reading,
    Request,
    Retrieval,
    StreamReader,
    as_count,
    cap_of,
    get,
    given,
    items,
    name_of,
    text_of,
)
from costtrace.providers.openai_answers import normal_tier, read_answer
from costtrace.providers.openai_batches import lines_of
from costtrace.providers.openai_routes import operation_of, retrieval_of
from costtrace.providers.openai_streams import reader_of

CAPS = {  # operation -> the names under which its body caps the output, the one to set first
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "realtime": ("max_output_tokens",),
    "runs": ("max_completion_tokens",),
}
CACHE_OPTIONS = ("prompt_cache_retention", "prompt_cache_options")
STREAMS_USAGE_ON_REQUEST = ("chat", "completions")
REGIONAL_HOST = re.compile(r"(us|eu|au|in|jp)\.api\.openai\.com")
LEGACY_DEFAULT_CAP = 16  # of the completions endpoint, when its body names none
KNOWS_USAGE_OPTION = re.compile(
    r"((\w+\.)?api\.openai\.com|openrouter\.ai|localhost|127(\.\d+){3}|::1)"
)
AZURE_HOST = re.compile(r".*\.(openai|services\.ai|cognitiveservices)\.azure\.(com|us|cn)")
AZURE_KNOWS_USAGE_OPTION = "2024-08-01"  # the first version of Azure's API that has the option


class OpenAI:
    """The `openai` SDK: `OpenAI`, `AzureOpenAI` and their kin, and hosts with its protocol."""

    name = "openai"
    module = "openai._base_client"

    def request(
        self, path: str, body: Mapping[str, Any], *, host: str = "", api_version: str = ""
    ) -> Request | Literal["free", "uncovered"]:
        operation = operation_of(path)
        if operation == "free":
            return "free"
        if operation == "uncovered":
            return "uncovered"
        has_tools = "tools" in body or "web_search_options" in body
        regional = None if host == "api.openai.com" else REGIONAL_HOST.fullmatch(host)
        return Request(
            provider=self.name,
            operation=operation,
            model=name_of(given(body, "model")) or "unknown",
            body=body,
            is_stream=body.get("stream") is True,
            output_cap=_output_cap(operation, body),
            choices=_choices(body) if "n" in body or "best_of" in body else 1,
            tier=_tier(body) if "service_tier" in body else "standard",
            region=regional[1] if regional else "",
            host=host,
            api_version=api_version,
            tool_uses=_tool_uses(body) if has_tools else {},
            cache_lifetimes=_cache_lifetimes(body),
            has_hosted_tools=has_tools and _has_hosted_tools(body),
        )

    def retrieval(self, method: str, path: str) -> Retrieval | None:
        return retrieval_of(method, path)

    def batch_lines(self, retrieval: Retrieval, answer: object) -> Iterator[BatchLine]:
        return lines_of(retrieval, answer)

    def read(self, request: Request, response: object) -> Reading:
        return read_answer(request, response)

    def reader(self, request: Request, *, hide_usage: bool) -> StreamReader:
        return reader_of(request, hide_usage=hide_usage)

    def capped(self, request: Request, tokens: int) -> dict[str, Any]:
        names = CAPS.get(request.operation, ())
        named = [name for name in names if given(request.body, name) is not None]
        return dict.fromkeys(named or names[:1], tokens)

    def usage_option(self, request: Request) -> dict[str, Any] | None:
        if not request.is_stream or request.operation not in STREAMS_USAGE_ON_REQUEST:
            return None
        if not _knows_usage_option(request):
            return None
        options = given(request.body, "stream_options")
        if isinstance(options, Mapping):
            if "include_usage" in options:
                return None  # the caller has decided
        elif options is not None:
            return None
        return {"stream_options": {**(options or {}), "include_usage": True}}


def _knows_usage_option(request: Request) -> bool:
    """Tell whether a host is known to understand `include_usage`; others answer with an error."""
    if given(request.body, "data_sources") is not None:
        return False
    version = request.api_version
    if version and version[0].isdigit():
        return version[:10] >= AZURE_KNOWS_USAGE_OPTION
    if AZURE_HOST.fullmatch(request.host):
        return True  # its API without dated versions is newer than the option
    return KNOWS_USAGE_OPTION.fullmatch(request.host) is not None


def _tier(body: Mapping[str, Any]) -> str:
    return normal_tier(name_of(given(body, "service_tier"))) or "standard"


def _choices(body: Mapping[str, Any]) -> int:
    return max(as_count(given(body, "n")), as_count(given(body, "best_of")), 1)


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
    for name in CACHE_OPTIONS:
        if name in body and given(body, name) is not None:
            return None
    return ("30m",)

"""The most input tokens a request can be billed for, in microseconds and without a tokenizer.

A token covers at least one byte of UTF-8, whatever the tokenizer, so the length of the texts bounds
the tokens from above; framing, tools, images and audio have bounds of their own. For English prose
the bound is about four times the count, for Chinese and base64 about two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costtrace.tokens.families import family
from costtrace.tokens.images import UNKNOWN_MODEL
from costtrace.tokens.pieces import utf8_length
from costtrace.tokens.reading import fields, given, is_absent, is_list
from costtrace.tokens.sizing import FILE, SYSTEM, Measure, Sizing, UnboundedError, read_on

_ELSEWHERE = {  # what the provider adds of its own, and why nobody can tell how much
    "prompt": "its prompt is stored at the provider",
    "web_search_options": "the provider searches the web for it",
    "data_sources": "the provider adds documents of its own",
    "mcp_servers": "the provider calls tools by itself, in turns",
    "container": "the provider runs code by itself, in turns",
    "compaction": "the provider may summarise it in a further turn",
    "fallbacks": "the provider may ask several models",
}
_KEPT = {  # the same, but the provider's count endpoint knows
    "previous_response_id": "it continues an earlier response",
    "conversation": "it continues a conversation kept by the provider",
}
_UNBOUNDED = frozenset((*_ELSEWHERE, *_KEPT, "thread"))
_SETTINGS = """
    model max_tokens max_completion_tokens max_output_tokens max_tool_calls temperature top_p top_k
    n stream stream_options stop stop_sequences presence_penalty frequency_penalty logit_bias seed
    logprobs top_logprobs user store metadata modalities audio parallel_tool_calls prediction
    reasoning reasoning_effort verbosity service_tier safety_identifier prompt_cache_key
    prompt_cache_retention include background truncation messages input cache_control
    inference_geo betas speed
"""
_UNREAD = frozenset(_SETTINGS.split())  # the model does not read these; anything else counts


def upper_bound(
    body: Mapping[str, Any], operation: str, provider: str, *, files: int = 0
) -> int | None:
    """Return the most input tokens a request can have, None where nothing limits them.

    `body` is the request's JSON as the SDK holds it; it is only read, and an iterator in it is left
    alone. None is no fault: the request refers to something that is not in it (an earlier response,
    a PDF, a file's id), or the provider takes turns of its own (web search). What then holds is the
    model's largest input, for each of the provider's turns; `unbounded_reason` tells which it is.
    `files` is how many files go with the request beside its JSON (images to be edited).
    """
    if files and operation != "images":
        return None
    try:
        return size_request(body, operation, provider) + files * UNKNOWN_MODEL
    except UnboundedError:
        return None


def unbounded_reason(body: Mapping[str, Any], operation: str, provider: str) -> str | None:
    """Return why `upper_bound` is None for this request, in words; None where it is not."""
    try:
        size_request(body, operation, provider)
    except UnboundedError as error:
        return str(error)
    return None


def _normalised_length(text: str) -> int:
    """The one tokenizer that was published for Claude normalises first (NFKC): one sign of three
    bytes can become thirty-three."""
    if text.isascii():
        return len(text)
    import unicodedata

    length = utf8_length(text)
    if unicodedata.is_normalized("NFKC", text):
        return length
    return max(length, utf8_length(unicodedata.normalize("NFKC", text)))


def size_request(
    body: Mapping[str, Any], operation: str, provider: str, measure: Measure | None = None
) -> int:
    """Return the input tokens of a request by `measure`, else by bytes; raises `UnboundedError`."""
    if provider not in ("openai", "anthropic"):
        raise UnboundedError(f"the provider {provider!r} is not known")
    model = given(body, "model")
    kind = family(model if isinstance(model, str) else "")
    if measure is None:
        is_claude = kind.is_claude or provider == "anthropic"
        measure = _normalised_length if is_claude else utf8_length
    sizing = Sizing(measure, kind, provider)
    if operation == "completions" or operation == "embeddings":
        _add_prompts(sizing, body)
    elif operation in ("images", "speech", "videos"):
        _add_descriptions(sizing, body)
    elif operation in ("chat", "messages", "responses", "compact"):
        _add_conversation(sizing, body, operation)
    else:
        raise UnboundedError(f"the input of {operation!r} is not text alone")
    return sizing.total


def _add_conversation(sizing: Sizing, body: Mapping[str, Any], operation: str) -> None:
    if not _UNBOUNDED.isdisjoint(body):
        _refuse_unbounded(body)
    if operation in ("chat", "messages"):
        sizing.messages(given(body, "messages") or ())
    else:
        _add_input(sizing, given(body, "input"))
    if operation == "compact":
        sizing.total += FILE
    for key, value in body.items():
        if key in _UNREAD or is_absent(value):
            continue
        if key in ("instructions", "system"):
            sizing.blocks(value)
            sizing.total += SYSTEM
        elif key in ("tools", "functions"):
            sizing.tools(value)
        elif key in ("response_format", "text", "output_format", "output_config"):
            sizing.schema(value)
        elif key == "context_management":
            _refuse_summaries(value)
        else:
            sizing.free(value)


def _refuse_unbounded(body: Mapping[str, Any]) -> None:
    for key, reason in _ELSEWHERE.items():
        if given(body, key) is not None:
            raise UnboundedError(reason)
    for key, reason in _KEPT.items():
        if given(body, key) is not None:
            raise UnboundedError(reason, is_countable=True)
    if "thread" in body:
        _refuse_continuing(given(body, "thread"))


def _refuse_continuing(thread: object) -> None:
    """A thread that is created holds what the request does; one that is continued holds more."""
    if thread is not None and (fields(thread) or {}).get("type") != "create":
        raise UnboundedError("it continues a thread kept by the provider")


def _refuse_summaries(management: object) -> None:
    """Clearing old tool results only shortens a request; a summary is a turn of its own."""
    edits = given(fields(management) or {}, "edits")
    kinds = [(fields(edit) or {}).get("type") for edit in edits] if is_list(edits) else [None]
    if not all(isinstance(kind, str) and kind.startswith("clear_") for kind in kinds):
        raise UnboundedError("the provider may summarise it in a further turn")


def _add_input(sizing: Sizing, value: object) -> None:
    if isinstance(value, str):
        sizing.messages([{"role": "user", "content": value}])
    elif value is not None:
        sizing.messages(value)


def _add_prompts(sizing: Sizing, body: Mapping[str, Any]) -> None:
    """Texts, lists of token ids, and lists of either."""
    waiting = [given(body, "prompt"), given(body, "input"), given(body, "suffix")]
    nodes = 0
    while waiting:
        prompt = waiting.pop()
        if isinstance(prompt, str):
            sizing.total += sizing.measure(prompt) + 1
        elif isinstance(prompt, int):
            sizing.total += 1
        elif is_list(prompt):
            if set(map(type, prompt)) <= {int}:
                sizing.total += len(prompt) + 1
            else:
                nodes = read_on(nodes, prompt)
                waiting.extend(prompt)
        elif prompt is not None:
            raise UnboundedError(f"the prompt is a {type(prompt).__name__}, read only once")


def _add_descriptions(sizing: Sizing, body: Mapping[str, Any]) -> None:
    if given(body, "input_reference") is not None:
        raise UnboundedError("how the image counts that a video begins with is not published")
    for key in ("image", "images", "mask"):  # nor how one that is edited does: the most of any
        images = given(body, key)
        sizing.total += UNKNOWN_MODEL * (len(images) if is_list(images) else images is not None)
    for key in ("prompt", "input", "instructions"):
        text = given(body, key)
        if isinstance(text, str):
            sizing.total += sizing.measure(text)
    sizing.total += SYSTEM

"""What the imagined model generates for a request: text, tokens, and where the limit cuts it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from costtrace.testing.reply import DEFAULT_OUTPUT_TOKENS, Reply
from costtrace.usage import Usage

BYTES_PER_TOKEN = 4
WORD = "yes"
PROMPT_FIELDS = (
    "system",
    "instructions",
    "messages",
    "input",
    "prompt",
    "suffix",
    "tools",
    "functions",
    "response_format",
    "text",
    "questions",
    "output_config",
    "output_format",
)


def count_text(text: str) -> int:
    """Tokens of a text: its UTF-8 bytes divided by 4, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def count_input(body: Any) -> int:
    """Tokens of a request unless its reply says otherwise; at least 1.

    All text values (roles and the like included, the names of JSON fields and the data of images
    not) in `PROMPT_FIELDS` are put together; a token is 4 bytes of them, rounded up. Token ids, as
    embeddings and completions accept them, count one each.
    """
    if not isinstance(body, Mapping):
        return 1
    prompt = [body[name] for name in PROMPT_FIELDS if name in body]
    texts = "".join(text for value in prompt for text in _texts(value))
    ids = sum(_count_ids(body.get(name)) for name in ("input", "prompt"))
    return max(1, count_text(texts) + ids)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, Mapping):
        is_binary = value.get("type") == "base64"
        for name, part in value.items():
            if not (is_binary and name == "data"):
                yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _count_ids(value: Any) -> int:
    if not isinstance(value, list):
        return 0
    return sum(1 if isinstance(part, int) else _count_ids(part) for part in value)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asks for; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What was generated for each of `choices` equal choices."""

    text: str
    pieces: tuple[str, ...]
    """The text as a stream sends it."""
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    choices: int
    is_limited: bool
    """The request's token limit ended it."""

    def tokens_after(self, share: float) -> int:
        """Output tokens generated once `share` (0 to 1) of all the pieces is sent."""
        return round(self.usage.output_tokens * share)


def generate(
    reply: Reply, input_tokens: int, *, limit: int | None = None, choices: int = 1
) -> Generation:
    """Generate `choices` answers of at most `limit` tokens each, as `reply` asks."""
    calls = tuple(_tool_calls(reply.tool_calls))
    wanted = _wanted_tokens(reply, calls, choices)
    is_limited = limit is not None and wanted > limit and not reply.is_over_limit
    tokens = limit if is_limited and limit is not None else wanted
    text = _text(reply, wanted, bool(calls))
    if is_limited:
        text = text[: len(text) * tokens // wanted]
    given = reply.usage
    usage = given if isinstance(given, Usage) else Usage(input_tokens=input_tokens)
    exact = isinstance(given, Usage) and not is_limited
    return Generation(
        text=text,
        pieces=tuple(reply.chunks) if reply.chunks and not is_limited else split(text, tokens),
        tool_calls=calls,
        usage=usage if exact else with_output(usage, tokens * choices),
        choices=choices,
        is_limited=is_limited,
    )


def with_output(usage: Usage, output_tokens: int) -> Usage:
    """`usage` with so many tokens generated; no part of the output is more than all of it."""
    return replace(
        usage,
        output_tokens=output_tokens,
        reasoning_tokens=min(output_tokens, usage.reasoning_tokens),
        audio_output_tokens=min(output_tokens, usage.audio_output_tokens),
        image_output_tokens=min(output_tokens, usage.image_output_tokens),
    )


def _wanted_tokens(reply: Reply, calls: Sequence[ToolCall], choices: int) -> int:
    if isinstance(reply.usage, Usage):
        return reply.usage.output_tokens // choices
    if reply.output_tokens is not None:
        return reply.output_tokens
    said = [reply.text or "".join(reply.chunks or ()), reply.reasoning or ""]
    said += [call.name + call.arguments for call in calls]
    return sum(map(count_text, said)) or DEFAULT_OUTPUT_TOKENS


def _text(reply: Reply, tokens: int, has_calls: bool) -> str:
    if reply.chunks is not None:
        return "".join(reply.chunks)
    if reply.text is not None:
        return reply.text
    return "" if has_calls else " ".join([WORD] * tokens)


def _tool_calls(calls: Sequence[Mapping[str, Any]]) -> Iterator[ToolCall]:
    for position, call in enumerate(calls, start=1):
        arguments = call.get("arguments", {})
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        yield ToolCall(str(call.get("id", f"call_{position}")), str(call["name"]), arguments)


def split(text: str, parts: int) -> tuple[str, ...]:
    """The text in at most `parts` pieces of about the same length, none of them empty."""
    parts = max(1, min(parts, len(text)))
    if not text:
        return ()
    ends = list(accumulate([len(text) // parts] * (parts - 1)))
    return tuple(text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True))

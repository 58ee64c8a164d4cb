"""Requests in a file: a text, a conversation, or one request in each line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costtrace.cli.errors import UsageError
from costtrace.tokens import (
    TokenCount,
    count_input_tokens,
    count_message_tokens,
    count_tokens,
)

KINDS = ("text", "chat", "jsonl")
_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One request that is to be estimated."""

    where: str
    """As an error names it: the file, and the line in it."""
    body: Mapping[str, Any]
    is_batch: bool = False
    """It stands in a batch file, whose requests cost less."""
    url: str = ""
    """Where a batch file sends it."""

    @property
    def model(self) -> str | None:
        """The model that it names itself."""
        model = self.body.get("model")
        return model if isinstance(model, str) and model else None

    @property
    def output_cap(self) -> int | None:
        """The output tokens that it allows itself."""
        caps = [cap for name in _CAPS if type(cap := self.body.get(name)) is int and cap >= 0]
        return max(caps, default=None)

    @property
    def choices(self) -> int:
        """How many answers it asks for."""
        choices = self.body.get("n")
        return choices if type(choices) is int and choices > 0 else 1

    def is_embedding_for(self, model: str) -> bool:
        """Whether it asks a model for embeddings, and so for no output."""
        is_known = self.url.endswith("/embeddings") or "encoding_format" in self.body
        return is_known or model.rpartition("/")[2].startswith("text-embedding")

    def count(self, model: str) -> TokenCount:
        """Return its input tokens for a model; raises `UsageError` for what is no request."""
        try:
            return self._count(model)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{self.where}: {error}") from error

    def _count(self, model: str) -> TokenCount:
        body = self.body
        if self.is_embedding_for(model):
            return _counted_texts(_said(body), model)
        if "prompt" in body:
            return _counted_texts(body["prompt"], model)
        if "messages" not in body:
            instructions, tools = body.get("instructions"), body.get("tools")
            return count_input_tokens(body["input"], model, instructions, tools)
        messages = body["messages"]
        if not isinstance(messages, list):
            raise TypeError(f'"messages" is a list, not {type(messages).__name__}')
        if (system := body.get("system")) is not None:  # as Anthropic has it
            messages = [{"role": "system", "content": system}, *messages]
        response_format = body.get("response_format")
        return count_message_tokens(
            messages, model, body.get("tools"), response_format=response_format
        )


def read_requests(file: str, kind: str | None = None) -> list[FileRequest]:
    """Return the requests of a file; `-` is standard input.

    `kind` is one of `KINDS`, found out without it: by the name's ending, else by the content.
    Raises `UsageError` that names the line which cannot be read.
    """
    text, name = _text_of(file)
    if not text.strip():
        raise UsageError(f"{name} is empty: there is nothing to estimate")
    kind = kind or _kind_of(name, text)
    if kind == "text":
        return [FileRequest(name, {"messages": [{"role": "user", "content": text}]})]
    if kind == "chat":
        return [_request(_loaded(text, name, 0), name)]
    return list(_lines(text, name))


def _text_of(file: str) -> tuple[str, str]:
    try:
        if file == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig"), "standard input"
        return Path(file).read_text(encoding="utf-8-sig"), file
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text in UTF-8: byte {error.start} is none") from error


def _kind_of(name: str, text: str) -> str:
    ending = Path(name).suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        return "jsonl"
    if ending == ".json":
        return "chat"
    if ending or not text.lstrip().startswith(("{", "[")):
        return "text"
    return "chat" if _is_json(text) or not _is_json(text.strip().splitlines()[0]) else "jsonl"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _lines(text: str, name: str) -> Iterator[FileRequest]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _request(_loaded(line, name, number), f"{name}, line {number}")


def _loaded(text: str, name: str, number: int) -> Any:
    """Read JSON; `number` is that of the line it is, 0 for a whole file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = number or error.lineno
        raise UsageError(f"{name}, line {line}: no JSON: {error.msg}") from error
    except RecursionError as error:
        raise UsageError(f"{name}, line {number or 1}: JSON nested too deeply") from error


def _request(value: Any, where: str) -> FileRequest:
    """Return the request in a value: a body, the line of a batch file, or a bare conversation."""
    if isinstance(value, list):
        value = {"messages": value}
    if not isinstance(value, dict):
        raise UsageError(f"{where}: a request is a JSON object, not {type(value).__name__}")
    body = value.get("body", value.get("params", value))  # as OpenAI, as Anthropic has it
    if not isinstance(body, dict) or not {"messages", "input", "prompt"} & body.keys():
        raise UsageError(f'{where}: a request has "messages", "input" or "prompt", or a "body" so')
    return FileRequest(where, body, body is not value, str(value.get("url", "")))


def _said(body: Mapping[str, Any]) -> Any:
    """Return what is to be embedded, also where it stands in messages."""
    if "messages" in body:
        return [message["content"] for message in body["messages"]]
    return body.get("input", body.get("prompt"))


def _counted_texts(value: Any, model: str) -> TokenCount:
    """Count a text, token ids, or a list of either."""
    if isinstance(value, str):
        return count_tokens(value, model)
    if not isinstance(value, list):
        raise TypeError(f"texts to embed or complete are a text or a list, not {value!r:.40}")
    if all(type(part) is int for part in value):
        return TokenCount(len(value), exact=True, method="ids")
    counts = [_counted_texts(part, model) for part in value]
    return TokenCount(sum(counts), exact=all(c.exact for c in counts), method=counts[0].method)

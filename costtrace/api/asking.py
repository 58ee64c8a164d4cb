"""One question in the words of each SDK: its client, its arguments, and the text that comes back.

Both SDKs are asked for the same thing, so what they name differently is translated: the limit of
output tokens, and where the system message stands. Everything else goes to them as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from costtrace.api.prompts import Conversation
from costtrace.pricing import PriceTable
from costtrace.providers.base import get, items, text_of
from costtrace.tokens.families import family
from costtrace.tokens.reading import fields

ANTHROPIC, OPENAI = "anthropic", "openai"
DEFAULT_MAX_TOKENS = 1024
"""What a Claude model is given where nobody says: its API takes no request without a limit."""

_CAPS = ("max_tokens", "max_completion_tokens")
_SYSTEM_ROLES = ("system", "developer")
_COUNTS_REASONING = re.compile(r"o\d|gpt-(?:[5-9]|[12]\d)|codex")
"""Names of the models whose API refuses `max_tokens`: the limit includes unseen reasoning."""


def provider_of(model: str, prices: PriceTable) -> str:
    """Return which provider's client a model is asked through, `openai` where nobody knows."""
    if family(model).is_claude:
        return ANTHROPIC
    known = prices.find(model)
    return ANTHROPIC if known is not None and known.provider == ANTHROPIC else OPENAI


def protocol_of(client: object) -> str | None:
    """Return which SDK's words a client speaks; None for what is no client."""
    if callable(get(client, "messages", "create")):
        return ANTHROPIC
    return OPENAI if callable(get(client, "chat", "completions", "create")) else None


def create_method(client: object, protocol: str) -> Callable[..., Any]:
    """Return the client's method that asks a model."""
    method: Callable[..., Any] = (
        get(client, "messages", "create")
        if protocol == ANTHROPIC
        else get(client, "chat", "completions", "create")
    )
    return method


def arguments(
    protocol: str,
    model: str,
    messages: Conversation,
    options: Mapping[str, Any],
    default_max_tokens: int | None = DEFAULT_MAX_TOKENS,
) -> dict[str, Any]:
    """Return what to call `create` with, in the words of the client's SDK."""
    rest = {name: value for name, value in options.items() if name not in (*_CAPS, "system")}
    cap = next((options[name] for name in _CAPS if options.get(name) is not None), None)
    system = options.get("system")
    if protocol == ANTHROPIC:
        cap = default_max_tokens if cap is None else cap
        found = {"model": model, **_claude_messages(messages, system), **rest}
        return found if cap is None else {**found, "max_tokens": cap}
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    found = {"model": model, "messages": messages, **rest}
    return found if cap is None else {**found, _cap_name(model, options): cap}


def answer_text(response: object) -> str:
    """Return the text of an answer; empty where it has none, as a call of a tool."""
    if choices := items(get(response, "choices")):
        return text_of(get(choices[0], "message", "content")) or ""
    blocks = items(get(response, "content"))
    return "".join(text_of(get(block, "text")) or "" for block in blocks)


def _cap_name(model: str, options: Mapping[str, Any]) -> str:
    if options.get("max_completion_tokens") is not None:
        return "max_completion_tokens"
    reasons = _COUNTS_REASONING.match(family(model).name)
    return "max_completion_tokens" if reasons else "max_tokens"


def _claude_messages(messages: Conversation, system: object) -> dict[str, Any]:
    """Move the system messages to `system`, where Claude has them."""
    rest: list[Any] = []
    parts = [] if system is None else [system]
    for message in messages:
        found = fields(message) or {}
        if found.get("role") in _SYSTEM_ROLES:
            parts.append(found.get("content"))
        else:
            rest.append(message)
    return {"messages": rest, "system": _joined(parts)} if parts else {"messages": rest}


def _joined(parts: list[Any]) -> str | list[Any]:
    if all(isinstance(part, str) for part in parts):
        return "\n\n".join(parts)
    blocks: list[Any] = []
    for part in parts:
        blocks += [{"type": "text", "text": part}] if isinstance(part, str) else items(part)
    return blocks

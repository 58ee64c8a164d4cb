"""Asking the provider: the count endpoints of Claude and of OpenAI's Responses.

A network call, made through the user's own client and only where the user hands one in. Answers are
remembered by content (a hash of it), so the same request is asked once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from costtrace.tokens.counts import TokenCount
from costtrace.tokens.memory import CountMemory
from costtrace.tokens.reading import compact_json, fields, given, is_absent, message_list, plain

METHOD = "count_tokens"
_ADDED = ("extra_headers", "timeout")  # taken by every method of the SDKs
_SYSTEM = ("system", "developer")
_answers = CountMemory(4096)


def count_request(body: Mapping[str, Any], client: object, provider: str) -> TokenCount:
    """Ask `client` how many input tokens a request has; `body` as for `messages` or `responses`.

    What the count endpoint does not know of is left out, by the signature of the client's own
    method. Raises `TypeError` for a client without one and for an async client, and the SDK's own
    errors. The answer is the provider's; it calls it an estimate, good to a few tokens.
    """
    method, arguments, key = _prepare(body, client, provider)
    known = _answers.get(key)
    if known is None:
        answer = method(**arguments)
        if hasattr(answer, "__await__"):
            _abandon(answer)
            raise TypeError(
                "the client is async: await acount_tokens, acount_message_tokens or aestimate"
            )
        known = _remember(key, answer)
    return TokenCount(known, exact=True, method=METHOD)


async def acount_request(body: Mapping[str, Any], client: object, provider: str) -> TokenCount:
    """As `count_request`, with an async client (a sync one works too, and blocks)."""
    method, arguments, key = _prepare(body, client, provider)
    known = _answers.get(key)
    if known is None:
        answer = method(**arguments)
        known = _remember(key, await answer if hasattr(answer, "__await__") else answer)
    return TokenCount(known, exact=True, method=METHOD)


def has_endpoint(client: object, provider: str) -> bool:
    """Tell whether `client` can count for `provider`."""
    return callable(_method(client, provider))


def _method(client: object, provider: str) -> Any:
    if provider == "anthropic":
        return getattr(getattr(client, "messages", None), "count_tokens", None)
    tokens = getattr(getattr(client, "responses", None), "input_tokens", None)
    return getattr(tokens, "count", None)


def _prepare(
    body: Mapping[str, Any], client: object, provider: str
) -> tuple[Any, dict[str, Any], bytes]:
    method = _method(client, provider)
    if not callable(method):
        name = (
            "messages.count_tokens" if provider == "anthropic" else "responses.input_tokens.count"
        )
        raise TypeError(f"client has no {name}; a {type(client).__name__} cannot count tokens")
    wanted = _split_system(body) if provider == "anthropic" else dict(body)
    accepted = _accepted(method)
    arguments = {
        name: value
        for name, value in wanted.items()
        if (name in accepted or name in _ADDED) and not is_absent(value)
    }
    where = str(getattr(client, "base_url", ""))
    content = compact_json([where, provider, {**arguments, "extra_headers": None}])
    return method, arguments, hashlib.blake2b(content.encode("utf-8", "surrogatepass")).digest()


def _accepted(method: Any) -> frozenset[str]:
    import inspect  # here: it is slow to import, and the SDK that is at hand has loaded it

    return frozenset(inspect.signature(inspect.unwrap(method)).parameters)


def _split_system(body: Mapping[str, Any]) -> dict[str, Any]:
    """Move the system messages of a chat to `system`, where Claude has them."""
    messages = message_list(given(body, "messages") or [])
    system = [message for message in messages if message.get("role") in _SYSTEM]
    rest = [plain(message) for message in messages if message.get("role") not in _SYSTEM]
    if not system:
        return {**body, "messages": rest}
    return {**body, "messages": rest, "system": _blocks([given(body, "system"), *system])}


def _blocks(parts: list[Any]) -> list[Any]:
    blocks: list[Any] = []
    for part in parts:
        found = fields(part)
        content = part if found is None else given(found, "content")
        if isinstance(content, str):
            blocks.append({"type": "text", "text": content})
        elif content is not None:
            blocks.extend(plain(content))
    return blocks


def _remember(key: bytes, answer: object) -> int:
    tokens = getattr(answer, "input_tokens", None)
    if not isinstance(tokens, int):
        raise TypeError(f"the client's count is no number of tokens but {type(answer).__name__}")
    _answers.put(key, tokens)
    return tokens


def _abandon(coroutine: Any) -> None:
    close = getattr(coroutine, "close", None)
    if callable(close):
        close()  # never started, so nothing was sent

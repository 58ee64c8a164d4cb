"""Counting before a call: texts, conversations, Responses input, and a whole request once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from costtrace.tokens.bounds import size_request
from costtrace.tokens.chat import check_model, check_text, count_chat, count_input
from costtrace.tokens.counts import TokenCount
from costtrace.tokens.encoding import count_text, tokenizer
from costtrace.tokens.endpoints import acount_request, count_request, has_endpoint
from costtrace.tokens.families import family
from costtrace.tokens.reading import fields, given, is_absent, plain
from costtrace.tokens.sizing import UnboundedError

Messages = Iterable[Any]
Tools = Iterable[Any]


def count_tokens(text: str, model: str, client: object | None = None) -> TokenCount:
    """Return how many tokens `text` is for `model`.

    For OpenAI's models tiktoken counts, if its vocabulary is on this machine (nothing is ever
    downloaded), for Claude the count endpoint of `client`, framing of one message included. Without
    them the count is an estimate that errs upwards; `.exact` and `.method` of the result tell.
    Raises `TypeError` for what is no text or model, and the SDK's errors when the client asks.

    >>> count_tokens("tiktoken is great!", "gpt-4o")
    6
    """
    check_text(text)
    if family(check_model(model)).is_claude and client is not None and text:
        return count_request(_one_message(text, model), client, "anthropic")
    return count_text(text, model)


async def acount_tokens(text: str, model: str, client: object | None = None) -> TokenCount:
    """As `count_tokens`, with an async client."""
    check_text(text)
    if family(check_model(model)).is_claude and client is not None and text:
        return await acount_request(_one_message(text, model), client, "anthropic")
    return count_text(text, model)


def count_message_tokens(
    messages: Messages,
    model: str,
    tools: Tools | None = None,
    client: object | None = None,
    *,
    response_format: object = None,
) -> TokenCount:
    """Return the input tokens of a conversation, with framing, tools, images and tool calls.

    `messages` are dicts or the SDKs' own objects, of chat or of Claude; an iterator is read to its
    end. For Claude with a `client`, its count endpoint answers (system messages go to `system`),
    and the same content is asked once. Raises `TypeError` or `ValueError` that name the message
    that is wrong, and the SDK's errors when the client asks.
    """
    if family(check_model(model)).is_claude and client is not None:
        return count_request(_claude_body(messages, model, tools), client, "anthropic")
    return count_chat(messages, model, _listed(tools), response_format)


async def acount_message_tokens(
    messages: Messages,
    model: str,
    tools: Tools | None = None,
    client: object | None = None,
    *,
    response_format: object = None,
) -> TokenCount:
    """As `count_message_tokens`, with an async client."""
    if family(check_model(model)).is_claude and client is not None:
        body = _claude_body(messages, model, tools)
        return await acount_request(body, client, "anthropic")
    return count_chat(messages, model, _listed(tools), response_format)


def count_input_tokens(
    request_input: str | Messages | None,
    model: str,
    instructions: str | None = None,
    tools: Tools | None = None,
    client: object | None = None,
    *,
    text: object = None,
) -> TokenCount:
    """Return the input tokens of a Responses request, whose `input` comes first here.

    A list of texts or of token ids, as embeddings and completions take it, is counted without
    framing.

    With a `client` that has `responses.input_tokens.count` the provider counts; without, the rules
    of the chat are applied and the count is marked. `text` is the request's own, with its `format`.
    """
    check_model(model)
    if client is not None and has_endpoint(client, "openai"):
        body = _responses_body(request_input, model, instructions, tools, text)
        return count_request(body, client, "openai")
    schema = given(fields(text) or {}, "format")
    return count_input(request_input, model, instructions, _listed(tools), schema)


async def acount_input_tokens(
    request_input: str | Messages | None,
    model: str,
    instructions: str | None = None,
    tools: Tools | None = None,
    client: object | None = None,
    *,
    text: object = None,
) -> TokenCount:
    """As `count_input_tokens`, with an async client."""
    if client is not None and has_endpoint(client, "openai"):
        body = _responses_body(request_input, check_model(model), instructions, tools, text)
        return await acount_request(body, client, "openai")
    return count_input_tokens(request_input, model, instructions, tools, text=text)


def count_output(text: str, model: str) -> TokenCount:
    """Return the tokens of an answer that was cut off, as far as it came; never `.exact`.

    A lower bound where a model reasons unseen: those tokens are billed too, and nothing shows them.
    """
    counted = count_text(check_text(text), check_model(model))
    return TokenCount(counted, exact=False, method=counted.method)


def exact(
    body: Mapping[str, Any],
    operation: str,
    provider: str,
    model: str | None = None,
    client: object | None = None,
) -> TokenCount | None:
    """Return a closer bound for a request than its bytes, for the decision that they leave open.

    Still at least what is billed: texts are counted with the model's own tokenizer, what has no
    published rule keeps its bound. Where the tokenizer is not public or not on this machine, the
    bound from bytes comes back (`.method` is `"bound:bytes"`), unless `client` may be asked (Claude
    and Responses; its errors count as no answer). None where nothing limits the tokens. Messages
    counted before are remembered, so a growing conversation costs only its new turn.
    """
    if model is not None and model != body.get("model"):
        body = {**body, "model": model}
    asked = _asked(body, operation, provider, client)
    return _closer_bound(body, operation, provider) if asked is None else asked


async def aexact(
    body: Mapping[str, Any],
    operation: str,
    provider: str,
    model: str | None = None,
    client: object | None = None,
) -> TokenCount | None:
    """As `exact`, with an async client."""
    if model is not None and model != body.get("model"):
        body = {**body, "model": model}
    if client is not None and _may_ask(client, body, operation, provider):
        try:
            return _with_margin(await acount_request(body, client, provider))
        except Exception:  # as in `exact`
            pass
    return _closer_bound(body, operation, provider)


def _closer_bound(body: Mapping[str, Any], operation: str, provider: str) -> TokenCount | None:
    name = given(body, "model")
    name = name if isinstance(name, str) and name.strip() else "unknown"
    counter = tokenizer(name)
    try:
        if not counter.is_exact or provider != "openai":
            return TokenCount(size_request(body, operation, provider), method="bound:bytes")
        tokens = size_request(body, operation, provider, counter.count)
    except UnboundedError:
        return None
    by_rules = _by_rules(body, operation, name)
    return by_rules or TokenCount(tokens, method=f"{counter.method}+bounds")


def _by_rules(body: Mapping[str, Any], operation: str, model: str) -> TokenCount | None:
    """The count where all of it follows published rules, which is then the true number."""
    if operation != "chat" or not family(model).is_framing_verified:
        return None
    if any(given(body, key) is not None for key in ("functions", "response_format")):
        return None
    try:
        counted = count_chat(given(body, "messages"), model, given(body, "tools"))
    except (TypeError, ValueError):
        return None
    return counted if counted.exact else None


def _asked(
    body: Mapping[str, Any], operation: str, provider: str, client: object | None
) -> TokenCount | None:
    if client is None or not _may_ask(client, body, operation, provider):
        return None
    try:
        return _with_margin(count_request(body, client, provider))
    except Exception:  # whatever the network or the SDK says: the bound still holds
        return None


def _may_ask(client: object, body: Mapping[str, Any], operation: str, provider: str) -> bool:
    """Asking reads the messages, and tells nothing of what the provider adds in its own turns."""
    wanted = {"anthropic": "messages", "openai": "responses"}.get(provider)
    if operation != wanted or not has_endpoint(client, provider):
        return False
    try:
        size_request(body, operation, provider)
    except UnboundedError as error:
        return error.is_countable
    return True


def _with_margin(answer: TokenCount) -> TokenCount:
    """The providers call their counts estimates; a bound has to be on the safe side."""
    return TokenCount(answer + answer // 50 + 16, method="count_tokens+margin")


def _one_message(text: str, model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def _claude_body(messages: Messages, model: str, tools: Tools | None) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": messages}
    if tools:
        body["tools"] = plain(tools)
    return body


def _responses_body(
    value: object, model: str, instructions: str | None, tools: Tools | None, text: object
) -> dict[str, Any]:
    body = {"input": value if isinstance(value, str) else plain(value), "model": model}
    optional = {"instructions": instructions, "tools": plain(tools), "text": plain(text)}
    return body | {name: value for name, value in optional.items() if value}


def _listed(tools: Tools | None) -> object:
    if is_absent(tools):
        return None
    return list(tools) if isinstance(tools, Iterator) else tools

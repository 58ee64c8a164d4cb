"""Asking the provider, through the user's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from costtrace.testing import LoopbackProvider
from costtrace.tokens import (
    acount_input_tokens,
    acount_message_tokens,
    acount_tokens,
    aexact,
    count_input_tokens,
    count_message_tokens,
    count_tokens,
    exact,
    upper_bound,
)

MODEL = "claude-opus-5"
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL = {"name": "search", "description": "Search", "input_schema": {"type": "object"}}


def bodies(provider: LoopbackProvider) -> list[Any]:
    """What the count endpoints received."""
    return [request.body for request in provider.requests]


def test_claude_is_asked_through_the_client(provider: LoopbackProvider) -> None:
    """The provider's own count is taken over, and says so."""
    count = count_message_tokens(MESSAGES, MODEL, tools=[TOOL], client=provider.anthropic())
    text = count_tokens("Why is the sky blue?", MODEL, client=provider.anthropic())

    assert count > 0
    assert text > 0
    assert (count.exact, count.method) == (True, "count_tokens")
    assert [request.path for request in provider.requests] == ["/v1/messages/count_tokens"] * 2
    assert bodies(provider)[0] == {"model": MODEL, "messages": MESSAGES, "tools": [TOOL]}


def test_system_messages_go_to_where_claude_has_them(provider: LoopbackProvider) -> None:
    """A chat's list can be counted for Claude as it is."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        *MESSAGES,
    ]
    count_message_tokens(iter(messages), MODEL, client=provider.anthropic())

    (body,) = bodies(provider)
    assert body["messages"] == MESSAGES
    assert body["system"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind."},
    ]


def test_same_content_is_asked_once(provider: LoopbackProvider) -> None:
    """What was asked is remembered by its content; anything else is asked again."""
    client = provider.anthropic()
    first = count_message_tokens(MESSAGES, MODEL, client=client)
    again = count_message_tokens([dict(MESSAGES[0])], MODEL, client=client)
    count_message_tokens(MESSAGES, "claude-opus-4-8", client=client)
    count_message_tokens(MESSAGES, MODEL, tools=[TOOL], client=client)

    assert again == first
    assert (again.exact, again.method) == (True, "count_tokens")
    assert len(provider.requests) == 3


def test_request_is_mapped_by_the_methods_own_signature(provider: LoopbackProvider) -> None:
    """What only `create` knows is dropped; what was not given does not arrive."""
    body = {
        "model": MODEL,
        "messages": MESSAGES,
        "system": "Be brief.",
        "max_tokens": 100,
        "stream": True,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "tool_choice": {"type": "auto"},
        "tools": [TOOL],
        "temperature": 0.5,
        "thinking": anthropic.NOT_GIVEN,
    }
    count = exact(body, "messages", "anthropic", client=provider.anthropic())

    (sent,) = bodies(provider)
    assert sent.keys() == {"model", "messages", "system", "tool_choice", "tools"}
    assert count is not None
    assert count.method == "count_tokens+margin"
    assert not count.exact


PDF = {"type": "document", "source": {"type": "base64", "data": "JVBERi0x"}}


@pytest.mark.parametrize(
    ("others", "is_asked"),
    [
        ({"messages": [{"role": "user", "content": [PDF]}]}, True),
        ({"messages": iter(MESSAGES)}, False),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, False),
    ],
)
def test_closer_bound_asks_only_where_the_answer_is_a_bound(
    provider: LoopbackProvider, others: dict[str, Any], is_asked: bool
) -> None:
    """A PDF's pages can be told by the provider; what its own turns add cannot, and an iterator
    is not to be read."""
    body = {"model": MODEL, "messages": MESSAGES, **others}
    count = exact(body, "messages", "anthropic", client=provider.anthropic())

    assert (count is not None) == is_asked
    assert len(provider.requests) == is_asked
    assert list(body["messages"])


class OldMessages:
    """The resource of an SDK whose count takes no tools yet."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def count_tokens(self, *, messages: object, model: str) -> Any:
        self.calls.append({"messages": messages, "model": model})
        return anthropic.types.MessageTokensCount(input_tokens=11)


class OldClient:
    """A client with it."""

    def __init__(self) -> None:
        self.messages = OldMessages()


def test_older_sdk_gets_what_it_knows() -> None:
    """No fixed list of arguments: an argument that the method lacks would be an error."""
    client = OldClient()
    content = "For an older client?"

    count = count_message_tokens([{"role": "user", "content": content}], MODEL, [TOOL], client)

    assert count == 11
    assert client.messages.calls[0].keys() == {"messages", "model"}


def test_async_client_is_awaited_or_refused(provider: LoopbackProvider) -> None:
    """The sync functions say which to use instead, and send nothing."""

    async def ask() -> list[int]:
        async with provider.async_anthropic() as client, provider.async_openai() as other:
            with pytest.raises(TypeError, match="async: await acount_tokens"):
                count_tokens("Why is the sky blue?", MODEL, client=client)
            assert len(provider.requests) == 0
            body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 5}
            closer = await aexact(body, "messages", "anthropic", client=client)
            assert closer is not None
            return [
                await acount_tokens("Why is the sky blue?", MODEL, client),
                await acount_message_tokens(MESSAGES, MODEL, client=client),
                await acount_input_tokens("Why?", "gpt-5", client=other),
                closer,
            ]

    counts = asyncio.run(ask())

    assert all(count > 0 for count in counts)
    assert counts[0] == counts[1] < counts[3]


def test_async_functions_count_without_a_client_too() -> None:
    """Nothing to wait for: the same counts as the sync ones."""

    async def ask() -> tuple[int, int, int, int | None]:
        body = {"model": "gpt-4o", "messages": MESSAGES}
        return (
            await acount_tokens("Why?", "gpt-4o"),
            await acount_message_tokens(MESSAGES, "gpt-4o"),
            await acount_input_tokens("Why?", "gpt-4o"),
            await aexact(body, "chat", "openai"),
        )

    assert asyncio.run(ask()) == (
        count_tokens("Why?", "gpt-4o"),
        count_message_tokens(MESSAGES, "gpt-4o"),
        count_input_tokens("Why?", "gpt-4o"),
        exact({"model": "gpt-4o", "messages": MESSAGES}, "chat", "openai"),
    )


def test_responses_are_counted_by_their_endpoint(provider: LoopbackProvider) -> None:
    """OpenAI has a count endpoint for Responses alone; a chat is never sent there."""
    client = provider.openai()
    count = count_input_tokens(
        "Why is the sky blue?", "gpt-5", instructions="Be brief.", client=client
    )
    count_message_tokens(MESSAGES, "gpt-5", client=client)

    assert (count.exact, count.method) == (True, "count_tokens")
    assert [request.path for request in provider.requests] == ["/v1/responses/input_tokens"]
    assert bodies(provider) == [
        {"input": "Why is the sky blue?", "instructions": "Be brief.", "model": "gpt-5"}
    ]


def test_client_that_cannot_count_is_refused(provider: LoopbackProvider) -> None:
    """For Claude, a client of another kind is a mistake; nothing is guessed."""
    with pytest.raises(TypeError, match=r"client has no messages\.count_tokens; a OpenAI cannot"):
        count_tokens("Why?", MODEL, client=provider.openai())


def test_errors_of_the_sdk_reach_who_asked() -> None:
    """A count that was asked for fails as the SDK fails; a bound falls back to the bytes."""
    client = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", max_retries=0)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Nobody hears this."}]}

    with pytest.raises(anthropic.APIConnectionError):
        count_message_tokens(body["messages"], MODEL, client=client)  # type: ignore[arg-type]
    bound = exact(body, "messages", "anthropic", client=client)

    assert bound is not None
    assert bound == upper_bound(body, "messages", "anthropic")
    assert bound.method == "bound:bytes"
    client.close()


def secrets() -> Iterator[str]:
    """Texts that nobody else can have counted before."""
    for number in range(3):
        yield f"a very secret text, number {number} of them"


def test_no_text_is_kept(provider: LoopbackProvider) -> None:
    """The memories hold hashes and numbers."""
    import gc

    for text in secrets():
        count_tokens(text, MODEL, client=provider.anthropic())
        count_tokens(text, "gpt-4o")
        count_message_tokens([{"role": "user", "content": text}], "gpt-4o")
    gc.collect()
    wanted = set(secrets())
    held = [
        key
        for mapping in gc.get_objects()
        if type(mapping) is dict
        for key in list(mapping)
        if type(key) in (str, tuple) and (key in wanted or wanted & set(map(str, key)))
    ]

    assert held == []

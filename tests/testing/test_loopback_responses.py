"""Responses through OpenAI's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pydantic
import pytest

from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

MODEL = "gpt-4.1-mini"


def test_plain_answer(provider: LoopbackProvider) -> None:
    """Text, status and usage of a plain response."""
    response = provider.openai().responses.create(model=MODEL, input="Hi there", instructions="Be")

    assert response.output_text == " ".join(["yes"] * 20)
    assert response.status == "completed"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 20)
    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.usage == Usage(3, 20)


def test_limit_leaves_it_incomplete(provider: LoopbackProvider) -> None:
    """At max_output_tokens the response is incomplete and billed at the limit."""
    response = provider.openai().responses.create(model=MODEL, input="Hi", max_output_tokens=16)

    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 16


def test_stream_has_the_providers_events(provider: LoopbackProvider) -> None:
    """The events come in the provider's order, numbered, the last one with the usage."""
    stream = provider.openai().responses.create(
        model=MODEL, input="Hi", stream=True, max_output_tokens=2
    )

    events = list(stream)
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    assert events[0].response.usage is None
    assert events[-1].response.usage.output_tokens == 2


def test_failed_response_still_has_usage(provider: LoopbackProvider) -> None:
    """A stream can end in response.failed."""
    provider.reply(finish_reason="failed", error="It broke.")

    *_, last = provider.openai().responses.create(model=MODEL, input="Hi", stream=True)

    assert last.type == "response.failed"
    assert last.response.error.message == "It broke."
    assert last.response.usage.output_tokens == 20


def test_async_plain_and_streamed(provider: LoopbackProvider) -> None:
    """The asynchronous client gets the same answers."""

    async def talk() -> tuple[str, str]:
        async with provider.async_openai() as client:
            plain = await client.responses.create(model=MODEL, input="Hi")
            async with client.responses.stream(model=MODEL, input="Hi") as stream:
                return plain.output_text, (await stream.get_final_response()).output_text

    plain, streamed = asyncio.run(talk())
    assert plain == streamed


class City(pydantic.BaseModel):
    """What `parse` shall find in the text."""

    name: str


def test_parse_reads_json_text(provider: LoopbackProvider) -> None:
    """Text set to JSON is parsed by the SDK's structured outputs."""
    provider.reply(text='{"name": "Oslo"}')

    response = provider.openai().responses.parse(model=MODEL, input="Hi", text_format=City)

    assert response.output_parsed == City(name="Oslo")


def test_tool_calls_and_reasoning_plain_and_streamed(provider: LoopbackProvider) -> None:
    """Function calls and reasoning are items of the output in both shapes."""
    provider.default = Reply(
        tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}], reasoning="Hm."
    )
    client = provider.openai()

    plain = client.responses.create(model=MODEL, input="Hi")
    with client.responses.stream(model=MODEL, input="Hi") as stream:
        final = stream.get_final_response()

    assert [item.type for item in plain.output] == ["reasoning", "function_call"]
    assert final.output[1].arguments == plain.output[1].arguments == '{"city": "Oslo"}'


def test_usage_in_our_words_is_put_into_the_providers(provider: LoopbackProvider) -> None:
    """A `Usage` becomes totals, details and lifetimes as Responses name them."""
    usage = Usage(
        100,
        30,
        cache_read_tokens=60,
        cache_write_tokens=20,
        cache_write_30m_tokens=15,
        cache_write_12h_tokens=5,
        reasoning_tokens=10,
    )
    provider.reply(usage=usage, extra={"tool_usage": {"web_search": {"num_requests": 2}}})

    response = provider.openai().responses.create(model=MODEL, input="Hi")

    details = response.usage.input_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (60, 20)
    assert details.cache_write_tokens_details.model_dump() == {
        "ttl_30m_tokens": 15,
        "ttl_12h_tokens": 5,
    }
    assert response.usage.output_tokens_details.reasoning_tokens == 10
    assert response.tool_usage.web_search.num_requests == 2


def test_background_response_is_settled_by_retrieval(provider: LoopbackProvider) -> None:
    """It has no usage until it is done, and only its creation is billed."""
    provider.reply(polls=1)
    client = provider.openai()

    created = client.responses.create(model=MODEL, input="Hi", background=True)
    early = client.responses.retrieve(created.id)
    done = client.responses.retrieve(created.id)

    assert (created.status, created.usage) == ("queued", None)
    assert (early.status, early.usage) == ("in_progress", None)
    assert (done.status, done.usage.output_tokens) == ("completed", 20)
    bills = [request.billed for request in provider.requests]
    assert [bill and bill.output_tokens for bill in bills] == [20, None, None]


def test_stream_of_a_response_can_be_resumed(provider: LoopbackProvider) -> None:
    """Retrieving with a position re-sends the events after it, without a second bill."""
    client = provider.openai()
    stream = client.responses.create(model=MODEL, input="Hi", background=True, stream=True)
    events = list(stream)
    key = events[0].response.id

    again = list(client.responses.retrieve(key, stream=True, starting_after=5))
    with client.responses.stream(response_id=key, starting_after=-1) as resumed:
        final = resumed.get_final_response()

    assert again == events[6:]
    assert final.usage == events[-1].response.usage
    assert [bool(request.billed) for request in provider.requests] == [True, False, False]


def test_background_response_can_be_cancelled(provider: LoopbackProvider) -> None:
    """A cancelled response says so."""
    client = provider.openai()
    created = client.responses.create(model=MODEL, input="Hi", background=True)

    assert client.responses.cancel(created.id).status == "cancelled"
    assert client.responses.retrieve(created.id).status == "cancelled"


def test_earlier_turns_are_read_again(provider: LoopbackProvider) -> None:
    """A response that continues another is billed for the tokens of both turns."""
    client = provider.openai()
    first = client.responses.create(model=MODEL, input="Hi")

    second = client.responses.create(model=MODEL, input="Hi", previous_response_id=first.id)

    assert second.usage.input_tokens == first.usage.total_tokens + 1


def test_compact_count_and_beta(provider: LoopbackProvider) -> None:
    """The neighbours of create: compaction is billed, counting is free, beta is the same."""
    client = provider.openai()

    compacted = client.responses.compact(model=MODEL, input="Hi there")
    counted = client.responses.input_tokens.count(model=MODEL, input="Hi there")
    beta = client.beta.responses.create(model=MODEL, input="Hi there")

    assert compacted.usage.output_tokens == 20
    assert compacted.output[0].type == "compaction"
    assert counted.input_tokens == 2
    assert beta.usage.output_tokens == 20
    assert [bool(request.billed) for request in provider.requests] == [True, False, True]


def test_unknown_response_is_not_found(provider: LoopbackProvider) -> None:
    """Retrieving what was never created is a 404."""
    with pytest.raises(openai.NotFoundError):
        provider.openai().responses.retrieve("resp_unknown")


def test_stored_items_are_sent_as_given(provider: LoopbackProvider) -> None:
    """Further output items, such as a web search, are part of the output."""
    item: dict[str, Any] = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }
    provider.reply(output_items=[item])

    response = provider.openai().responses.create(model=MODEL, input="Hi")

    assert [part.type for part in response.output] == ["message", "web_search_call"]

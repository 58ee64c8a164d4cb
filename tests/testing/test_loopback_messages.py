"""Messages through Anthropic's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pydantic
import pytest

from costtrace.testing import LoopbackProvider, Reply, count_input
from costtrace.usage import Usage

MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue?"}]
MODEL = "claude-haiku-4-5"


def test_plain_answer_bills_what_it_reports(provider: LoopbackProvider) -> None:
    """The usage in the answer, the log's bill and the documented counting rule agree."""
    message = provider.anthropic().messages.create(model=MODEL, max_tokens=99, messages=MESSAGES)

    expected = count_input({"messages": MESSAGES})
    assert message.content[0].text == " ".join(["yes"] * 20)
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (expected, 20)
    assert message.usage.service_tier == "standard"
    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.usage == Usage(expected, 20)
    assert provider.requests[0].billed.provider == "anthropic"


def test_limit_cuts_the_answer(provider: LoopbackProvider) -> None:
    """At max_tokens the answer stops and is billed at the limit."""
    message = provider.anthropic().messages.create(model=MODEL, max_tokens=4, messages=MESSAGES)

    assert message.stop_reason == "max_tokens"
    assert message.content[0].text == "yes yes yes yes"
    assert message.usage.output_tokens == 4


def test_stream_has_the_providers_events(provider: LoopbackProvider) -> None:
    """Exact input at the start with a placeholder for the output, totals at the end."""
    stream = provider.anthropic().messages.create(
        model=MODEL, max_tokens=2, messages=MESSAGES, stream=True
    )

    events = list(stream)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, end = events[0].message.usage, events[-2].usage
    assert (start.input_tokens, start.output_tokens) == (count_input({"messages": MESSAGES}), 1)
    assert (end.input_tokens, end.output_tokens) == (start.input_tokens, 2)


def test_ping_is_sent_though_the_sdk_hides_it(provider: LoopbackProvider) -> None:
    """The bytes of a stream hold a ping, as the provider's do."""
    client = provider.anthropic()

    with client.messages.with_streaming_response.create(
        model=MODEL, max_tokens=2, messages=MESSAGES, stream=True
    ) as response:
        lines = list(response.iter_lines())

    assert "event: ping" in lines


def test_cached_tokens_are_beside_the_input(provider: LoopbackProvider) -> None:
    """Anthropic's input_tokens leave the cached ones out; plain and streamed say the same."""
    usage = Usage(100, 9, cache_read_tokens=60, cache_write_tokens=30, cache_write_1h_tokens=10)
    provider.default = Reply(usage=usage)
    client = provider.anthropic()

    plain = client.messages.create(model=MODEL, max_tokens=50, messages=MESSAGES)
    with client.messages.stream(model=MODEL, max_tokens=50, messages=MESSAGES) as stream:
        streamed = stream.get_final_message()

    for seen in (plain.usage, streamed.usage):
        assert (seen.input_tokens, seen.cache_read_input_tokens) == (10, 60)
        assert seen.cache_creation_input_tokens == 30
        assert seen.cache_creation.ephemeral_5m_input_tokens == 20
        assert seen.cache_creation.ephemeral_1h_input_tokens == 10
    assert [r.billed and r.billed.usage for r in provider.requests] == [usage, usage]


def test_tools_and_thinking_plain_and_streamed(provider: LoopbackProvider) -> None:
    """Thinking, text and tool blocks arrive alike in both shapes."""
    provider.default = Reply(
        text="Let me see.",
        reasoning="Hm.",
        tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}],
    )
    client = provider.anthropic()

    plain = client.messages.create(model=MODEL, max_tokens=50, messages=MESSAGES)
    with client.messages.stream(model=MODEL, max_tokens=50, messages=MESSAGES) as stream:
        streamed = stream.get_final_message()

    assert [block.type for block in plain.content] == ["thinking", "text", "tool_use"]
    assert plain.stop_reason == streamed.stop_reason == "tool_use"
    assert [b.type for b in streamed.content] == [b.type for b in plain.content]
    assert streamed.content[2].input == plain.content[2].input == {"city": "Oslo"}
    assert streamed.content[1].text == "Let me see."


class City(pydantic.BaseModel):
    """What `parse` shall find in the text."""

    name: str


def test_parse_and_beta_and_tool_runner(provider: LoopbackProvider) -> None:
    """Structured outputs, the beta messages and the tool runner all get what they need."""

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Weather of a city."""
        return f"sunny in {city}"

    provider.queue(
        Reply(text='{"name": "Oslo"}'),
        Reply(),
        Reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}]),
        Reply(text="Sunny."),
    )
    client = provider.anthropic()

    parsed = client.messages.parse(
        model=MODEL, max_tokens=50, messages=MESSAGES, output_format=City
    )
    beta = client.beta.messages.create(model=MODEL, max_tokens=5, messages=MESSAGES)
    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=50, messages=MESSAGES, tools=[weather]
    )

    assert parsed.parsed_output == City(name="Oslo")
    assert beta.usage.output_tokens == 5
    assert runner.until_done().content[0].text == "Sunny."
    assert len(provider.requests) == 4


def test_async_plain_and_streamed(provider: LoopbackProvider) -> None:
    """The asynchronous client gets the same answers."""

    async def talk() -> tuple[str, str]:
        async with provider.async_anthropic() as client:
            plain = await client.messages.create(model=MODEL, max_tokens=50, messages=MESSAGES)
            async with client.messages.stream(
                model=MODEL, max_tokens=50, messages=MESSAGES
            ) as stream:
                return plain.content[0].text, await stream.get_final_text()

    plain, streamed = asyncio.run(talk())
    assert plain == streamed


def test_counting_is_free_and_agrees_with_the_bill(provider: LoopbackProvider) -> None:
    """count_tokens says what a call will read, and costs nothing."""
    client = provider.anthropic()

    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES, system="Be brief.")
    message = client.messages.create(
        model=MODEL, messages=MESSAGES, system="Be brief.", max_tokens=5
    )

    assert counted.input_tokens == message.usage.input_tokens
    assert provider.requests[0].billed is None


def test_data_of_images_is_not_counted_as_text(provider: LoopbackProvider) -> None:
    """Base64 data is no prompt text, whatever its size."""
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 40_000}
    content: Any = [{"type": "image", "source": source}]

    message = provider.anthropic().messages.create(
        model=MODEL, max_tokens=5, messages=[{"role": "user", "content": content}]
    )

    assert message.usage.input_tokens < 20


def test_missing_fields_are_refused_in_anthropics_words(provider: LoopbackProvider) -> None:
    """Errors have the provider's own body."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        provider.anthropic().post("/v1/messages", body={"model": MODEL}, cast_to=object)

    assert caught.value.body == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "Missing required parameter: 'messages'.",
        },
    }


def test_batch_results_come_line_by_line(provider: LoopbackProvider) -> None:
    """A batch answers each request, at its end, and is billed once at the batch tier."""
    provider.queue(Reply(output_tokens=3), Reply(status=400, error="no"))
    client = provider.anthropic()
    request: Any = {"model": MODEL, "max_tokens": 50, "messages": MESSAGES}

    batch = client.messages.batches.create(
        requests=[{"custom_id": "a", "params": request}, {"custom_id": "b", "params": request}]
    )
    ended = client.messages.batches.retrieve(batch.id)
    results = list(client.messages.batches.results(batch.id))

    assert (batch.processing_status, ended.processing_status) == ("in_progress", "ended")
    assert [(r.custom_id, r.result.type) for r in results] == [("a", "succeeded"), ("b", "errored")]
    assert results[0].result.message.usage.output_tokens == 3
    bill = provider.requests[0].billed
    assert bill is not None
    assert (bill.output_tokens, bill.service_tier) == (3, "batch")
    assert [request.billed for request in provider.requests[1:]] == [None] * 3


def test_old_text_completions(provider: LoopbackProvider) -> None:
    """POST /v1/complete answers without usage and is billed."""
    body = {"model": "claude-2", "prompt": "Hi", "max_tokens_to_sample": 3}

    answer: Any = provider.anthropic().post("/v1/complete", body=body, cast_to=object)

    assert answer["completion"] == "yes yes yes"
    assert provider.billed_tokens == 4

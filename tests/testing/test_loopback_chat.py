"""Chat and text completions through OpenAI's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pydantic
import pytest

from costtrace.testing import OMITTED, LoopbackProvider, Reply, count_input
from costtrace.usage import Usage

MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue?"}]


def text_of(chunks: list[Any]) -> str:
    """All that a stream of chat chunks says in its first choice."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == 0]
    return "".join(choice.delta.content or "" for choice in choices)


def test_plain_answer_bills_what_it_reports(provider: LoopbackProvider) -> None:
    """The usage in the answer, the log's bill and the documented counting rule agree."""
    completion = provider.openai().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)

    expected = count_input({"messages": MESSAGES})
    assert completion.choices[0].message.content == " ".join(["yes"] * 20)
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (expected, 20)
    (request,) = provider.requests
    assert request.path == "/v1/chat/completions"
    assert request.body["messages"] == MESSAGES
    assert request.billed is not None
    assert request.billed.usage == Usage(input_tokens=expected, output_tokens=20)
    assert (request.billed.provider, request.billed.model) == ("openai", "gpt-4o-mini")
    assert request.is_completed


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_limit_cuts_every_choice(provider: LoopbackProvider, name: str) -> None:
    """No choice is longer than the limit, and the bill is at most limit times choices."""
    limit: Any = {name: 7}
    completion = provider.openai().chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, n=3, **limit
    )

    assert [choice.finish_reason for choice in completion.choices] == ["length"] * 3
    assert completion.usage.completion_tokens == 21
    assert completion.choices[2].message.content.count("yes") == 7


def test_stream_ends_with_usage_when_asked(provider: LoopbackProvider) -> None:
    """With include_usage every chunk has a null usage and one more without choices has it."""
    stream = provider.openai().chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )

    *chunks, last = list(stream)
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == 20
    assert text_of(chunks) == " ".join(["yes"] * 20)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_stream_without_option_has_no_usage(provider: LoopbackProvider) -> None:
    """A stream that did not ask for its usage never learns it, and is billed all the same."""
    stream = provider.openai().chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True
    )

    chunks = list(stream)
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)
    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.output_tokens == 20


def test_stream_sends_every_choice(provider: LoopbackProvider) -> None:
    """A stream of two choices carries both, each with its own end."""
    stream = provider.openai().chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, n=2, max_tokens=3
    )

    ends = [(c.index, c.finish_reason) for chunk in stream for c in chunk.choices]
    assert [end for end in ends if end[1]] == [(0, "length"), (1, "length")]


def test_async_plain_and_streamed(provider: LoopbackProvider) -> None:
    """The asynchronous client gets the same answers."""

    async def talk() -> tuple[int, str]:
        async with provider.async_openai() as client:
            plain = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
            stream = await client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, max_tokens=2
            )
            return plain.usage.completion_tokens, text_of([chunk async for chunk in stream])

    assert asyncio.run(talk()) == (20, "yes yes")


def test_tool_calls_plain_and_streamed(provider: LoopbackProvider) -> None:
    """A reply with tool calls arrives as the SDK's tool calls in both shapes."""
    provider.default = Reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    client = provider.openai()

    plain = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)

    assert plain.choices[0].finish_reason == "tool_calls"
    assert plain.choices[0].message.content is None
    (call,) = plain.choices[0].message.tool_calls
    deltas = [d for chunk in stream for d in chunk.choices[0].delta.tool_calls or ()]
    assert call.function.arguments == deltas[0].function.arguments == '{"city": "Oslo"}'


class Answer(pydantic.BaseModel):
    """What `parse` shall find in the text."""

    city: str


def test_parse_reads_json_text(provider: LoopbackProvider) -> None:
    """Text set to JSON is parsed by the SDK's structured outputs."""
    provider.reply(text='{"city": "Oslo"}')

    completion = provider.openai().chat.completions.parse(
        model="gpt-4o-mini", messages=MESSAGES, response_format=Answer
    )

    assert completion.choices[0].message.parsed == Answer(city="Oslo")


def test_parse_raises_on_a_billed_answer_cut_short(provider: LoopbackProvider) -> None:
    """The SDK raises on an answer that the limit cut, though it was billed."""
    provider.reply(text='{"city": "Oslo"}')

    with pytest.raises(openai.LengthFinishReasonError):
        provider.openai().chat.completions.parse(
            model="gpt-4o-mini", messages=MESSAGES, response_format=Answer, max_tokens=2
        )

    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.output_tokens == 2


def test_stream_helper_assembles_the_completion(provider: LoopbackProvider) -> None:
    """The SDK's stream helper gets all the events it needs."""
    client = provider.openai()

    with client.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content.startswith("yes")


def test_usage_in_our_words_is_put_into_the_providers(provider: LoopbackProvider) -> None:
    """A `Usage` becomes totals and details as OpenAI names them."""
    usage = Usage(100, 30, cache_read_tokens=60, cache_write_tokens=5, reasoning_tokens=10)
    provider.reply(usage=usage)

    completion = provider.openai().chat.completions.create(model="o4-mini", messages=MESSAGES)

    seen = completion.usage
    assert (seen.prompt_tokens, seen.completion_tokens, seen.total_tokens) == (100, 30, 130)
    assert seen.prompt_tokens_details.cached_tokens == 60
    assert seen.prompt_tokens_details.cache_write_tokens == 5
    assert seen.completion_tokens_details.reasoning_tokens == 10
    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.usage == usage


def test_foreign_usage_objects_are_sent_as_they_are(provider: LoopbackProvider) -> None:
    """A raw usage, a nonsensical one and none at all reach the client unchanged."""
    raw = {"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.5}
    provider.queue(Reply(usage=raw), Reply(usage="many"), Reply(usage=OMITTED))
    client = provider.openai()

    seen = [client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(3)]

    assert seen[0].usage.model_extra["cost"] == 0.5
    assert seen[1].usage == "many"
    assert "usage" not in seen[2].model_fields_set
    bills = [request.billed for request in provider.requests]
    assert [bill and bill.output_tokens for bill in bills] == [4, 20, 20]
    assert bills[0] is not None
    assert bills[0].raw == raw


def test_details_and_extra_fields_are_merged(provider: LoopbackProvider) -> None:
    """Single details can be set without spelling out the rest."""
    provider.reply(
        usage_details={"completion_tokens_details": {"rejected_prediction_tokens": 9}},
        extra={"region": "eu"},
    )

    completion = provider.openai().chat.completions.create(model="m", messages=MESSAGES)

    assert completion.usage.completion_tokens_details.rejected_prediction_tokens == 9
    assert completion.usage.completion_tokens_details.reasoning_tokens == 0
    assert completion.model_extra["region"] == "eu"


@pytest.mark.parametrize(
    ("asked", "served"),
    [(None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")],
)
def test_service_tier_is_what_was_served(
    provider: LoopbackProvider, asked: Any, served: str
) -> None:
    """The answer names the tier that served it, which is not always the word asked with."""
    options = {} if asked is None else {"service_tier": asked}

    completion = provider.openai().chat.completions.create(
        model="m", messages=MESSAGES, extra_body=options
    )

    assert completion.service_tier == served


def test_stream_options_without_stream_are_refused(provider: LoopbackProvider) -> None:
    """As at the real provider, stream_options need a stream."""
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        provider.openai().chat.completions.create(
            model="m", messages=MESSAGES, stream_options={"include_usage": True}
        )

    assert provider.requests[0].billed is None


def test_text_completions_bill_all_that_was_drawn(provider: LoopbackProvider) -> None:
    """Prompts times best_of answers are generated and billed, prompts times n come back."""
    completion = provider.openai().completions.create(
        model="gpt-3.5-turbo-instruct", prompt=["one", "two"], n=1, best_of=3, max_tokens=5
    )

    assert len(completion.choices) == 2
    assert completion.usage.completion_tokens == 2 * 3 * 5


def test_text_completions_stream_and_count_token_ids(provider: LoopbackProvider) -> None:
    """Legacy completions stream too; token ids count one each; 16 tokens are the default limit."""
    stream = provider.openai().completions.create(
        model="davinci-002",
        prompt=[1, 2, 3, 4, 5],
        stream=True,
        stream_options={"include_usage": True},
    )

    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == " ".join(["yes"] * 16)
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (5, 16)


def test_chunks_of_a_stream_can_be_chosen(provider: LoopbackProvider) -> None:
    """The pieces a test names are the pieces the client sees."""
    provider.reply(chunks=["Hel", "lo"], output_tokens=2)

    stream = provider.openai().chat.completions.create(model="m", messages=MESSAGES, stream=True)

    assert [c.choices[0].delta.content for c in stream][1:3] == ["Hel", "lo"]


def test_provider_can_break_its_own_limit(provider: LoopbackProvider) -> None:
    """A reply may go over the limit, for tests of what happens then."""
    provider.reply(output_tokens=50, is_over_limit=True)

    completion = provider.openai().chat.completions.create(
        model="m", messages=MESSAGES, max_tokens=5
    )

    assert completion.usage.completion_tokens == 50

"""Helpers that never pass `create`, and the clients of other platforms: one entry each."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from costtrace import CostLedger, UncoveredCallWarning, budget
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
GPT = Decimal("0.000027")  # gpt-4o-mini, 100 and 20 tokens
CLAUDE = Decimal("0.0002")  # claude-haiku-4-5
HAIKU = "claude-haiku-4-5"


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def exact(ledger: CostLedger, operation: str, cost: Decimal, count: int = 1) -> None:
    """Assert that these entries stand in the ledger, and no others."""
    found = [(e.operation, e.cost_usd, e.status, e.grade) for e in ledger.entries]
    assert found == [(operation, cost, "ok", "reported")] * count


# Stream helpers


def test_chat_stream_helper(openai_client: Any, ledger: CostLedger):
    """Its events and accessors are as without us: no usage that nobody asked for."""

    def talk() -> Any:
        with openai_client.chat.completions.stream(model="gpt-4o-mini", messages=ASK) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion()
            return kinds, final.choices[0].message.content, final.usage, stream._response.is_closed

    without = talk()
    with budget("alice", 1, ledger=ledger):
        assert talk() == without
    exact(ledger, "chat", GPT)


def test_responses_stream_helper(openai_client: Any, ledger: CostLedger):
    """`responses.stream` reads the raw stream that it was given."""
    with (
        budget("alice", 1, ledger=ledger),
        openai_client.responses.stream(model="gpt-4o-mini", input="Hi") as stream,
    ):
        assert stream.get_final_response().usage.output_tokens == 20
    exact(ledger, "responses", GPT)


@pytest.mark.parametrize("resource", ["messages", "beta.messages"])
def test_message_stream_helper(resource: str, anthropic_client: Any, ledger: CostLedger):
    """Text, accessors and the final message."""
    messages = anthropic_client.beta.messages if "beta" in resource else anthropic_client.messages
    with (
        budget("alice", 1, ledger=ledger),
        messages.stream(model=HAIKU, max_tokens=99, messages=ASK) as stream,
    ):
        text = "".join(stream.text_stream)
        assert stream.get_final_text() == text
        assert stream.get_final_message().usage.output_tokens == 20
        assert stream.response.status_code == 200
    exact(ledger, "messages", CLAUDE)


def test_async_stream_helpers(provider: LoopbackProvider, any_ledger: CostLedger):
    """All three on an event loop."""

    async def main() -> None:
        async with provider.async_openai() as c, provider.async_anthropic() as a:
            with budget("alice", 1, ledger=any_ledger) as b:
                async with c.chat.completions.stream(model="gpt-4o-mini", messages=ASK) as stream:
                    await stream.get_final_completion()
                async with c.responses.stream(model="gpt-4o-mini", input="Hi") as stream:
                    await stream.get_final_response()
                async with a.messages.stream(model=HAIKU, max_tokens=99, messages=ASK) as stream:
                    await stream.get_final_text()
                assert b.spent_usd == 2 * GPT + CLAUDE

    asyncio.run(main())


def test_a_manager_that_is_never_entered_costs_nothing(
    openai_client: Any, anthropic_client: Any, ledger: CostLedger
):
    """Nothing is sent before `__enter__`."""
    with budget("alice", 1, ledger=ledger) as b:
        openai_client.chat.completions.stream(model="gpt-4o-mini", messages=ASK)
        anthropic_client.messages.stream(model=HAIKU, max_tokens=99, messages=ASK)
        openai_client.responses.with_streaming_response.create(model="gpt-4o-mini", input="Hi")
        assert b.reserved_usd == 0
    assert len(ledger.entries) == 0


def test_a_lazy_call_is_paid_by_who_sends_it(
    openai_client: Any, anthropic_client: Any, ledger: CostLedger
):
    """What is made in one scope and entered in another belongs to the other."""
    with budget("alice", 1, ledger=ledger):
        chat = openai_client.chat.completions.stream(model="gpt-4o-mini", messages=ASK)
        message = anthropic_client.messages.stream(model=HAIKU, max_tokens=99, messages=ASK)
        raw = openai_client.responses.with_streaming_response.create(model="gpt-4o-mini", input="H")
    with budget("bob", 1, ledger=ledger), chat as one, message as two, raw as three:
        one.get_final_completion()
        two.get_final_message()
        three.read()
    assert [entry.user_id for entry in ledger.entries] == ["bob"] * 3
    assert ledger.total_cost == 2 * GPT + CLAUDE


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_tool_runner_is_one_entry_a_turn(
    is_streamed: bool, anthropic_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Two turns: a tool is called, then the answer comes."""

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    provider.reply(
        input_tokens=100,
        output_tokens=20,
        tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}],
    )
    with budget("alice", 1, ledger=ledger):
        runner = anthropic_client.beta.messages.tool_runner(
            model=HAIKU, max_tokens=99, messages=ASK, tools=[weather], stream=is_streamed
        )
        for turn in runner:
            if is_streamed:
                list(turn)
    exact(ledger, "messages", CLAUDE, 2)


def test_each_turn_of_a_message_thread_is_an_entry(
    anthropic_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """The provider keeps what was said, so a later turn reserves as much as there can be of it."""
    thread = anthropic_client.beta.messages.thread(model=HAIKU, max_tokens=99)
    with budget("alice", 1, ledger=ledger):
        thread.send({"role": "user", "content": "Why?"})
        with thread.stream({"role": "user", "content": "Go on."}) as stream:
            stream.get_final_message()

        async def main() -> None:
            async with provider.async_anthropic() as client:
                thread = client.beta.messages.thread(model=HAIKU, max_tokens=99)
                await thread.send({"role": "user", "content": "Why?"})

        asyncio.run(main())
    exact(ledger, "messages", CLAUDE, 3)
    first, second, _ = ledger.entries
    assert first.reserved_usd is not None
    assert second.reserved_usd is not None
    assert first.reserved_usd < Decimal("0.01")
    assert second.reserved_usd > Decimal("0.2")  # 200,000 tokens at 1.00


def test_free_calls_are_not_recorded(openai_client: Any, anthropic_client: Any, ledger: CostLedger):
    """Counting, moderating and listing pass any limit and leave no entry."""
    with budget("alice", 0, ledger=ledger):
        anthropic_client.messages.count_tokens(model=HAIKU, messages=ASK)
        anthropic_client.beta.messages.count_tokens(model=HAIKU, messages=ASK)
        openai_client.responses.input_tokens.count(model="gpt-4o-mini", input="Hi")
        openai_client.moderations.create(input="Hi")
        list(openai_client.models.list())
    assert len(ledger.entries) == 0


def test_streams_of_sound_and_pictures_end_with_their_usage(openai_client: Any, ledger: CostLedger):
    """Images, transcripts and speech, each as events; speech only as raw bytes."""
    with budget("alice", ledger=ledger):
        list(
            openai_client.images.generate(
                model="gpt-image-1", prompt="A cat", stream=True, partial_images=2
            )
        )
        list(
            openai_client.audio.transcriptions.create(
                model="gpt-4o-transcribe", file=("a.wav", b"RIFF"), stream=True
            )
        )
        with openai_client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="alloy", input="Hi", stream_format="sse"
        ) as response:
            response.read()
    images, transcript, speech = ledger.entries
    assert (images.operation, images.usage.image_output_tokens) == ("images", 20)
    assert (transcript.operation, transcript.usage.audio_input_tokens) == ("transcriptions", 100)
    assert (speech.operation, speech.completion_tokens) == ("speech", 20)
    assert {(e.status, e.grade) for e in ledger.entries} == {("ok", "reported")}


# Platforms


def test_azure_prices_by_the_model_that_answers(provider: LoopbackProvider, ledger: CostLedger):
    """A deployment's name is no model; the first chunk without choices is not hidden."""
    provider.default = Reply(input_tokens=100, output_tokens=20, model="gpt-4o-mini-2024-07-18")
    client = openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21", max_retries=0
    )
    with client, budget("alice", ledger=ledger):
        client.chat.completions.create(model="my-deployment", messages=ASK)
        chunks = list(
            client.chat.completions.create(model="my-deployment", messages=ASK, stream=True)
        )
        client.responses.create(model="my-deployment", input="Hi")
    assert chunks[0].choices == []
    assert [e.cost_usd for e in ledger.entries] == [GPT] * 3
    assert {e.request_model for e in ledger.entries} == {"my-deployment"}


def test_bedrock_is_seen_also_where_it_copies_create(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Its beta resource holds a function captured at import."""
    pytest.importorskip("botocore")
    client = anthropic.AnthropicBedrock(
        base_url=provider.url,
        aws_region="eu-west-1",
        aws_access_key="a",
        aws_secret_key="s",
        max_retries=0,
    )
    model = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    arguments: Any = {"model": model, "max_tokens": 99, "messages": ASK}
    with client, budget("alice", 1, ledger=ledger):
        client.messages.create(**arguments)
        client.beta.messages.create(**arguments)
        with client.messages.stream(**arguments) as stream:
            stream.get_final_message()
    exact(ledger, "messages", CLAUDE, 3)


def test_vertex_is_seen_also_where_it_copies_create(provider: LoopbackProvider, ledger: CostLedger):
    """The same on Vertex, whose beta resource is one of its own too."""
    pytest.importorskip("google.auth")
    client = anthropic.AnthropicVertex(
        base_url=f"{provider.url}/v1",
        region="eu",
        project_id="p",
        access_token="t",
        max_retries=0,
    )
    arguments: Any = {"model": "claude-haiku-4-5@20251001", "max_tokens": 99, "messages": ASK}
    with client, budget("alice", 1, ledger=ledger):
        client.messages.create(**arguments)
        client.beta.messages.create(**arguments)
        with client.messages.stream(**arguments) as stream:
            stream.get_final_message()
    exact(ledger, "messages", CLAUDE, 3)


def test_foundry_is_counted_once(provider: LoopbackProvider, ledger: CostLedger):
    """Its resources are subclasses: no wrapper fires twice."""
    client = anthropic.AnthropicFoundry(
        base_url=f"{provider.url}/anthropic/", api_key="k", max_retries=0
    )
    with client, budget("alice", 1, ledger=ledger):
        client.messages.create(model=HAIKU, max_tokens=99, messages=ASK)
        client.beta.messages.create(model=HAIKU, max_tokens=99, messages=ASK)
    exact(ledger, "messages", CLAUDE, 2)


def test_the_module_level_client_is_seen(
    provider: LoopbackProvider, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """`openai.chat...` without a client of one's own."""
    monkeypatch.setattr(openai, "base_url", f"{provider.openai_url}/")
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "_client", None)
    with budget("alice", 1, ledger=ledger):
        openai.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    openai._client.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(openai, "_client", None)
    exact(ledger, "chat", GPT)


def test_a_post_by_hand_is_seen(openai_client: Any, ledger: CostLedger):
    """`client.post`, whatever it is told to return."""
    import httpx2

    body = {"model": "gpt-4o-mini", "messages": ASK}
    with budget("alice", 1, ledger=ledger):
        openai_client.post("/chat/completions", cast_to=object, body=body)
        openai_client.post("chat/completions", cast_to=httpx2.Response, body=body)
        absolute = f"{openai_client.base_url}chat/completions"
        openai_client.post(absolute, cast_to=object, body=body)
    exact(ledger, "chat", GPT, 3)


def test_what_is_not_understood_warns_once(
    openai_client: Any, anthropic_client: Any, ledger: CostLedger
):
    """Billable calls without a rule are in no total, and that is said, at the caller's line."""
    with budget("alice", 1, ledger=ledger):
        with (
            pytest.warns(UncoveredCallWarning, match="/fine_tuning/jobs") as told,
            pytest.raises(openai.NotFoundError),
        ):
            openai_client.fine_tuning.jobs.create(model="m", training_file="f")
        with pytest.raises(openai.NotFoundError):
            openai_client.fine_tuning.jobs.create(model="m", training_file="f")
        with (
            pytest.warns(UncoveredCallWarning, match="/rerank"),
            pytest.raises(openai.NotFoundError),
        ):
            openai_client.post("/rerank", cast_to=object, body={})
    assert told[0].filename == __file__
    assert len(ledger.entries) == 0

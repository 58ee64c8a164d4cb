"""Embeddings, moderations, decisions, images, audio, videos through OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

SOUND: Any = ("speech.wav", b"RIFF" * 100)


def bill_of(provider: LoopbackProvider) -> Usage:
    """What the last request was billed."""
    billed = provider.requests[-1].billed
    assert billed is not None
    return billed.usage


def test_embeddings_as_base64_and_as_floats(provider: LoopbackProvider) -> None:
    """Both encodings hold the same vector, which follows from the text."""
    client = provider.openai()

    one = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    floats = client.embeddings.create(
        model="text-embedding-3-small", input="a", encoding_format="float"
    )
    sized = client.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3], dimensions=4)

    assert one.data[0].embedding == floats.data[0].embedding
    assert one.data[0].embedding != one.data[1].embedding
    assert len(sized.data[0].embedding) == 4
    assert sized.usage.prompt_tokens == 3
    assert bill_of(provider) == Usage(input_tokens=3)


def test_async_embeddings(provider: LoopbackProvider) -> None:
    """The asynchronous client gets embeddings too."""

    async def embed() -> int:
        async with provider.async_openai() as client:
            result = await client.embeddings.create(
                model="text-embedding-3-small", input="abcdefgh"
            )
            return int(result.usage.prompt_tokens)

    assert asyncio.run(embed()) == 2


def test_moderations_and_models_are_free(provider: LoopbackProvider) -> None:
    """They answer, use no queued reply and bill nothing."""
    provider.reply(status=500)
    client = provider.openai()

    assert client.moderations.create(input=["a", "b"]).results[1].flagged is False
    assert client.models.list().data
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    assert next(iter(provider.anthropic().models.list())).type == "model"
    assert provider.billed_tokens == 0
    assert provider.queued == 1


def test_decisions(provider: LoopbackProvider) -> None:
    """Every kind of question gets its kind of answer, and usage."""
    questions: Any = [
        {"type": "predicate", "instructions": "Is it?"},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
        {"type": "score", "instructions": "How much?", "levels": [{"label": "low"}]},
    ]

    decision = provider.openai().decisions.create(model="gpt-6", input="Hi", questions=questions)

    assert [answer.type for answer in decision.answers] == ["predicate", "choice", "score"]
    assert decision.usage.output_tokens == bill_of(provider).output_tokens == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_images_by_token_and_by_piece(provider: LoopbackProvider) -> None:
    """gpt-image models report tokens; dall-e is billed by the image and reports nothing."""
    client = provider.openai()

    drawn = client.images.generate(model="gpt-image-1", prompt="abcd", n=2)
    assert (drawn.usage.input_tokens, drawn.usage.output_tokens) == (1, 40)
    assert drawn.usage.input_tokens_details.text_tokens == 1
    assert bill_of(provider) == Usage(1, 40, image_output_tokens=40)

    old = client.images.generate(model="dall-e-3", prompt="abcd")
    assert old.usage is None
    assert bill_of(provider) == Usage(images=1)

    assert client.images.create_variation(image=b"png", n=3).usage is None
    assert bill_of(provider) == Usage(images=3)


def test_images_stream(provider: LoopbackProvider) -> None:
    """Partial images come first, the completed event carries the usage."""
    client = provider.openai()

    stream = client.images.generate(
        model="gpt-image-1", prompt="abcd", stream=True, partial_images=2
    )
    edits = client.images.edit(model="gpt-image-1", prompt="abcd", image=b"png", stream=True)

    events = list(stream)
    assert [event.type.split(".")[1] for event in events] == ["partial_image"] * 2 + ["completed"]
    assert events[-1].usage.output_tokens == 20
    assert [event.type for event in edits] == ["image_edit.completed"]


def test_speech_is_bytes_billed_by_characters_or_tokens(provider: LoopbackProvider) -> None:
    """Nothing in the answer tells the bill."""
    client = provider.openai()

    sound = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    assert sound.read().startswith(b"ID3")
    assert bill_of(provider) == Usage(characters=5)

    client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello")
    assert bill_of(provider) == Usage(2, 20, audio_output_tokens=20)

    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Hello", stream_format="sse"
    ) as response:
        lines = list(response.iter_lines())
    assert "event: speech.audio.done" in lines


def test_transcriptions_by_token_and_by_second(provider: LoopbackProvider) -> None:
    """Each model has its own kind of usage; a text answer has none, and is billed too."""
    client = provider.openai()

    tokens = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND)
    assert tokens.usage.type == "tokens"
    assert tokens.usage.input_token_details.audio_tokens == 100
    assert bill_of(provider) == Usage(100, 20, audio_input_tokens=100)
    assert provider.requests[-1].files[0].content == SOUND[1]

    provider.reply(seconds=7)
    seconds = client.audio.transcriptions.create(model="whisper-1", file=SOUND)
    assert (seconds.usage.type, seconds.usage.seconds) == ("duration", 7)
    assert bill_of(provider) == Usage(seconds=7)

    provider.reply(text="Hello.")
    text: Any = client.audio.transcriptions.create(
        model="whisper-1", file=SOUND, response_format="text"
    )
    assert text == "Hello.\n"
    assert bill_of(provider) == Usage(seconds=10)


def test_transcription_stream(provider: LoopbackProvider) -> None:
    """Deltas, then a done event with the usage."""
    provider.reply(text="Hello there")

    *deltas, done = provider.openai().audio.transcriptions.create(
        model="gpt-4o-transcribe", file=SOUND, stream=True
    )

    assert "".join(event.delta for event in deltas) == done.text == "Hello there"
    assert done.usage.output_tokens == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_translations_do_not_tell_their_length(provider: LoopbackProvider) -> None:
    """They are billed by the second, without a word of it in the answer."""
    translation = provider.openai().audio.translations.create(model="whisper-1", file=SOUND)

    assert translation.text.startswith("yes")
    assert bill_of(provider) == Usage(seconds=10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_videos_are_polled(provider: LoopbackProvider) -> None:
    """A video is queued, then made, then downloaded; its seconds are billed at creation."""
    provider.reply(polls=1)
    client = provider.openai()

    video = client.videos.create(prompt="waves", seconds="8", model="sora-2-pro")
    assert bill_of(provider) == Usage(seconds=8)
    states = [video.status, *(client.videos.retrieve(video.id).status for _ in range(2))]
    remix = client.videos.remix(video.id, prompt="bigger waves")

    assert states == ["queued", "in_progress", "completed"]
    assert client.videos.download_content(video.id).read()
    assert (remix.remixed_from_video_id, remix.model) == (video.id, "sora-2")


@pytest.mark.parametrize("text", ["", "x" * 1000])
def test_image_edits_are_multipart(provider: LoopbackProvider, text: str) -> None:
    """Fields of a form are read as the JSON of others is."""
    drawn = provider.openai().images.edit(
        model="gpt-image-1", prompt=text, image=[b"one", b"two"], n=1
    )

    assert base64.b64decode(drawn.data[0].b64_json).startswith(b"\x89PNG")
    assert drawn.usage.input_tokens == max(1, len(text) // 4)
    assert [upload.content for upload in provider.requests[-1].files] == [b"one", b"two"]


def test_default_reply_applies_to_every_model_call(provider: LoopbackProvider) -> None:
    """The default answers all routes that a model answers."""
    provider.default = Reply(output_tokens=3)
    client = provider.openai()

    client.images.generate(model="gpt-image-1", prompt="abcd")
    assert bill_of(provider).output_tokens == 3
    client.responses.create(model="gpt-4o", input="abcd")
    assert bill_of(provider).output_tokens == 3

"""OpenAI's images, audio and videos."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from typing import Any

from costtrace.testing.answer import (
    Answer,
    Call,
    Frame,
    json_answer,
    merged,
    named_event,
    stream_answer,
    with_usage,
)
from costtrace.testing.generation import Generation, generate
from costtrace.testing.openai_chat import ERROR_FRAME, PROVIDER
from costtrace.usage import Usage

AUDIO = b"ID3loopback" * 32
VIDEO = b"\x00\x00\x00\x18ftypmp42" * 8
AUDIO_TOKENS_PER_SECOND = 10
_IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\nloopback").decode()
_PLAIN_FORMATS = {"text": "yes", "srt": "1\n00:00:00,000 --> 00:00:01,000\n", "vtt": "WEBVTT\n\n"}


def generate_image(call: Call) -> Answer:
    """POST /images/generations."""
    return _images(call, "image_generation")


def edit_image(call: Call) -> Answer:
    """POST /images/edits."""
    return _images(call, "image_edit")


def vary_image(call: Call) -> Answer:
    """POST /images/variations."""
    return _images(call, "image_variation")


def speak(call: Call) -> Answer:
    """POST /audio/speech: the model of old is billed by characters, the others by tokens."""
    call.require("input")
    generation = generate(call.reply, call.input_tokens)
    spoken = generation.usage
    if call.model.startswith("tts-"):
        return Answer(
            AUDIO,
            content_type="audio/mpeg",
            billed=call.billed(PROVIDER, Usage(characters=len(call.body["input"]))),
        )
    usage = _with_parts(call, spoken, audio_output_tokens=spoken.output_tokens)
    if call.body.get("stream_format") == "sse":
        raw = call.usage_object(_totals(usage))
        billed = call.billed(PROVIDER, usage, raw)
        return stream_answer(tuple(_speech_frames(usage, raw)), ERROR_FRAME, billed)
    return Answer(AUDIO, content_type="audio/mpeg", billed=call.billed(PROVIDER, usage))


def transcribe(call: Call) -> Answer:
    """POST /audio/transcriptions: billed by the second (whisper-1) or by tokens."""
    heard = AUDIO_TOKENS_PER_SECOND * call.reply.seconds
    asked = call.reply.input_tokens
    generation = generate(call.reply, heard + call.input_tokens - 1 if asked is None else asked)
    form = call.body.get("response_format") or "json"
    if call.model.startswith("whisper") or form not in ("json", "diarized_json"):
        usage = Usage(seconds=call.reply.seconds)
        raw = call.usage_object({"type": "duration", "seconds": call.reply.seconds})
    else:
        usage = _with_parts(call, generation.usage, audio_input_tokens=heard)
        raw = call.usage_object({"type": "tokens", **_totals(usage), **_audio_details(usage)})
    billed = call.billed(PROVIDER, usage, raw)
    if form in _PLAIN_FORMATS:
        text = _PLAIN_FORMATS[form] if call.reply.text is None else call.reply.text
        return Answer(f"{text}\n".encode(), content_type="text/plain", billed=billed)
    if call.is_streamed:
        frames = tuple(_transcript_frames(generation, raw))
        return stream_answer(frames, ERROR_FRAME, billed)
    answer: dict[str, Any] = {"text": generation.text}
    if form == "verbose_json":
        answer |= {"language": "english", "duration": float(call.reply.seconds), "segments": []}
    return json_answer(merged(with_usage(answer, raw), call.reply.extra), billed)


def translate(call: Call) -> Answer:
    """POST /audio/translations: billed by the second, and the answer does not say how many."""
    billed = call.billed(PROVIDER, Usage(seconds=call.reply.seconds))
    text = generate(call.reply, 0).text
    if (form := call.body.get("response_format")) in _PLAIN_FORMATS:
        return Answer(f"{text}\n".encode(), content_type="text/plain", billed=billed)
    answer: dict[str, Any] = {"text": text}
    if form == "verbose_json":
        answer |= {"language": "english", "duration": float(call.reply.seconds), "segments": []}
    return json_answer(merged(answer, call.reply.extra), billed)


def create_video(call: Call) -> Answer:
    """POST /videos, and its edits, extensions and remixes: billed by the second of video."""
    call = call.with_default_model("sora-2")
    seconds = int(call.body.get("seconds") or 4)
    key = call.stored.new_id("video_")
    video = {
        "id": key,
        "object": "video",
        "created_at": int(time.time()),
        "model": call.model,
        "prompt": call.body.get("prompt"),
        "seconds": str(seconds),
        "size": call.body.get("size") or "720x1280",
        "remixed_from_video_id": call.values.get("id"),
        "error": None,
    }
    call.stored.put(key, video)
    call.stored.put(f"polls:{key}", call.reply.polls)
    queued = {**video, "status": "queued", "progress": 0}
    return json_answer(queued, call.billed(PROVIDER, Usage(seconds=seconds)))


def retrieve_video(call: Call) -> Answer:
    """GET /videos/{id}."""
    key = call.values["id"]
    video = call.stored.get(key)
    if not call.stored.poll(key):
        return json_answer({**video, "status": "in_progress", "progress": 50})
    done = {"status": "completed", "progress": 100, "completed_at": int(time.time())}
    return json_answer({**video, **done})


def video_content(call: Call) -> Answer:
    """GET /videos/{id}/content."""
    call.stored.get(call.values["id"])
    return Answer(VIDEO, content_type="video/mp4")


def _images(call: Call, kind: str) -> Answer:
    call = call.with_default_model("dall-e-2")
    count = int(call.body.get("n") or 1)
    generation = generate(call.reply, call.input_tokens, choices=count)
    look = {
        "size": call.body.get("size") or "1024x1024",
        "quality": call.body.get("quality") or "low",
        "background": "opaque",
        "output_format": "png",
    }
    if call.model.startswith("dall-e"):
        data = [{"url": f"https://images.invalid/{number}.png"} for number in range(count)]
        billed = call.billed(PROVIDER, Usage(images=count))
        return json_answer({"created": int(time.time()), "data": data}, billed)
    drawn = generation.usage.output_tokens
    usage = _with_parts(call, generation.usage, image_output_tokens=drawn)
    raw = call.usage_object(_image_words(usage, is_streamed=call.is_streamed))
    billed = call.billed(PROVIDER, usage, raw)
    if call.is_streamed:
        return stream_answer(
            tuple(_image_frames(call, kind, look, raw, usage)), ERROR_FRAME, billed
        )
    answer = {"created": int(time.time()), **look, "data": [{"b64_json": _IMAGE}] * count}
    return json_answer(merged(with_usage(answer, raw), call.reply.extra), billed)


def _image_frames(
    call: Call, kind: str, look: Mapping[str, Any], raw: Any, usage: Usage
) -> Iterator[Frame]:
    common = {"b64_json": _IMAGE, "created_at": int(time.time()), **look}
    steps = int(call.body.get("partial_images") or 0)
    for index in range(steps):
        event = {"type": f"{kind}.partial_image", **common, "partial_image_index": index}
        yield Frame(named_event(event), usage.output_tokens * (index + 1) // (steps + 1))
    done = with_usage({"type": f"{kind}.completed", **common}, raw)
    yield Frame(named_event(done), usage.output_tokens)


def _speech_frames(usage: Usage, raw: Any) -> Iterator[Frame]:
    audio = base64.b64encode(AUDIO).decode()
    yield Frame(named_event({"type": "speech.audio.delta", "audio": audio}), usage.output_tokens)
    done = with_usage({"type": "speech.audio.done"}, raw)
    yield Frame(named_event(done), usage.output_tokens)


def _transcript_frames(generation: Generation, raw: Any) -> Iterator[Frame]:
    pieces = generation.pieces
    for position, piece in enumerate(pieces, start=1):
        event = {"type": "transcript.text.delta", "delta": piece}
        yield Frame(named_event(event), generation.tokens_after(position / len(pieces)))
    done = with_usage({"type": "transcript.text.done", "text": generation.text}, raw)
    yield Frame(named_event(done), generation.usage.output_tokens)


def _with_parts(call: Call, usage: Usage, **parts: int) -> Usage:
    """`usage` with its image or audio parts; one that the reply spells out has its own."""
    if isinstance(call.reply.usage, Usage):
        return usage
    return usage + Usage(**parts)


def _totals(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _audio_details(usage: Usage) -> dict[str, Any]:
    audio = usage.audio_input_tokens
    details = {"audio_tokens": audio, "text_tokens": usage.input_tokens - audio}
    return {"input_token_details": details}  # "token" without s: so it is here


def _image_words(usage: Usage, *, is_streamed: bool) -> dict[str, Any]:
    seen, drawn = usage.image_input_tokens, usage.image_output_tokens
    words = _totals(usage)
    words["input_tokens_details"] = {"image_tokens": seen, "text_tokens": usage.input_tokens - seen}
    if not is_streamed:
        text = usage.output_tokens - drawn
        words["output_tokens_details"] = {"image_tokens": drawn, "text_tokens": text}
    return words

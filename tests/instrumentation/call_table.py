"""Each billable call of both SDKs, and each shape in which an answer can be asked for.

An action is written once as a coroutine. For a synchronous client nothing in it ever waits, so it
is run to its end in one step, without an event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
HUNDRED = Reply(input_tokens=100, output_tokens=20)
TOKENS = Usage(input_tokens=100, output_tokens=20)
GPT = "gpt-4o-mini"  # 0.15 and 0.60 USD per million
CLAUDE = "claude-haiku-4-5"  # 1 and 5
GPT_COST, CLAUDE_COST = Decimal("0.000027"), Decimal("0.0002")


def sound() -> Any:
    """A file as the SDKs take it."""
    return ("a.wav", io.BytesIO(b"RIFF" + b"\0" * 64))


def picture() -> Any:
    """An image as the SDKs take it."""
    return ("a.png", io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"\0" * 64))


@functools.cache
def city() -> type:
    """A schema for parsed answers."""
    import pydantic

    return pydantic.create_model("City", city=(str, ...))


@dataclass(frozen=True)
class CallCase:
    """One way to make a billable call, and what it must be entered as."""

    path: str
    """The method, from the client on: `chat.completions.create`."""
    arguments: Callable[[], dict[str, Any]]
    operation: str
    model: str
    cost: Decimal | None
    sdk: str = "openai"
    usage: Usage | None = TOKENS
    """None where the answer never tells it, so that it is counted here."""
    reply: Reply = HUNDRED
    is_sse: bool = False
    """Whether it also streams, with `stream=True`."""
    is_binary: bool = False
    variant: str = ""

    @property
    def name(self) -> str:
        return f"{self.path}{' ' if self.variant else ''}{self.variant}"


def _chat(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"model": GPT, "messages": ASK, **more}


def _claude(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"model": CLAUDE, "messages": ASK, "max_tokens": 99, **more}


def _responses(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"model": GPT, "input": "Hi", **more}


JSON_REPLY = Reply(input_tokens=100, output_tokens=20, text='{"city": "Oslo"}')
QUESTIONS = [{"type": "predicate", "name": "q", "predicate": "Is it?"}]

CALLS = (
    CallCase("chat.completions.create", _chat(), "chat", GPT, GPT_COST, is_sse=True),
    CallCase(
        "chat.completions.parse",
        lambda: {"model": GPT, "messages": ASK, "response_format": city()},
        "chat",
        GPT,
        GPT_COST,
        reply=JSON_REPLY,
    ),
    CallCase(
        "beta.chat.completions.parse",
        lambda: {"model": GPT, "messages": ASK, "response_format": city()},
        "chat",
        GPT,
        GPT_COST,
        reply=JSON_REPLY,
    ),
    CallCase("responses.create", _responses(), "responses", GPT, GPT_COST, is_sse=True),
    CallCase(
        "responses.parse",
        lambda: {"model": GPT, "input": "Hi", "text_format": city()},
        "responses",
        GPT,
        GPT_COST,
        reply=JSON_REPLY,
    ),
    CallCase("responses.compact", _responses(), "compact", GPT, GPT_COST),
    CallCase("beta.responses.create", _responses(), "responses", GPT, GPT_COST, is_sse=True),
    CallCase(
        "completions.create",
        lambda: {"model": "gpt-3.5-turbo-instruct", "prompt": "Hi", "max_tokens": 20},
        "completions",
        "gpt-3.5-turbo-instruct",
        Decimal("0.00019"),  # 1.50 and 2.00
        is_sse=True,
    ),
    CallCase(
        "decisions.create",
        lambda: {"model": GPT, "input": "Hi", "questions": QUESTIONS},
        "decisions",
        GPT,
        GPT_COST,
    ),
    CallCase(
        "embeddings.create",
        lambda: {"model": "text-embedding-3-small", "input": "Hi"},
        "embeddings",
        "text-embedding-3-small",
        Decimal("0.000002"),  # 0.02
        usage=Usage(input_tokens=100),
    ),
    CallCase(
        "images.generate",
        lambda: {"model": "gpt-image-1", "prompt": "A cat"},
        "images",
        "gpt-image-1",
        Decimal("0.0013"),  # 5 and 40
        usage=Usage(input_tokens=100, output_tokens=20, image_output_tokens=20),
    ),
    CallCase(
        "images.edit",
        lambda: {"model": "gpt-image-1", "prompt": "A cat", "image": picture()},
        "images",
        "gpt-image-1",
        Decimal("0.0013"),
        usage=Usage(input_tokens=100, output_tokens=20, image_output_tokens=20),
    ),
    CallCase(
        "images.create_variation",
        lambda: {"model": "dall-e-2", "image": picture(), "size": "1024x1024"},
        "images",
        "dall-e-2",
        None,  # in no price list any more
        usage=Usage(images=1),
    ),
    CallCase(
        "audio.speech.create",
        lambda: {"model": "tts-1", "voice": "alloy", "input": "Hello"},
        "speech",
        "tts-1",
        Decimal("0.000075"),  # 15 USD per million characters
        usage=Usage(characters=5),
        is_binary=True,
    ),
    CallCase(
        "audio.transcriptions.create",
        lambda: {"model": "whisper-1", "file": sound()},
        "transcriptions",
        "whisper-1",
        Decimal("0.001"),  # 0.006 a minute
        usage=Usage(seconds=10),
    ),
    CallCase(
        "audio.transcriptions.create",
        lambda: {"model": "gpt-4o-transcribe", "file": sound()},
        "transcriptions",
        "gpt-4o-transcribe",
        Decimal("0.00080"),  # 6 for audio, 10 for text
        usage=Usage(input_tokens=100, output_tokens=20, audio_input_tokens=100),
        variant="by tokens",
    ),
    CallCase(
        "audio.translations.create",
        lambda: {"model": "whisper-1", "file": sound(), "response_format": "verbose_json"},
        "translations",
        "whisper-1",
        Decimal("0.001"),
        usage=Usage(seconds=10),
    ),
    CallCase(
        "videos.create",
        lambda: {"model": "sora-2", "prompt": "A cat", "seconds": "4"},
        "videos",
        "sora-2",
        Decimal("0.4"),  # 0.10 a second
        usage=Usage(seconds=4),
    ),
    CallCase(
        "completions.create",
        lambda: {"model": "claude-2.1", "prompt": "Hi", "max_tokens_to_sample": 99},
        "completions",
        "claude-2.1",
        None,
        "anthropic",
        usage=None,
        is_sse=True,
        variant="of Anthropic",
    ),
    CallCase(
        "messages.create", _claude(), "messages", CLAUDE, CLAUDE_COST, "anthropic", is_sse=True
    ),
    CallCase(
        "messages.parse",
        lambda: {**_claude()(), "output_format": city()},
        "messages",
        CLAUDE,
        CLAUDE_COST,
        "anthropic",
        reply=JSON_REPLY,
    ),
    CallCase(
        "beta.messages.create",
        _claude(),
        "messages",
        CLAUDE,
        CLAUDE_COST,
        "anthropic",
        is_sse=True,
    ),
    CallCase(
        "beta.messages.parse",
        lambda: {**_claude()(), "output_format": city()},
        "messages",
        CLAUDE,
        CLAUDE_COST,
        "anthropic",
        reply=JSON_REPLY,
    ),
)


class Client:
    """An SDK client, synchronous or not, spoken to in one way."""

    def __init__(self, client: Any, *, is_async: bool) -> None:
        self.client = client
        self.is_async = is_async

    def method(self, path: str, accessor: str = "") -> Any:
        """Return a method by its path; with a raw accessor before its last name."""
        *resources, name = path.split(".")
        found = self.client
        for resource in resources:
            found = getattr(found, resource)
        return getattr(getattr(found, accessor) if accessor else found, name)


async def got(value: Any) -> Any:
    """Return a value, or what it will be."""
    return await value if inspect.isawaitable(value) else value


async def each(values: Any) -> AsyncIterator[Any]:
    """Iterate what is iterable in either way."""
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


class entered:  # noqa: N801 (used like a keyword)
    """Enter a context manager of either kind."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._is_async = hasattr(manager, "__aenter__")

    async def __aenter__(self) -> Any:
        if self._is_async:
            return await self._manager.__aenter__()
        return self._manager.__enter__()

    async def __aexit__(self, *error: Any) -> Any:
        if self._is_async:
            return await self._manager.__aexit__(*error)
        return self._manager.__exit__(*error)


def run(action: Coroutine[Any, Any, Any], *, is_async: bool) -> Any:
    """Run an action to its end, on an event loop only if it is asynchronous."""
    if is_async:
        return asyncio.run(action)
    try:
        action.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a synchronous client has waited")


# The shapes: each takes a client, makes the call and returns all that its caller can see of it.


async def plain(client: Client, case: CallCase) -> list[Any]:
    answer = await got(client.method(case.path)(**case.arguments()))
    if case.is_binary:
        return [type(answer), answer.content]
    return [seen(answer)]


async def stream(client: Client, case: CallCase) -> list[Any]:
    made = await got(client.method(case.path)(**case.arguments(), stream=True))
    chunks = [seen(chunk) async for chunk in each(made)]
    return [type(made), hasattr(made, "response"), chunks]


async def stream_in_with(client: Client, case: CallCase) -> list[Any]:
    made = await got(client.method(case.path)(**case.arguments(), stream=True))
    chunks = []
    async with entered(made) as inside:
        assert inside is made
        step = inside.__anext__ if client.is_async else inside.__next__
        chunks.append(seen(await got(step())))
        chunks += [seen(chunk) async for chunk in each(inside)]
    await got(made.close())
    return [type(made), made.response.status_code, chunks]


async def raw(client: Client, case: CallCase) -> list[Any]:
    answer = await got(client.method(case.path, "with_raw_response")(**case.arguments()))
    return [type(answer), answer.status_code, answer.http_response.status_code]


async def raw_parsed(client: Client, case: CallCase) -> list[Any]:
    answer = await got(client.method(case.path, "with_raw_response")(**case.arguments()))
    parsed = await got(answer.parse())
    again = await got(answer.parse())
    assert again is parsed or case.is_binary
    return [type(answer), parsed.content if case.is_binary else seen(parsed)]


async def raw_stream(client: Client, case: CallCase) -> list[Any]:
    method = client.method(case.path, "with_raw_response")
    answer = await got(method(**case.arguments(), stream=True))
    http = answer.http_response
    lines = http.aiter_lines() if client.is_async else http.iter_lines()
    return [type(answer), [seen(line) async for line in each(lines)]]


async def raw_stream_parsed(client: Client, case: CallCase) -> list[Any]:
    method = client.method(case.path, "with_raw_response")
    answer = await got(method(**case.arguments(), stream=True))
    made = await got(answer.parse())
    return [type(answer), type(made), [seen(chunk) async for chunk in each(made)]]


def _streaming(read: Callable[[Any, Client], Awaitable[Any]]) -> Any:
    async def streaming(client: Client, case: CallCase) -> list[Any]:
        method = client.method(case.path, "with_streaming_response")
        async with entered(method(**case.arguments())) as answer:
            return [type(answer), answer.status_code, await read(answer, client)]

    return streaming


async def _read_parsed(answer: Any, _: Client) -> Any:
    parsed = await got(answer.parse())
    return seen(parsed) if hasattr(parsed, "to_dict") else type(parsed)


async def _read_json(answer: Any, _: Client) -> Any:
    return seen(await got(answer.json()))


async def _read_bytes(answer: Any, _: Client) -> Any:
    return seen(await got(answer.read()))


async def _read_text(answer: Any, _: Client) -> Any:
    return seen(await got(answer.text()))


async def _read_chunks(answer: Any, _: Client) -> Any:
    return seen(b"".join([chunk async for chunk in each(answer.iter_bytes(7))]))


async def _read_lines(answer: Any, _: Client) -> Any:
    return [seen(line) async for line in each(answer.iter_lines())]


async def streaming_stream(client: Client, case: CallCase) -> list[Any]:
    method = client.method(case.path, "with_streaming_response")
    async with entered(method(**case.arguments(), stream=True)) as answer:
        made = await got(answer.parse())
        return [type(answer), type(made), [seen(chunk) async for chunk in each(made)]]


WHOLE_SHAPES: dict[str, Any] = {
    "plain": plain,
    "raw": raw,
    "raw, parsed": raw_parsed,
    "streaming .parse()": _streaming(_read_parsed),
    "streaming .read()": _streaming(_read_bytes),
    "streaming .iter_bytes()": _streaming(_read_chunks),
}
TEXT_SHAPES: dict[str, Any] = {
    "streaming .json()": _streaming(_read_json),
    "streaming .text()": _streaming(_read_text),
    "streaming .iter_lines()": _streaming(_read_lines),
}
STREAM_SHAPES: dict[str, Any] = {
    "stream": stream,
    "stream in with": stream_in_with,
}
RAW_STREAM_SHAPES: dict[str, Any] = {
    "raw stream": raw_stream,
    "raw stream, parsed": raw_stream_parsed,
    "streaming stream, parsed": streaming_stream,
}
SHAPES = {**WHOLE_SHAPES, **TEXT_SHAPES, **STREAM_SHAPES, **RAW_STREAM_SHAPES}


def cells() -> list[tuple[CallCase, str]]:
    """Return every call in every shape that it has."""
    found = []
    for case in CALLS:
        shapes = list(WHOLE_SHAPES) + ([] if case.is_binary else list(TEXT_SHAPES))
        if case.is_sse:
            shapes += [*STREAM_SHAPES, *RAW_STREAM_SHAPES]
        found += [(case, shape) for shape in shapes]
    return found


def is_counted_here(case: CallCase, shape: str) -> bool:
    """Whether an answer has no usage: a raw stream must not be asked, and some never tell it."""
    return case.usage is None or (
        shape in RAW_STREAM_SHAPES and case.operation in ("chat", "completions")
    )


_ID = re.compile(r"(chatcmpl-|cmpl-|resp_|msg_|rs_|run_|thread_|batch_|video_|cmp_|compl_)\w+")
_TIME = re.compile(r"\b(created|created_at|completed_at|expires_at)(\W+)\d+(\.0)?")


def seen(value: Any) -> Any:
    """Return what a caller sees of a value, without what differs from call to call."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return _TIME.sub(r"\1\2T", _ID.sub(r"\1ID", value))
    if hasattr(value, "to_dict"):
        return (type(value), seen(repr(value)), seen(repr(value.to_dict())))
    return (type(value), seen(repr(value)))


@dataclass(frozen=True)
class Pair:
    """The clients of one run, made as needed."""

    provider: LoopbackProvider
    is_async: bool
    options: dict[str, Any] = field(default_factory=dict)

    def client(self, sdk: str) -> Client:
        make = getattr(self.provider, f"async_{sdk}" if self.is_async else sdk)
        return Client(make(max_retries=0, **self.options), is_async=self.is_async)


def supports(pair_client: Client, path: str, accessor: str = "") -> bool:
    """Whether the installed SDK has a method at all."""
    try:
        pair_client.method(path, accessor)
    except AttributeError:
        return False
    return True

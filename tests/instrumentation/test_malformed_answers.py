"""Many answers that no provider should send: the caller gets what it gets without us."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from call_table import Pair, each, got, run

from costtrace import CostLedger, budget
from costtrace.instrumentation import faults
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    1.5,
    -0.0,
    1e308,
    10**30,
    "",
    "x",
    "12",
    "1e9999",
    "\ud800",
    "a\x00b",
    [],
    [None],
    [[]],
    {},
    {"a": 1},
    {"input_tokens": 5},
    {"prompt_tokens": "many"},
)
USAGE_FIELDS = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cost",
    "seconds",
    "type",
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "server_tool_use",
    "service_tier",
    "iterations",
    "inference_geo",
    "speed",
]
DETAILS = [
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "image_tokens",
    "web_search_requests",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "cache_write_tokens_details",
    "model",
]


def junk(chance: random.Random, depth: int = 0) -> Any:
    """Return a value of any kind."""
    if depth < 2 and chance.random() < 0.3:
        names = chance.sample(DETAILS, chance.randrange(4))
        return {name: junk(chance, depth + 1) for name in names}
    return chance.choice(JUNK)


def usage(chance: random.Random) -> Any:
    """Return something that stands where usage should."""
    if chance.random() < 0.3:
        return junk(chance)
    return {name: junk(chance) for name in chance.sample(USAGE_FIELDS, chance.randrange(9))}


def mangled(chance: random.Random, value: Any) -> Any:
    """Return a JSON value of which some part is replaced, dropped or doubled."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(list(value))
        if chance.random() < 0.2:
            return {key: part for key, part in value.items() if key != name}
        return {**value, name: mangled(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        return [*value[:-1], mangled(chance, value[-1]), *chance.sample(value, 1)]
    return junk(chance)


def mangling(seed: int) -> Callable[[bytes], bytes]:
    """Return what spoils an answer, or each event of a stream, in the same way each time."""

    def spoil(data: bytes) -> bytes:
        data = re.sub(rb'"((?:chatcmpl-|resp_|msg_)\w+)"|\b1\d{9}\b', b"1", data)
        data = data.replace(b',"usage":null', b"")
        if b'"choices":[],' in data:
            return data  # the chunk that is there only because we asked for it
        chance = random.Random(f"{seed} {data!r}")
        if chance.random() < 0.3:
            return data
        if chance.random() < 0.15:
            cut = chance.randrange(len(data) + 1)
            return data[:cut] + b"\n\n"
        head, mark, body = data.rpartition(b"data: ")
        try:
            value = json.loads(body)
        except ValueError:
            return data
        if isinstance(value, dict) and chance.random() < 0.6:
            value["usage"] = usage(chance)
            if value["usage"] is None:
                del value["usage"]  # a stream that is asked for usage says null where it has none
        else:
            value = mangled(chance, value)
        return head + mark + json.dumps(value).encode() + b"\n\n"

    return spoil


async def read(call: Callable[[], Any], is_stream: bool) -> list[Any]:
    """Return all that the caller of a call can see."""
    seen: list[Any] = []
    try:
        answer = await got(call())
        if is_stream:
            async for event in each(answer):
                seen.append(shape(event))
        else:
            seen.append(shape(answer))
    except Exception as error:
        seen.append((type(error), str(error)))
    return seen


def shape(value: Any) -> Any:
    if not hasattr(value, "__pydantic_fields_set__"):
        return (type(value), repr(value))
    return (type(value), sorted(value.model_fields_set), repr(value))


CALLS: dict[str, Callable[[Any, Any, bool], Any]] = {
    "chat": lambda c, a, s: c.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=s),
    "responses": lambda c, a, s: c.responses.create(model="gpt-4o-mini", input="Hi", stream=s),
    "messages": lambda c, a, s: a.messages.create(
        model="claude-haiku-4-5", messages=ASK, max_tokens=9, stream=s
    ),
    "embeddings": lambda c, a, s: c.embeddings.create(model="text-embedding-3-small", input="Hi"),
    "images": lambda c, a, s: c.images.generate(model="gpt-image-1", prompt="x"),
}


EACH = int(os.environ.get("COSTTRACE_TEST_ANSWERS", "100"))
"""Bodies of each of the cases, sync and async."""
CASES = [(name, is_stream) for name in CALLS for is_stream in (False, True)]
CASES.remove(("embeddings", True))
CASES.remove(("images", True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "is_stream"), CASES)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_malformed_answers_are_the_same_with_and_without_us(
    name: str, is_stream: bool, is_async: bool, provider: LoopbackProvider
):
    """Value, chunks, error: all the same; each call is an entry that the ledger can keep."""
    pair = Pair(provider, is_async)
    openai, anthropic = pair.client("openai").client, pair.client("anthropic").client

    def call() -> Any:
        return CALLS[name](openai, anthropic, is_stream)

    async def main(ledger: CostLedger) -> None:
        for seed in range(EACH):
            spoil = mangling(seed + EACH * is_async)
            reply = Reply(input_tokens=100, output_tokens=5, transform=spoil)
            provider.queue(reply, reply)
            without = await read(call, is_stream)
            with budget("alice", 10_000, ledger=ledger) as b:
                assert await read(call, is_stream) == without, seed
                assert b.reserved_usd == 0 or is_stream
        await got(openai.close())
        await got(anthropic.close())

    before = faults()
    with CostLedger() as ledger:
        run(main(ledger), is_async=is_async)
        assert len([e for e in ledger.entries if e.adjusts is None]) == EACH
        assert ledger.flush()
        assert ledger.verify() == []
    assert faults() == before

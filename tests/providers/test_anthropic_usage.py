"""What Anthropic's usage objects mean: caches beside the input, running totals in streams."""

from __future__ import annotations

from typing import Any

import pytest

from costtrace.providers import Anthropic, Part, Reading, Request
from costtrace.usage import Usage

SDK = Anthropic()


def request(path: str = "/v1/messages", **body: Any) -> Request:
    found = SDK.request(path, {"model": "claude-opus-4-8", "max_tokens": 5, **body})
    assert isinstance(found, Request)
    return found


def read(usage: Any, **answer: Any) -> Reading:
    return SDK.read(request(), {"usage": usage, "model": "claude-opus-4-8", **answer})


def streamed(*events: dict[str, Any]) -> Reading:
    reader = SDK.reader(request(stream=True), hide_usage=False)
    for event in events:
        assert reader.see(event) is False
    return reader.reading()


def start(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {"model": "claude-opus-4-8", "usage": usage}}


def delta(**usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "usage": usage}


def test_caches_are_beside_the_input():
    """Everything sent is input, reads and writes; the split is inside the writes."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 40},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 5},
    }
    assert read(usage).usage == Usage(
        input_tokens=1310,
        output_tokens=50,
        cache_read_tokens=1000,
        cache_write_tokens=300,
        cache_write_5m_tokens=100,
        cache_write_1h_tokens=200,
        reasoning_tokens=40,
        web_search_calls=2,
    )


def test_writes_without_a_split_live_five_minutes():
    """As before there was a split."""
    usage = read({"input_tokens": 1, "cache_creation_input_tokens": 30}).usage
    assert usage == Usage(input_tokens=31, cache_write_tokens=30, cache_write_5m_tokens=30)


def test_deltas_are_running_totals():
    """Each overwrites what came before; what it leaves out stays."""
    reading = streamed(
        start(
            input_tokens=100,
            cache_read_input_tokens=7,
            cache_creation_input_tokens=30,
            cache_creation={"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 10},
            output_tokens=8,
            service_tier="standard",
        ),
        delta(output_tokens=10),
        delta(output_tokens=25, input_tokens=100),
        {"type": "message_stop"},
    )
    assert reading.is_complete
    assert reading.usage == Usage(
        input_tokens=137,
        output_tokens=25,
        cache_read_tokens=7,
        cache_write_tokens=30,
        cache_write_5m_tokens=10,
        cache_write_1h_tokens=20,
    )


def test_a_final_count_below_the_placeholder_counts():
    """`message_start` only guesses the output."""
    usage = streamed(start(input_tokens=1, output_tokens=8), delta(output_tokens=2)).usage
    assert usage == Usage(input_tokens=1, output_tokens=2)


@pytest.mark.parametrize(("first", "last"), [(0, 90), (90, 0), (90, None), (None, 90), (90, 90)])
def test_gateways_tell_the_input_at_either_end(first: int | None, last: int | None):
    """Zero is a placeholder there, at the start as at the end."""
    usage = streamed(start(input_tokens=first), delta(output_tokens=5, input_tokens=last)).usage
    assert usage == Usage(input_tokens=90, output_tokens=5)


def test_a_later_total_of_writes_wins_over_the_earlier_split():
    """What is beyond the split lives five minutes."""
    usage = streamed(
        start(
            input_tokens=0,
            cache_creation_input_tokens=30,
            cache_creation={"ephemeral_1h_input_tokens": 30},
        ),
        delta(output_tokens=1, cache_creation_input_tokens=50),
    ).usage
    assert usage is not None
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (50, 30)
    assert usage.cache_write_5m_tokens == 20


def test_a_compaction_is_not_inside_the_totals():
    """Messages of a tool loop are; an advisor runs on a model of its own."""
    usage = {
        "input_tokens": 300,
        "output_tokens": 30,
        "iterations": [
            {"type": "message", "input_tokens": 100, "output_tokens": 10},
            {"type": "message", "input_tokens": 200, "output_tokens": 20},
            {"type": "compaction", "input_tokens": 1000, "output_tokens": 50},
            {
                "type": "advisor_message",
                "model": "claude-opus-4-6",
                "input_tokens": 5,
                "output_tokens": 6,
            },
        ],
    }
    reading = read(usage)
    assert reading.usage == Usage(input_tokens=1300, output_tokens=80)
    assert reading.parts == (Part("claude-opus-4-6", Usage(input_tokens=5, output_tokens=6)),)


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_model_that_declined_is_billed_at_its_own_price(is_inside: bool):
    """Whether the totals are those of the whole chain or of the hop that served."""
    hops = [
        {"type": "message", "model": "claude-opus-4-8", "input_tokens": 100, "output_tokens": 3},
        {
            "type": "fallback_message",
            "model": "claude-sonnet-4-6",
            "input_tokens": 110,
            "output_tokens": 40,
        },
    ]
    totals = (210, 43) if is_inside else (110, 40)
    usage = {"input_tokens": totals[0], "output_tokens": totals[1], "iterations": hops}
    reading = read(usage, model="claude-sonnet-4-6-20260101")
    assert reading.usage == Usage(input_tokens=110, output_tokens=40)
    assert reading.parts == (Part("claude-opus-4-8", Usage(input_tokens=100, output_tokens=3)),)


def test_a_fallback_in_a_stream_changes_the_model():
    """The block at the seam names who goes on."""
    block = {"type": "fallback", "to": {"model": "claude-sonnet-4-6"}}
    reading = streamed(
        start(input_tokens=10),
        {"type": "content_block_start", "content_block": block},
        delta(output_tokens=5),
    )
    assert reading.model == "claude-sonnet-4-6"


def test_speed_tier_and_place_come_from_the_usage():
    """What served the call, not what was asked for."""
    reading = read({"input_tokens": 1, "speed": "fast", "inference_geo": "us"})
    assert (reading.tier, reading.region) == ("fast", "us")
    assert read({"input_tokens": 1, "service_tier": "batch"}).tier == "batch"
    assert read({"input_tokens": 1, "service_tier": "priority"}).tier == "standard"


def test_a_text_completion_is_counted_from_its_text():
    """It has never told its usage."""
    sent = request("/v1/complete", prompt="x", max_tokens_to_sample=9)
    assert SDK.read(sent, {"completion": " yes"}).text == " yes"
    reader = SDK.reader(sent, hide_usage=False)
    for piece in (" y", "es"):
        reader.see({"type": "completion", "completion": piece, "stop_reason": None})
    assert not reader.reading().is_complete
    reader.see({"type": "completion", "completion": "", "stop_reason": "stop_sequence"})
    assert (reader.reading().is_complete, reader.reading().text) == (True, " yes")


@pytest.mark.parametrize(
    "usage", [None, [], "x", {}, {"input_tokens": None}, {"output_tokens": "many"}, True]
)
def test_usage_that_says_nothing_is_unknown(usage: Any):
    """Unknown, never zero."""
    assert read(usage).usage is None
    assert streamed({"type": "message_start", "message": {"usage": usage}}).usage is None


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/v1/messages/count_tokens", "free"),
        ("/v1/messages/batches", "free"),
        ("/v1/files", "free"),
        ("/v1/sessions/s/archive", "free"),
        ("/v1/sessions", "uncovered"),
        ("/v1/sessions/s/events", "uncovered"),
        ("/v1/dreams", "uncovered"),
        ("/v1/something", "uncovered"),
    ],
)
def test_what_is_not_billed_is_told_from_what_is_not_understood(path: str, what: str):
    """Agents that run at the provider are billed, and not understood."""
    assert SDK.request(path, {}) == what


def test_sentinels_and_iterators_in_a_body_are_left_alone():
    """The SDK keeps unset values and one-shot iterators until it sends."""

    class Omit:
        pass

    messages = iter([{"role": "user", "content": "x"}])
    found = request(messages=messages, speed=Omit(), tools=Omit(), stream=Omit())
    assert (found.tier, found.is_stream, found.cache_lifetimes) == ("standard", False, None)
    assert len(list(messages)) == 1
    unset = request(messages=[], cache_control=Omit(), mcp_servers=Omit())
    assert (unset.cache_lifetimes, unset.has_hosted_tools) == ((), False)

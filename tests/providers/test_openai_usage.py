"""What OpenAI's usage objects mean: the details are parts, hosted tools come beside them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from costtrace.providers import OpenAI, Part, Reading, Request
from costtrace.usage import Usage

SDK = OpenAI()


def request(path: str = "/chat/completions", **body: Any) -> Request:
    found = SDK.request(path, {"model": "gpt-5", **body})
    assert isinstance(found, Request)
    return found


def read(usage: Any, path: str = "/chat/completions", **answer: Any) -> Reading:
    return SDK.read(request(path), {"usage": usage, **answer})


def test_chat_details_are_parts_of_the_totals():
    """Cached, written, audio, image and reasoning tokens are inside input and output."""
    usage = {
        "prompt_tokens": 18_014,
        "completion_tokens": 500,
        "prompt_tokens_details": {
            "cached_tokens": 3,
            "cache_write_tokens": 11,
            "audio_tokens": 5,
            "image_tokens": 7,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 400,
            "audio_tokens": 9,
            "rejected_prediction_tokens": 20,
        },
    }
    assert read(usage).usage == Usage(
        input_tokens=18_014,
        output_tokens=500,
        cache_read_tokens=3,
        cache_write_tokens=11,
        cache_write_30m_tokens=11,
        audio_input_tokens=5,
        image_input_tokens=7,
        reasoning_tokens=400,
        audio_output_tokens=9,
    )


def test_cache_writes_of_responses_are_split_by_lifetime():
    """Half an hour unless the split says twelve hours."""
    usage = {
        "input_tokens": 100,
        "output_tokens": 20,
        "input_tokens_details": {
            "cached_tokens": 10,
            "cache_write_tokens": 50,
            "cache_write_tokens_details": {"ttl_30m_tokens": 20, "ttl_12h_tokens": 30},
        },
        "output_tokens_details": {"reasoning_tokens": 15},
    }
    found = read(usage, "/responses").usage
    assert found is not None
    assert (found.cache_write_tokens, found.cache_write_30m_tokens) == (50, 20)
    assert (found.cache_write_12h_tokens, found.reasoning_tokens) == (30, 15)


def test_hosted_tools_come_beside_the_usage():
    """Searches are counted where they are told, else by the items; images at their own model."""
    usage = {"input_tokens": 100, "output_tokens": 20}
    items = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "file_search_call"},
    ]
    found = read(usage, "/responses", output=items).usage
    assert found == Usage(
        input_tokens=100, output_tokens=20, web_search_calls=1, file_search_calls=1
    )

    told = {
        "web_search": {"num_requests": 4},
        "image_gen": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
    }
    reading = read(usage, "/responses", output=items, tool_usage=told)
    assert reading.usage is not None
    assert reading.usage.web_search_calls == 4
    assert reading.parts == (Part("gpt-image-1", Usage(input_tokens=5, output_tokens=7)),)


def test_a_drawing_made_beside_an_image_is_another_models_work():
    """`svg_usage` is not inside `usage`."""
    drawing = {"model": "gpt-5-mini", "input_tokens": 3, "output_tokens": 4}
    reading = read(
        {"input_tokens": 1, "output_tokens": 2}, "/images/generations", svg_usage=drawing
    )
    assert reading.usage == Usage(input_tokens=1, output_tokens=2, image_output_tokens=2)
    assert reading.parts == (Part("gpt-5-mini", Usage(input_tokens=3, output_tokens=4)),)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "type": "tokens",
                "input_tokens": 50,
                "output_tokens": 5,
                "input_token_details": {"audio_tokens": 40, "text_tokens": 10},
            },
            Usage(input_tokens=50, output_tokens=5, audio_input_tokens=40),
        ),
        ({"type": "duration", "seconds": 12.4}, Usage(seconds=12)),
    ],
)
def test_transcripts_are_billed_by_tokens_or_by_time(usage: Any, expected: Usage):
    """`input_token_details`, without an s."""
    assert read(usage, "/audio/transcriptions").usage == expected


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        [1, 2],
        "many",
        7,
        True,
        {},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": "x", "completion_tokens": -5},
        {"prompt_tokens": float("nan"), "completion_tokens": 10**30},
        {"prompt_tokens": True},
    ],
)
def test_usage_that_says_nothing_is_unknown(usage: Any):
    """Unknown, never zero: the call is then counted here."""
    assert read(usage).usage is None


@pytest.mark.parametrize("count", [100, "100", 100.0, "1e2"])
def test_counts_may_be_texts_and_floats(count: Any):
    """Models are built without validation."""
    usage = {"prompt_tokens": count, "completion_tokens": None, "prompt_tokens_details": 5}
    assert read(usage).usage == Usage(input_tokens=100)


def test_a_gateways_own_cost_is_kept_apart():
    """It is shown, and never added."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.00014}
    assert read(usage).gateway_cost == Decimal("0.00014")
    for wrong in ("1e999999", "x", -1, True, [], float("inf")):
        assert read({**usage, "cost": wrong}).gateway_cost is None


@pytest.mark.parametrize(
    ("served", "tier"),
    [("default", "standard"), ("flex", "flex"), ("priority", "priority"), ("fast", "priority")],
)
def test_the_tier_that_served_decides(served: str, tier: str):
    """It may be another one than was asked for."""
    assert read({"prompt_tokens": 1}, service_tier=served).tier == tier


def test_names_that_no_store_could_keep_are_dropped():
    """Half a character, control characters, a name without end."""
    for name in ("\ud800", "a\x00b", "x" * 10_000, 5, ["m"], ""):
        reading = read({"prompt_tokens": 1}, model=name, id=name, service_tier=name)
        assert (reading.model, reading.response_id, reading.tier) == (None, None, None)


def test_a_video_is_as_long_as_the_answer_says():
    """A remix does not name its length; the API's default is four seconds."""
    made = SDK.request("/videos/video_1/remix", {"prompt": "x"})
    assert isinstance(made, Request)
    assert SDK.read(made, {"seconds": "12"}).usage == Usage(seconds=12)
    assert SDK.read(made, {}).usage == Usage(seconds=4)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/responses/input_tokens", "free"),
        ("/moderations", "free"),
        ("/files", "free"),
        ("/threads/t/messages", "free"),
        ("/organization/projects", "free"),
        ("/fine_tuning/jobs", "uncovered"),
        ("/evals/e/runs", "uncovered"),
        ("/agents/sessions", "uncovered"),
        ("/realtime/calls", "uncovered"),
        ("/something/new", "uncovered"),
    ],
)
def test_what_is_not_billed_is_told_from_what_is_not_understood(path: str, what: str):
    """An endpoint that nobody has heard of may cost something."""
    assert SDK.request(path, {}) == what

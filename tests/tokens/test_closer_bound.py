"""The second step of a decision: counted with the model's tokenizer, and only what is new."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import pytest
import tiktoken

from costtrace.tokens import count_message_tokens, exact, upper_bound
from costtrace.tokens.memory import CountMemory

traced = pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer takes most of the time")


def turns(number: int, mark: str) -> list[dict[str, Any]]:
    """A conversation that no other test has."""
    roles = ("user", "assistant")
    return [
        {"role": roles[turn % 2], "content": f"{mark}: this is turn {turn}. " * 40}
        for turn in range(number)
    ]


def test_text_of_a_verified_family_is_exact() -> None:
    """Where all of it follows published rules, the closer bound is the true count."""
    body = {"model": "gpt-4o", "messages": turns(4, "exact"), "max_tokens": 5, "temperature": 0}
    count = exact(body, "chat", "openai")

    assert count is not None
    assert count == count_message_tokens(body["messages"], "gpt-4o")
    assert (count.exact, count.method) == (True, "tiktoken:o200k_base")


@pytest.mark.parametrize(
    "others",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"functions": [{"name": "f", "description": "does it", "parameters": {}}]},
        {"tools": [{"type": "custom", "custom": {"name": "f", "description": "does it"}}]},
    ],
)
def test_what_has_no_rule_keeps_its_bound(others: dict[str, Any]) -> None:
    """Text by the tokenizer, the rest generously: between the count and the bytes."""
    body = {"model": "gpt-4o", "messages": turns(4, "rules"), **others}
    count = exact(body, "chat", "openai")
    bound = upper_bound(body, "chat", "openai")

    assert count is not None
    assert bound is not None
    assert count_message_tokens(body["messages"], "gpt-4o") < count < bound
    assert not count.exact
    assert count.method == "tiktoken:o200k_base+bounds"


@pytest.mark.parametrize(
    ("model", "operation", "provider"),
    [
        ("claude-opus-5", "messages", "anthropic"),
        ("gpt-6.2-astra", "chat", "openai"),
        ("my-deployment", "chat", "openai"),
        (None, "chat", "openai"),
    ],
)
def test_tokenizer_that_is_not_public_leaves_the_bytes(
    model: str | None, operation: str, provider: str
) -> None:
    """An estimate is no bound: a reservation must not rest on it."""
    body = {"model": model, "messages": turns(2, "private")}
    count = exact(body, operation, provider)

    assert count is not None
    assert count == upper_bound(body, operation, provider)
    assert (count.exact, count.method) == (False, "bound:bytes")


def test_model_may_be_named_apart() -> None:
    """A deployment's true model is known to the caller, not to the body."""
    body = {"model": "my-deployment", "messages": turns(2, "apart")}
    count = exact(body, "chat", "openai", model="gpt-4o")

    assert count == count_message_tokens(body["messages"], "gpt-4o")


def test_unbounded_request_stays_so() -> None:
    """A tokenizer does not see what is elsewhere either."""
    body = {"model": "gpt-4o", "messages": turns(2, "web"), "web_search_options": {}}

    assert exact(body, "chat", "openai") is None


@traced
def test_next_turn_of_a_long_conversation_is_counted_alone() -> None:
    """Two hundred turns that were counted before cost next to nothing."""
    history = turns(200, "memory")
    first = exact({"model": "gpt-4o", "messages": history}, "chat", "openai")
    best = float("inf")
    attempts = itertools.count()
    while best > 0.001 and (attempt := next(attempts)) < 500:
        new = {"role": "user", "content": f"And what about number {attempt}?"}
        start = time.perf_counter()
        count = exact({"model": "gpt-4o", "messages": [*history, new]}, "chat", "openai")
        best = min(best, time.perf_counter() - start)
        assert count is not None
        assert first is not None
        assert count == first + count_message_tokens([new], "gpt-4o") - 3

    assert best <= 0.001


@traced
def test_counting_costs_little_more_than_the_encoder() -> None:
    """Hashing and cutting a new text of 100 kB is lost in the time of encoding it."""
    encoder = tiktoken.get_encoding("o200k_base")
    text = "It was the best of times, it was the worst of times; 1859 in London. " * 1500
    bare = ours = float("inf")
    attempts = itertools.count()
    while ours > bare * 1.1 or ours == float("inf"):
        attempt = next(attempts)
        assert attempt < 300
        new = f"{attempt} {text}"
        start = time.perf_counter()
        encoder.encode_ordinary(new)
        bare = min(bare, time.perf_counter() - start)
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": f"{attempt}. {text}"}]}
        start = time.perf_counter()
        exact(body, "chat", "openai")
        ours = min(ours, time.perf_counter() - start)


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    """Old entries go, those asked for again and again stay."""
    memory = CountMemory(100)
    memory.put("kept", 1)
    for number in range(10_000):
        memory.put(number, number)
        assert memory.get("kept") == 1

    assert len(memory) <= 100
    assert memory.get(9_999) == 9_999
    assert memory.get(0) is None
    memory.clear()
    assert len(memory) == 0

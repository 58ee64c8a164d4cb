"""Making a conversation or a text fit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costtrace.tokens import count_message_tokens, count_tokens, trim_messages, truncate_text

SYSTEM = {"role": "system", "content": "Be brief."}


def turn(number: int) -> list[dict[str, Any]]:
    """A question and its answer."""
    return [
        {"role": "user", "content": f"Question number {number}? " * 5},
        {"role": "assistant", "content": f"Answer number {number}. " * 5},
    ]


def tool_turn(calls: int, size: int = 20) -> list[dict[str, Any]]:
    """A question answered with the help of a tool, in chat's way."""
    call = {"id": "a", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    step = [
        {"role": "assistant", "content": None, "tool_calls": [call] * calls},
        *[{"role": "tool", "tool_call_id": "a", "content": "found " * size}] * calls,
    ]
    return [{"role": "user", "content": "Search."}, *step, {"role": "assistant", "content": "So."}]


def claude_steps(number: int) -> list[dict[str, Any]]:
    """A question that took Claude so many uses of a tool."""
    step = [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "s", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": "found " * 20}],
        },
    ]
    return [{"role": "user", "content": "Search."}, *step * number]


def test_everything_stays_when_it_fits() -> None:
    """The very messages that were given come back, in order."""
    messages = [SYSTEM, *turn(1), *turn(2)]
    kept = trim_messages(messages, 10_000, "gpt-4o")

    assert kept == messages
    assert all(one is other for one, other in zip(kept, messages, strict=True))


def test_latest_turns_and_the_system_message_stay() -> None:
    """Whole turns go from the front; what stays fits, and one more turn would not."""
    messages = [SYSTEM, *turn(1), *turn(2), *turn(3), *turn(4)]
    limit = count_message_tokens([SYSTEM, *turn(3), *turn(4)], "gpt-4o")

    assert trim_messages(messages, limit, "gpt-4o") == [SYSTEM, *turn(3), *turn(4)]
    assert trim_messages(messages, limit + 1, "gpt-4o") == [SYSTEM, *turn(3), *turn(4)]
    assert trim_messages(messages, limit - 1, "gpt-4o") == [SYSTEM, *turn(4)]


def test_system_messages_stay_wherever_they_are() -> None:
    """Developer messages and later system messages keep their places."""
    developer = {"role": "developer", "content": "Now in French."}
    messages = [SYSTEM, *turn(1), developer, *turn(2)]
    limit = count_message_tokens([SYSTEM, developer, *turn(2)], "gpt-4o")

    assert trim_messages(messages, limit, "gpt-4o") == [SYSTEM, developer, *turn(2)]


@settings(max_examples=150)
@given(
    turns=st.lists(
        st.integers(1, 3).map(turn) | st.integers(1, 3).map(tool_turn) | st.just(turn(9)[:1]),
        min_size=1,
        max_size=6,
    ),
    limit=st.integers(0, 600),
)
def test_what_stays_fits_and_no_pair_is_split(
    turns: list[list[dict[str, Any]]], limit: int
) -> None:
    """For any mix of turns and any limit: a true suffix that fits, results with their calls."""
    messages = [SYSTEM, *[message for one in turns for message in one]]
    try:
        kept = trim_messages(messages, limit, "gpt-4o")
    except ValueError:
        assert count_message_tokens([SYSTEM, *turns[-1]], "gpt-4o") > limit
        return

    assert count_message_tokens(kept, "gpt-4o") <= limit
    assert kept[0] == SYSTEM
    assert kept[-1] == messages[-1]
    assert kept[1]["role"] == "user"
    for before, message in itertools.pairwise(kept):
        if message["role"] == "tool":
            assert before["role"] == "tool" or before.get("tool_calls")
    waiting = 0
    for message in kept:
        waiting += len(message.get("tool_calls") or ()) - (message["role"] == "tool")
    assert waiting == 0


def test_last_turn_that_is_too_long_keeps_its_latest_steps() -> None:
    """An agent's long turn keeps the question and the last uses of the tool, whole."""
    messages = claude_steps(10)
    limit = count_message_tokens(claude_steps(3), "claude-opus-5")

    assert trim_messages(messages, limit, "claude-opus-5") == claude_steps(3)


def test_calls_made_together_in_responses_stay_together() -> None:
    """Items of a Responses input: two calls, then both results."""
    pair = [
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "found " * 20},
        {"type": "function_call_output", "call_id": "2", "output": "found " * 20},
    ]
    question = {"role": "user", "content": "Search."}
    limit = count_message_tokens([question, *pair], "gpt-5")

    assert trim_messages([question, *pair * 4], limit, "gpt-5") == [question, *pair]
    limit = count_message_tokens([question, *pair * 2], "gpt-5") - 3
    assert trim_messages([question, *pair * 4], limit, "gpt-5") == [question, *pair]


def test_too_small_a_limit_says_what_is_needed() -> None:
    """The number in the error is the least that works."""
    messages = [SYSTEM, *turn(1), *tool_turn(2)]
    with pytest.raises(ValueError, match=r"max_tokens=10 is too small") as caught:
        trim_messages(messages, 10, "gpt-4o")
    needed = int(str(caught.value).rsplit(" ", 1)[-1])

    assert trim_messages(messages, needed, "gpt-4o")[-1] == messages[-1]
    with pytest.raises(ValueError, match="too small"):
        trim_messages(messages, needed - 1, "gpt-4o")
    with pytest.raises(ValueError, match="too small"):
        trim_messages([SYSTEM], 2, "gpt-4o")


def test_tools_need_room_too() -> None:
    """What the tools take is not there for turns."""
    tool = {"type": "function", "function": {"name": "f", "description": "d"}}
    messages = [SYSTEM, *turn(1), *turn(2)]
    limit = count_message_tokens(messages, "gpt-4o")

    assert trim_messages(messages, limit, "gpt-4o", tools=[tool]) == [SYSTEM, *turn(2)]


@pytest.mark.parametrize(
    ("messages", "limit", "error", "words"),
    [
        ("Hello", 10, TypeError, "not str"),
        ([SYSTEM, "Hello"], 10, TypeError, r"messages\[1\] must be a dict"),
        ([SYSTEM], 10.5, TypeError, "max_tokens must be an int, not float"),
        ([SYSTEM], True, TypeError, "max_tokens must be an int, not bool"),
        ([SYSTEM], -1, ValueError, "max_tokens must not be negative"),
    ],
)
def test_bad_arguments_are_named(
    messages: Any, limit: Any, error: type[Exception], words: str
) -> None:
    """Wrong types and sizes are refused in words that help."""
    with pytest.raises(error, match=words):
        trim_messages(messages, limit, "gpt-4o")


def test_nothing_to_trim() -> None:
    """No messages are no messages, as long as the framing fits."""
    assert trim_messages([], 10, "gpt-4o") == []


@settings(max_examples=200)
@given(
    text=st.text() | st.text(alphabet="ab \n1") | st.text(alphabet="你好 😀", min_size=5),
    limit=st.integers(0, 40),
    keep=st.sampled_from(["start", "end"]),
    model=st.sampled_from(["gpt-4o", "gpt-4", "claude-opus-5"]),
)
def test_truncated_text_fits(text: str, limit: int, keep: Any, model: str) -> None:
    """For any text: a true part of it, within the limit; all of it where it fits."""
    part = truncate_text(text, limit, model, keep=keep)

    assert count_tokens(part, model) <= limit
    assert text.startswith(part) if keep == "start" else text.endswith(part)
    if count_tokens(text, model) <= limit:
        assert part == text


def test_truncation_wastes_little() -> None:
    """A megabyte is cut to nearly the tokens allowed, from either side."""
    text = "It was the best of times, it was the worst of times. " * 20_000

    for keep in ("start", "end"):
        part = truncate_text(text, 50_000, "gpt-4o", keep=keep)  # type: ignore[arg-type]
        assert 49_990 <= count_tokens(part, "gpt-4o") <= 50_000


def test_bad_side_is_named() -> None:
    """A text has two ends."""
    with pytest.raises(ValueError, match="keep must be 'start' or 'end', not 'middle'"):
        truncate_text("text", 1, "gpt-4o", keep="middle")  # type: ignore[arg-type]

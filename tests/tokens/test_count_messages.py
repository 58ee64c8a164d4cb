"""Tokens of a conversation by the providers' published rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiktoken
from openai.types.chat import ChatCompletionMessage

from costtrace.tokens import count_input_tokens, count_message_tokens

# The example of the OpenAI cookbook ("How to count tokens with tiktoken"), with its counts.
COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate "
        "jargon into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client "
        "deliverable.",
    },
]
WEATHER_MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful assistant that can answer to questions about the weather.",
    },
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]
WEATHER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": "The city and state, e.g. San Francisco, CA",
                },
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        },
    },
}


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-3.5-turbo-0301", 127),
        ("gpt-3.5-turbo", 129),
        ("gpt-4-0613", 129),
        ("gpt-4", 129),
        ("gpt-4o", 124),
        ("gpt-4o-mini", 124),
    ],
)
def test_published_example_of_messages(model: str, tokens: int) -> None:
    """The cookbook's conversation has the cookbook's count."""
    count = count_message_tokens(COOKBOOK, model)

    assert count == tokens
    assert count.exact


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)],
)
def test_published_example_of_tools(model: str, tokens: int) -> None:
    """The cookbook's tool and question have the cookbook's count."""
    count = count_message_tokens(WEATHER_MESSAGES, model, tools=[WEATHER_TOOL])

    assert count == tokens
    assert count.exact


@pytest.mark.parametrize(("calls", "tokens"), [(1, 40), (2, 89), (3, 114)])
def test_recorded_usage_of_tool_calls_in_a_history(calls: int, tokens: int) -> None:
    """One, two and three calls answered at once were billed so, on record in OpenAI's forum."""
    call = {
        "id": "a",
        "type": "function",
        "function": {"name": "calculator", "arguments": '{"a":2, "b":2}'},
    }
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "How much is 2 plus 2?"}]},
        {"role": "assistant", "tool_calls": [call] * calls},
        *[{"role": "tool", "tool_call_id": "a", "content": "4"}] * calls,
    ]
    count = count_message_tokens(messages, "gpt-3.5-turbo")

    assert count == tokens
    assert not count.exact


def korean_results(calls: int) -> list[dict[str, Any]]:
    """A conversation whose tools answered in Korean."""
    call = {"id": "a", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "a", "content": "테스트 " * 1000}
    question = {"role": "user", "content": "Search."}
    return [question, {"role": "assistant", "tool_calls": [call] * calls}, *[result] * calls]


def test_results_of_several_tool_calls_are_counted_as_the_escapes_they_become() -> None:
    """OpenAI bills three such results with 39,235 tokens, one with 1,121 (from its forum)."""
    assert count_message_tokens(korean_results(1), "gpt-4.1") == pytest.approx(1121, rel=0.1)
    assert count_message_tokens(korean_results(3), "gpt-4.1") == pytest.approx(39_235, rel=0.01)


@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5", "o3-mini", "gpt-4o-audio-preview"])
def test_families_without_a_verified_rule_are_marked(model: str) -> None:
    """The same framing is taken for newer families, but nobody published it."""
    count = count_message_tokens(COOKBOOK, model)

    assert count == 124
    assert not count.exact
    assert count.method == "tiktoken:o200k_base+rules"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
        },
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "4"},
    ],
)
def test_parts_without_a_published_rule_are_marked(message: dict[str, Any]) -> None:
    """Exact is only what follows published rules from end to end."""
    count = count_message_tokens([message], "gpt-4o")

    assert count > 0
    assert not count.exact


def test_parts_of_text_count_as_one_text_each() -> None:
    """A list of text parts is as exact as a text."""
    parts = [{"type": "text", "text": "What is in it?"}]

    split = count_message_tokens([{"role": "user", "content": parts}], "gpt-4o")
    whole = count_message_tokens([{"role": "user", "content": "What is in it?"}], "gpt-4o")

    assert split == whole
    assert split.exact


def test_objects_of_the_sdk_are_read_as_they_come() -> None:
    """People append the answer's message object to their list."""
    reply = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "search", "arguments": '{"q": "sky"}'},
                }
            ],
        }
    )
    question = {"role": "user", "content": "Why is the sky blue?"}

    from_object = count_message_tokens([question, reply], "gpt-4o")
    from_dict = count_message_tokens([question, reply.model_dump(exclude_none=True)], "gpt-4o")

    assert from_object == from_dict
    assert from_object > count_message_tokens([question], "gpt-4o") + 8


def test_iterators_are_read_to_their_end() -> None:
    """A generator of messages, and of tools, is as good as a list."""
    count = count_message_tokens(iter(WEATHER_MESSAGES), "gpt-4o", tools=iter([WEATHER_TOOL]))

    assert count == 101


def test_nested_schema_costs_at_least_its_description() -> None:
    """The published rule is for flat schemas; what is nested is added as JSON and marked."""
    nested = json.loads(json.dumps(WEATHER_TOOL))
    nested["function"]["parameters"]["properties"]["places"] = {
        "type": "array",
        "items": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    count = count_message_tokens(WEATHER_MESSAGES, "gpt-4o", tools=[nested])

    assert count >= 101 + 12
    assert not count.exact


def test_schema_of_the_answer_counts() -> None:
    """A response_format with a schema goes into the prompt; plain text and JSON modes do not."""
    messages = [{"role": "user", "content": "Hi"}]
    schema = {"name": "answer", "schema": {"type": "object", "properties": {"a": {}}}}
    bare = count_message_tokens(messages, "gpt-4o")

    with_schema = count_message_tokens(
        messages, "gpt-4o", response_format={"type": "json_schema", "json_schema": schema}
    )
    json_mode = count_message_tokens(messages, "gpt-4o", response_format={"type": "json_object"})

    assert with_schema > bare + 15
    assert not with_schema.exact
    assert json_mode == bare


def test_what_cannot_be_counted_is_named() -> None:
    """A file by its id has tokens that nobody sees from here."""
    content = [{"type": "file", "file": {"file_id": "file-1"}}, {"type": "text", "text": "Sum up"}]
    count = count_message_tokens([{"role": "user", "content": content}], "gpt-4o")

    assert not count.exact
    assert count.method.endswith("; left out: a file by its id or address")


def test_claude_messages_with_tools_count_its_hidden_prompt() -> None:
    """Claude adds a prompt of several hundred tokens once there are tools."""
    messages = [{"role": "user", "content": "What's the weather?"}]
    tool = {"name": "get_weather", "description": "Get it", "input_schema": {"type": "object"}}

    bare = count_message_tokens(messages, "claude-opus-4-7")
    with_tools = count_message_tokens(messages, "claude-opus-4-7", tools=[tool])

    assert with_tools > bare + 804


def test_claude_blocks_count() -> None:
    """Tool use, its result, thinking and documents in a Claude history are all read."""
    history = [
        {"role": "user", "content": "Look it up"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should search. " * 10, "signature": "x"},
                {"type": "tool_use", "id": "t", "name": "search", "input": {"q": "word " * 50}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "found " * 200}],
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "word " * 300},
                },
            ],
        },
    ]

    assert count_message_tokens(history, "claude-sonnet-4-5") > (40 + 50 + 200 + 300) * 1.18


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ("Hello", TypeError, "messages must be a list of messages, not str"),
        ({"role": "user", "content": "x"}, TypeError, "must be a list of messages, not dict"),
        (None, TypeError, "not NoneType"),
        (7, TypeError, "not int"),
        (["Hello"], TypeError, r"messages\[0\] must be a dict or an object of the SDK, not str"),
        ([{"content": "x"}], ValueError, r"messages\[0\] has neither a role nor a type"),
        ([{"role": "user", "content": 7}], TypeError, "content must be text or a list of parts"),
    ],
)
def test_bad_messages_are_named(messages: Any, error: type[Exception], words: str) -> None:
    """The error says which message is wrong, and what would be right."""
    with pytest.raises(error, match=words):
        count_message_tokens(messages, "gpt-4o")


def test_bad_tools_are_named() -> None:
    """A single tool in place of a list is a common slip."""
    with pytest.raises(TypeError, match="tools must be a list of dicts, not dict"):
        count_message_tokens(WEATHER_MESSAGES, "gpt-4o", tools=WEATHER_TOOL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tools\[0\] must be a dict, not function"):
        count_message_tokens(WEATHER_MESSAGES, "gpt-4o", tools=[korean_results])


def test_bottomless_messages_are_refused() -> None:
    """Contents nested for ever end in an error, not in a crash of the interpreter."""
    content: list[Any] = []
    content.append({"type": "tool_result", "content": content})

    with pytest.raises(ValueError, match="nested this deeply"):
        count_message_tokens([{"role": "user", "content": content}], "claude-opus-5")


def test_responses_input_follows_the_chat() -> None:
    """A text, instructions and items count as the messages they become."""
    encoding = tiktoken.get_encoding("o200k_base")
    text = "Why is the sky blue?"
    alone = count_input_tokens(text, "gpt-4o")
    with_instructions = count_input_tokens(text, "gpt-4o", instructions="Answer in French.")
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
        {"type": "function_call", "call_id": "c", "name": "search", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "Rayleigh scattering"},
    ]

    assert alone == len(encoding.encode_ordinary(text)) + 7
    assert with_instructions == alone + len(encoding.encode_ordinary("Answer in French.")) + 4
    assert count_input_tokens(items, "gpt-4o") > alone + 6
    assert not alone.exact
    assert count_input_tokens(["Why is", "the sky"], "gpt-4o") == 4
    assert count_input_tokens([[1, 2, 3], [4]], "gpt-4o") == 4
    with pytest.raises(TypeError, match=r"input\[1\] must be an item, a text or a token id"):
        count_input_tokens(["a", None], "gpt-4o")
    with pytest.raises(TypeError, match="input must be a str or a list of items, not int"):
        count_input_tokens(7, "gpt-4o")  # type: ignore[arg-type]

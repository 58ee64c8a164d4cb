"""Contents beside text and images: files, documents, sounds, hosted and predefined tools."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from costtrace.tokens import count_input_tokens, count_message_tokens, upper_bound

PDF = b"%PDF-1.4\n" + b"<< /Type /Page >>\n" * 3 + b"<< /Type /Pages /Count 3 >>\n"
WORDS = "word " * 1000


def encoded(content: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(content).decode()


def message(part: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation of one part."""
    return [{"role": "user", "content": [part]}]


def chat_file(url: str) -> dict[str, Any]:
    """A file in a chat."""
    return {"type": "file", "file": {"file_data": url, "filename": "a"}}


@pytest.mark.parametrize(
    ("part", "model", "least", "most"),
    [
        (chat_file("data:application/pdf;base64," + encoded(PDF)), "gpt-4o", 3 * 1445, 3 * 2500),
        (chat_file("data:application/pdf;base64," + encoded(bytes(120_000))), "gpt-4o", 4335, 8000),
        (chat_file("data:text/plain;base64," + encoded(WORDS.encode())), "gpt-4o", 1000, 1100),
        (chat_file("data:text/plain;base64,?"), "gpt-4o", 5, 40),
        (
            {"type": "document", "source": {"type": "base64", "data": encoded(PDF)}},
            "claude-sonnet-4-5",
            3 * 1600,
            3 * 3500,
        ),
        (
            {
                "type": "document",
                "title": "T",
                "source": {"type": "content", "content": [{"type": "text", "text": WORDS}]},
            },
            "claude-sonnet-4-5",
            1180,
            1600,
        ),
        (
            {
                "type": "input_audio",
                "input_audio": {"data": encoded(bytes(40_000)), "format": "mp3"},
            },
            "gpt-4o-audio-preview",
            100,
            130,
        ),
    ],
)
def test_files_and_sounds_are_estimated(
    part: dict[str, Any], model: str, least: int, most: int
) -> None:
    """By pages, by text, by seconds; and never called exact."""
    count = count_message_tokens(message(part), model)

    assert least <= count <= most
    assert not count.exact


@pytest.mark.parametrize(
    ("part", "least"),
    [
        (chat_file("data:text/plain;base64," + encoded(WORDS.encode())), 1000),
        (
            {
                "type": "input_audio",
                "input_audio": {"data": encoded(bytes(40_000)), "format": "wav"},
            },
            400,
        ),
        (
            {
                "type": "input_file",
                "file_data": "data:application/json;base64,e30=",
                "filename": "a",
            },
            5,
        ),
    ],
)
def test_files_and_sounds_in_the_request_are_bounded(part: dict[str, Any], least: int) -> None:
    """What is all there has a bound."""
    body = {"model": "gpt-4o", "messages": message(part)}

    assert least <= (upper_bound(body, "chat", "openai") or 0) <= 10_000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "text", "data": WORDS}, "title": "T"},
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": WORDS}]},
            "citations": {"enabled": False},
        },
        {"type": "search_result", "source": "x", "content": [{"type": "text", "text": WORDS}]},
        {"type": "tool_result", "tool_use_id": "t", "content": WORDS},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"words": [WORDS]}},
        {"type": "thinking", "thinking": WORDS, "signature": "s"},
        {"type": "redacted_thinking", "data": WORDS},
        {"type": "text", "text": WORDS, "cache_control": {"type": "ephemeral"}},
    ],
)
def test_claude_blocks_are_bounded_by_their_text(part: dict[str, Any]) -> None:
    """Every block that holds its text is bounded by it."""
    body = {"model": "claude-opus-5", "messages": message(part)}

    assert len(WORDS) <= (upper_bound(body, "messages", "anthropic") or 0) <= len(WORDS) + 2000


def test_citations_leave_no_bound() -> None:
    """How a document is cut up for them is not published."""
    part = {
        "type": "document",
        "source": {"type": "text", "data": WORDS},
        "citations": {"enabled": True},
    }

    assert upper_bound({"messages": message(part)}, "messages", "anthropic") is None


@pytest.mark.parametrize(
    ("tool", "least"),
    [
        ({"type": "bash_20250124", "name": "bash"}, 245),
        ({"type": "text_editor_20250728", "name": "edit"}, 700),
        ({"type": "computer_20250124", "name": "computer", "display_width_px": 1024}, 1234),
    ],
)
def test_predefined_tools_of_claude_have_their_published_size(
    tool: dict[str, Any], least: int
) -> None:
    """On top of the hidden prompt for tools."""
    messages = [{"role": "user", "content": "Go on."}]
    bare = count_message_tokens(messages, "claude-sonnet-4-5")
    count = count_message_tokens(messages, "claude-sonnet-4-5", tools=[tool])
    body = {"model": "claude-sonnet-4-5", "messages": messages, "tools": [tool]}

    assert count == bare + least + 588
    assert (upper_bound(body, "messages", "anthropic") or 0) >= count


def test_hosted_tools_are_named_as_left_out() -> None:
    """What a search brings into the prompt is not to be known before."""
    messages = [{"role": "user", "content": "News?"}]
    search = [{"type": "web_search_20250305", "name": "web_search"}]

    assert "web_search" in count_message_tokens(messages, "claude-opus-5", tools=search).method
    count = count_input_tokens("News?", "gpt-5", tools=[{"type": "web_search"}])
    assert count.method.endswith("; left out: what the tool web_search adds")


def test_items_of_a_responses_history_are_counted_and_bounded() -> None:
    """Calls, results, screenshots, reasoning, and what is kept elsewhere."""
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": WORDS}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": WORDS},
        {"type": "computer_call", "call_id": "d", "action": {"type": "screenshot"}},
        {
            "type": "computer_call_output",
            "call_id": "d",
            "output": {"type": "computer_screenshot", "image_url": "https://x/y.png"},
        },
        {"type": "image_generation_call", "id": "i", "result": None},
    ]
    count = count_input_tokens(items, "gpt-5")
    bound = upper_bound({"model": "gpt-5", "input": items}, "responses", "openai")

    assert 2000 + 70 + 8 * 140 < count < 4000
    assert bound is not None
    assert 2 * len(WORDS) < bound < 2 * len(WORDS) + 4000
    assert count.method.endswith("left out: computer_call, image_generation_call")


def test_clearing_old_results_keeps_the_bound() -> None:
    """Unlike a summary, it takes no turn of its own."""
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    body = {"model": "claude-opus-5", "messages": [{"role": "user", "content": "Go on."}]}

    assert upper_bound(body | {"context_management": edits}, "messages", "anthropic") is not None


@pytest.mark.parametrize(
    "others",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": WORDS}}}},
        {"tools": [{"type": "custom", "custom": {"name": "f", "description": WORDS}}]},
        {"functions": [{"name": "f", "description": WORDS}]},
    ],
)
def test_schemas_and_functions_are_bounded(others: dict[str, Any]) -> None:
    """Whatever is sent for the model to read is in the bound and in the count."""
    messages = [{"role": "user", "content": "Go on."}]
    body = {"model": "gpt-4o", "messages": messages, **others}

    assert len(WORDS) <= (upper_bound(body, "chat", "openai") or 0) <= len(WORDS) + 1500

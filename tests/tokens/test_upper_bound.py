"""The bound that a reservation rests on: never below the bill, and nearly free."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import pytest
from anthropic.types import TextBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from costtrace.tokens import count_message_tokens, exact, unbounded_reason, upper_bound

SCRIPTS = st.sampled_from(
    [
        st.text(),
        st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", min_size=1),
        st.text(alphabet='{}[]":,\\/\n\t 0123456789'),
        st.text(alphabet="的一是不了人我在有他这中大来上国龘靐齉"),
        st.text(alphabet="테스트한국어 "),
        st.text(alphabet="अआइईउऊकखगघ ्ाि"),
        st.text(alphabet="عربيةحروف ﷺﷲ"),
        st.text(alphabet="😀👨‍👩‍👧🏽🇩🇪✨"),
        st.text(alphabet="ሀለሐመሠረሰሸቀበ"),
        st.text(alphabet="㍿㌕ﬁ½Ⅷ"),
        st.text(alphabet=st.characters(categories=["Co", "Cs", "Cc"])),
    ]
).flatmap(lambda script: script)
TEXT_PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": SCRIPTS}), max_size=3)
CONTENT = SCRIPTS | TEXT_PARTS
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.just("call_1"),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.just("f"), "arguments": SCRIPTS}),
        }
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def exchanges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A call of one or more tools with all its results."""
    calls = draw(CALLS)
    results = [{"role": "tool", "tool_call_id": "call_1", "content": draw(CONTENT)} for _ in calls]
    return [{"role": "assistant", "tool_calls": calls}, *results]


PLAIN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": CONTENT},
    optional={"name": st.text(alphabet="abc_", min_size=1, max_size=8)},
)
MESSAGES = st.lists(PLAIN.map(lambda one: [one]) | exchanges(), max_size=5).map(
    lambda groups: list(itertools.chain.from_iterable(groups))
)
PROPERTY = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "number", "array", "object"]), "description": SCRIPTS},
    optional={
        "enum": st.lists(SCRIPTS, max_size=4),
        "properties": st.dictionaries(SCRIPTS, st.just({"type": "string"}), max_size=3),
    },
)
TOOL = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.just("f"), "description": SCRIPTS},
            optional={
                "parameters": st.fixed_dictionaries(
                    {
                        "type": st.just("object"),
                        "properties": st.dictionaries(SCRIPTS, PROPERTY, max_size=4),
                    }
                )
            },
        ),
    }
)
OPENAI_MODELS = st.sampled_from(["gpt-4o", "gpt-4", "gpt-5", "gpt-6.2-astra", "gpt-3.5-turbo"])


@settings(max_examples=300)
@given(messages=MESSAGES, tools=st.lists(TOOL, max_size=3), model=OPENAI_MODELS)
def test_bound_is_never_below_the_count(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], model: str
) -> None:
    """Over scripts, roles, tool calls and schemas: bound >= closer bound >= count by the rules."""
    body = {"model": model, "messages": messages, **({"tools": tools} if tools else {})}
    bound = upper_bound(body, "chat", "openai")
    closer = exact(body, "chat", "openai")
    count = count_message_tokens(messages, model, tools=tools)

    assert bound is not None
    assert closer is not None
    assert bound >= closer >= count


@settings(max_examples=150)
@given(
    messages=st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENT}),
        max_size=4,
    ),
    system=SCRIPTS,
)
def test_claude_bound_is_never_below_the_estimate(
    messages: list[dict[str, Any]], system: str
) -> None:
    """Claude's tokenizer is not public: the bound holds against the estimate that errs upwards."""
    body = {"model": "claude-opus-5", "messages": messages, "system": system}
    everything = [{"role": "system", "content": system}, *messages]
    bound = upper_bound(body, "messages", "anthropic")

    assert bound is not None
    assert bound >= count_message_tokens(everything, "claude-opus-5")


def chat(*messages: Any, model: str = "gpt-4o", **others: Any) -> dict[str, Any]:
    """A request body."""
    return {"model": model, "messages": list(messages), **others}


def user(content: object) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": content}


def test_bound_covers_what_openai_billed_beyond_the_bytes() -> None:
    """Three Korean tool results of 10,000 bytes each were billed 39,235 tokens."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "a", "content": "테스트 " * 1000}
    body = chat(user("Search."), {"role": "assistant", "tool_calls": [call] * 3}, *[result] * 3)

    assert 30_000 < 39_235 <= (upper_bound(body, "chat", "openai") or 0)


def test_bound_covers_a_claude_text_that_grows_when_normalised() -> None:
    """One sign of three bytes stands for eighteen letters."""
    body = chat(user("ﷺ" * 1000), model="claude-haiku-4-5")

    assert (upper_bound(body, "messages", "anthropic") or 0) >= 33_000


@pytest.mark.parametrize(
    ("model", "operation", "provider"),
    [("gpt-5", "chat", "openai"), ("claude-opus-5", "messages", "anthropic")],
)
def test_bound_covers_the_framing_of_many_short_messages(
    model: str, operation: str, provider: str
) -> None:
    """Where the texts are nothing, framing is everything."""
    messages = [user("") for _ in range(500)]
    bound = upper_bound(chat(*messages, model=model), operation, provider)

    assert (bound or 0) >= count_message_tokens(messages, model) >= 1500


def test_bound_of_a_short_prompt_is_close() -> None:
    """A budget of a few cents must not be refused for framing."""
    bound = upper_bound(chat(user("Why is the sky blue?")), "chat", "openai")

    assert bound is not None
    assert 12 <= bound <= 64


PNG_2000 = (  # the head of a PNG of 2000 x 2000 pixels
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAB9AAAAfQCAYAAACaOMR5AAAAAElFTkSuQmCC"
)


@pytest.mark.parametrize(
    ("model", "url", "detail", "tokens"),
    [
        ("gpt-4o", "https://x/y.png", "low", 85),
        ("gpt-4o", "https://x/y.png", None, 85 + 8 * 170),
        ("gpt-4o", PNG_2000, "high", 85 + 4 * 170),
        ("gpt-4o-mini", "https://x/y.png", "high", 2833 + 8 * 5667),
        ("gpt-5.6-sol", "https://x/y.png", None, 36_000),
        ("gpt-5.6-sol", PNG_2000, None, 4763),
        ("my-deployment", PNG_2000, "high", 48_600),
    ],
)
def test_images_are_bounded_by_their_rules(
    model: str, url: str, detail: str | None, tokens: int
) -> None:
    """By size where the size is to be seen, else by the largest image of that detail."""
    address = {"url": url} if detail is None else {"url": url, "detail": detail}
    part = {"type": "image_url", "image_url": address}
    bound = upper_bound(chat(user([part]), model=model), "chat", "openai")

    assert bound is not None
    assert tokens <= bound <= tokens + 64


def test_claude_images_are_bounded_by_generation() -> None:
    """Models from Opus 4.7 on see three times as many pixels."""
    source = {"type": "url", "url": "https://x/y.png"}
    content = [{"type": "image", "source": source}]
    old = upper_bound(chat(user(content), model="claude-sonnet-4-5"), "messages", "anthropic")
    new = upper_bound(chat(user(content), model="claude-opus-4-7"), "messages", "anthropic")

    assert old is not None
    assert new is not None
    assert 1568 <= old <= 2000
    assert 4784 <= new <= 5200


@pytest.mark.parametrize(
    ("operation", "provider", "body", "reason"),
    [
        ("chat", "openai", chat(web_search_options={}), "searches the web"),
        ("chat", "openai", {"messages": iter([user("Hi")])}, "read only once"),
        ("chat", "openai", chat({"role": "assistant", "audio": {"id": "a"}}), "earlier answer"),
        ("chat", "openai", chat(user([{"type": "file", "file": {"file_id": "f"}}])), "pages"),
        ("chat", "openai", chat(user([{"type": "video", "url": "x"}])), "'video' is not known"),
        ("chat", "openai", chat(user("Hi"), data_sources=[{}]), "documents of its own"),
        ("responses", "openai", {"input": "Hi", "previous_response_id": "r"}, "earlier response"),
        ("responses", "openai", {"input": "Hi", "conversation": "c"}, "conversation kept"),
        ("responses", "openai", {"prompt": {"id": "p"}}, "stored at the provider"),
        ("responses", "openai", {"input": [{"id": "msg_1"}]}, "kept by the provider"),
        ("responses", "openai", {"input": "Hi", "tools": [{"type": "web_search"}]}, "web_search"),
        ("messages", "anthropic", chat(tools=[{"type": "web_search_20250305"}]), "web_search"),
        ("messages", "anthropic", chat(mcp_servers=[{"url": "x"}]), "by itself"),
        (
            "messages",
            "anthropic",
            chat(user([{"type": "document", "source": {"type": "base64", "data": "JVBE"}}])),
            "pages cannot be seen",
        ),
        (
            "messages",
            "anthropic",
            chat(context_management={"edits": [{"type": "compact_20260112"}]}),
            "summarise",
        ),
        ("embeddings", "openai", {"input": iter(["a"])}, "read only once"),
        ("videos", "openai", {"prompt": "x", "input_reference": "y"}, "not published"),
        ("transcriptions", "openai", {"model": "whisper-1"}, "not text alone"),
        ("chat", "mistral", chat(user("Hi")), "'mistral' is not known"),
        ("chat", "openai", chat(user(b"Hi")), "bytes"),
    ],
)
def test_what_nothing_limits_is_none_and_says_why(
    operation: str, provider: str, body: dict[str, Any], reason: str
) -> None:
    """The bound is a number or it is None: no guess stands in for what is elsewhere."""
    assert upper_bound(body, operation, provider) is None
    told = unbounded_reason(body, operation, provider)
    if not isinstance(body.get("messages"), type(iter([]))):
        assert reason in (told or "")


def test_reason_is_none_where_there_is_a_bound() -> None:
    """But for files that go beside the JSON of anything else than images."""
    assert unbounded_reason(chat(user("Hi")), "chat", "openai") is None
    assert upper_bound({"prompt": "A cat"}, "videos", "openai") is not None
    assert upper_bound({"prompt": "A cat"}, "videos", "openai", files=1) is None


@pytest.mark.parametrize("letter", ["a", "\xe9", "\u20ac", "\U0001f600", "\ud800"])
@pytest.mark.parametrize("length", [3, 999, 1_000, 1_001, 50_000])
def test_a_text_is_as_long_as_its_bytes_whatever_it_is_made_of(letter: str, length: int) -> None:
    """Also one that is nearly all of one kind; half a surrogate pair takes three bytes."""
    for text in (letter * length, "a" * (length - 1) + letter, "\xe9" * (length - 1) + letter):
        size = len(text.encode("utf-8", "surrogatepass"))
        bound = upper_bound(chat(user(text)), "chat", "openai")
        assert bound == upper_bound(chat(user("a" * size)), "chat", "openai")


def test_each_image_that_is_edited_counts_as_the_largest_of_any_model() -> None:
    """Beside the JSON, as a file, or in it; how they count is not published."""
    drawn = upper_bound({"prompt": "A cat"}, "images", "openai")
    assert drawn is not None
    for images, body, files in [
        (1, {}, 1),
        (17, {}, 17),
        (1, {"image": "data:..."}, 0),
        (3, {"images": [{"file_id": "1"}, {"file_id": "2"}], "mask": {"file_id": "3"}}, 0),
    ]:
        bound = upper_bound({"prompt": "A cat", **body}, "images", "openai", files=files)
        assert bound == drawn + images * 48_600


def test_iterator_of_messages_is_left_alone() -> None:
    """The SDK has yet to read it; a bound that consumed it would send an empty request."""
    messages = iter([user("Hi")])
    body = {"model": "claude-opus-5", "messages": messages}

    assert upper_bound(body, "messages", "anthropic") is None
    assert exact(body, "messages", "anthropic") is None
    assert next(messages) == user("Hi")


class Omit:
    """What the SDKs put where an argument was not given, told by its name alone."""


class NotGiven:
    """The older name of the same."""


def test_arguments_that_were_not_given_count_nothing() -> None:
    """Newer SDKs hand on a request with their own sign for "not given" in it."""
    body = chat(user("Hi"), model="claude-opus-5")
    unset = {"system": Omit(), "tools": NotGiven(), "mcp_servers": Omit(), "container": NotGiven()}

    assert upper_bound(body | unset, "messages", "anthropic") == upper_bound(
        body, "messages", "anthropic"
    )


def test_objects_of_the_sdks_are_bounded_as_they_come() -> None:
    """Histories hold the SDKs' own messages and blocks."""
    reply = ChatCompletionMessage(role="assistant", content="word " * 100)
    block = TextBlock(type="text", text="word " * 100)
    of_openai = upper_bound(chat(user("Hi"), reply), "chat", "openai")
    of_anthropic = upper_bound(
        chat(user("Hi"), {"role": "assistant", "content": [block]}), "messages", "anthropic"
    )

    assert 500 <= (of_openai or 0) <= 700
    assert 500 <= (of_anthropic or 0) <= 800


def test_structures_without_end_are_no_trap() -> None:
    """Depth does not stop the program."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert (upper_bound(chat(user("Hi"), tools=[{"x": deep}]), "chat", "openai") or 0) > 100_000
    assert (upper_bound(chat(user([deep])), "chat", "openai") or 0) > 0


@pytest.mark.parametrize("width", [1, 1000])
def test_structure_that_holds_itself_has_no_bound(width: int) -> None:
    """It cannot be sent either; the SDK is to say so, not a program that hangs."""
    loop: list[Any] = []
    loop.extend([loop] * width)
    block: dict[str, Any] = {"type": "tool_result"}
    block["content"] = block

    assert upper_bound(chat(user(loop)), "chat", "openai") is None
    assert upper_bound(chat(user([block])), "messages", "anthropic") is None
    assert upper_bound(chat(user("Hi"), tools=[{"x": loop}]), "chat", "openai") is None
    assert upper_bound({"input": loop}, "embeddings", "openai") is None


@pytest.mark.parametrize(
    ("operation", "body", "least", "most"),
    [
        ("completions", {"prompt": "word " * 100}, 100, 600),
        ("completions", {"prompt": ["word " * 100] * 3}, 300, 1600),
        ("completions", {"prompt": [1, 2, 3]}, 3, 64),
        ("completions", {"prompt": [[1, 2, 3], [4, 5]], "suffix": "end"}, 6, 64),
        ("embeddings", {"input": ["first", "second"]}, 2, 64),
        ("embeddings", {"input": [1] * 100}, 100, 150),
        ("speech", {"input": "Read this.", "instructions": "Slowly."}, 5, 200),
        ("responses", {"input": "Why?", "instructions": "Be brief."}, 5, 200),
        ("compact", {"input": [{"role": "user", "content": "Why?"}]}, 5, 1200),
        ("chat", chat(user("Why?"), metadata={"long": "x" * 500}, user="u" * 500), 5, 64),
        ("chat", chat(user("Why?"), unheard_of={"text": "x" * 500}), 500, 700),
    ],
)
def test_other_operations_are_bounded(
    operation: str, body: dict[str, Any], least: int, most: int
) -> None:
    """Prompts, token ids and lists of both; settings count nothing, what is unknown counts."""
    assert least <= (upper_bound({"model": "gpt-4o", **body}, operation, "openai") or 0) <= most


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer takes most of the time")
@pytest.mark.parametrize(
    ("body", "provider", "limit_us"),
    [
        (chat(user("Why is the sky blue?")), "openai", 5),
        (chat(user("hello world " * 8333)), "openai", 50),
        (chat(user("你好世界" * 8333)), "openai", 50),
        (chat(*[user(f"turn {n} " * 30) for n in range(200)]), "openai", 1000),
        (chat(user("hello world " * 8333), model="claude-opus-5"), "anthropic", 50),
    ],
)
def test_bound_costs_microseconds(body: dict[str, Any], provider: str, limit_us: float) -> None:
    """It runs before each call that a budget watches; a busy machine gets many attempts."""
    operation = "chat" if provider == "openai" else "messages"
    best = float("inf")
    attempts = 0
    while best * 1e6 > limit_us and (attempts := attempts + 1) < 1000:
        start = time.perf_counter()
        for _ in range(20):
            upper_bound(body, operation, provider)
        best = min(best, (time.perf_counter() - start) / 20)

    assert best * 1e6 <= limit_us

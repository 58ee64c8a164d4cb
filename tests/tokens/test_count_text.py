"""Tokens of a text: the right encoding, any text, no surprises."""

from __future__ import annotations

import base64
import copy
import pickle
import random
import threading
import time

import pytest
import tiktoken

from costtrace.tokens import TokenCount, count_output, count_tokens

O200K = "tiktoken:o200k_base"
CL100K = "tiktoken:cl100k_base"
TEXT = "Tokenizers split “text” into pieces — 12345 of them, año 2024, 你好世界 🙂."

HOSTILE = {
    "blanks": " " * 1_000_000,
    "line feeds": "\n" * 1_000_000,
    "tabs in a text": "a" + "\t" * 1_000_000 + "b",
    "hard blanks": "\u00a0" * 1_000_000,
    "one letter": "a" * 1_000_000,
    "signs": "^" * 1_000_000,
    "base64": base64.b64encode(random.Random(1).randbytes(750_000)).decode(),
    "Chinese": "".join(random.Random(2).choices("的一是不了人我在有他这中大来上国", k=1_000_000)),
    "emoji": "👨‍👩‍👧‍👦" * 140_000,
    "special tokens": "<|endoftext|><|fim_prefix|><|endofprompt|>" * 24_000,
    "half surrogates": "\ud800" * 1_000_000,
}


def reference(text: str, encoding: str) -> int:
    """The count of tiktoken itself."""
    return len(tiktoken.get_encoding(encoding).encode_ordinary(text))


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("gpt-4o", O200K),
        ("gpt-4o-mini-2024-07-18", O200K),
        ("chatgpt-4o-latest", O200K),
        ("gpt-4.1-nano", O200K),
        ("ft:gpt-4.1-mini-2025-04-14:acme::BX1", O200K),
        ("ft:gpt-4o-2024-08-06:acme:suffix:id", O200K),
        ("ft:o4-mini-2025-04-16:acme::1", O200K),
        ("ft:gpt-4-0613:acme::1", CL100K),
        ("ft:gpt-3.5-turbo:acme::1", CL100K),
        ("gpt-4", CL100K),
        ("gpt-4-32k-0613", CL100K),
        ("gpt-4-turbo-2024-04-09", CL100K),
        ("gpt-35-turbo", CL100K),
        ("gpt-5", O200K),
        ("gpt-5.6-sol", O200K),
        ("o1", O200K),
        ("o3-mini", O200K),
        ("o4-mini", O200K),
        ("openai/gpt-4o", O200K),
        ("openrouter/openai/gpt-4", CL100K),
        ("Azure/GPT-4o", O200K),
        ("text-embedding-3-small", CL100K),
        ("gpt-oss-120b", "tiktoken:o200k_harmony"),
    ],
)
def test_encoding_follows_from_the_name_of_the_model(model: str, method: str) -> None:
    """Provider, fine-tune and date do not mislead; the count is tiktoken's and is called exact."""
    count = count_tokens(TEXT, model)

    assert count.method == method
    assert count.exact
    assert count == reference(TEXT, "cl100k_base" if method == CL100K else "o200k_base")


@pytest.mark.parametrize("model", ["gpt-6.2-astra", "gpt-image-1", "my-deployment", "mistral-7b"])
def test_unknown_family_is_counted_as_the_newest_and_marked(model: str) -> None:
    """A name nobody knows gets an estimate, not an error and not a claim."""
    count = count_tokens(TEXT, model)

    assert not count.exact
    assert count == reference(TEXT, "o200k_base")


def test_special_tokens_are_counted_as_the_text_they_are() -> None:
    """Text from users may contain what looks like a control token."""
    count = count_tokens("a <|endoftext|> b", "gpt-4o")

    assert count == reference("a <|endoftext|> b", "o200k_base")
    assert count > 5


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-opus-5"])
def test_hostile_text_is_counted_in_time(
    name: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A megabyte of anything neither fails nor crawls, and never counts as more than its bytes."""
    text = HOSTILE[name]
    count_tokens("loaded", model)

    start = time.thread_time()
    count = count_tokens(text, model)

    assert time.thread_time() - start < 2
    assert 0 < count <= len(text.encode("utf-8", "surrogatepass"))
    assert capfd.readouterr().err == ""  # where the encoder panics, it says so there
    if model.startswith("gpt"):
        encoding = "o200k_base" if model == "gpt-4o" else "cl100k_base"
        pieces = [text[start : start + 50_000] for start in range(0, len(text), 50_000)]
        assert count == pytest.approx(sum(reference(piece, encoding) for piece in pieces), rel=0.01)


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_cutting_a_long_text_does_not_change_its_count(encoding: str) -> None:
    """A long text is encoded in pieces; prose and code come out as in one piece."""
    words = random.Random(3)
    sample = (
        "The  quick\n\n    brown fox: jumps(over=1, 'lazy') dogs’ 42 times; ñandú 你好, it's so. "
    )
    text = "".join(words.choice(sample.split(" ")) + " " for _ in range(120_000))
    model = "gpt-4o" if encoding == "o200k_base" else "gpt-4"

    assert len(text) > 500_000
    assert count_tokens(text, model) == reference(text, encoding)


def test_threads_count_the_same() -> None:
    """Counting from many threads at once gives what one thread gets."""
    texts = [f"{TEXT} {number}" * 40 for number in range(50)]
    expected = [reference(text, "o200k_base") for text in texts]
    results: dict[int, list[int]] = {}

    def count_all(place: int) -> None:
        results[place] = [count_tokens(text, "gpt-4o") for text in texts]

    threads = [threading.Thread(target=count_all, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(results.values()) == [expected] * 8


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), (" ", 1), ("tiktoken is great!", 6), ("hello world", 2)]
)
def test_small_texts(text: str, tokens: int) -> None:
    """Nothing has no tokens."""
    assert count_tokens(text, "gpt-4o") == tokens


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [("claude-sonnet-4-5", 1.18, 1.6), ("claude-opus-4-7", 1.53, 2.0), ("claude-new-9", 1.53, 2.0)],
)
def test_claude_estimate_errs_upwards_of_what_was_measured(
    model: str, least: float, most: float
) -> None:
    """tiktoken alone is 15 to 35 % under for Claude; the estimate says that it is one."""
    text = "The committee will meet on Tuesday to discuss the budget for the coming year. " * 50
    count = count_tokens(text, model)

    assert least <= count / reference(text, "o200k_base") <= most
    assert not count.exact
    assert count.method == "estimate:claude"


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-5-sonnet-20241022",
        "claude-sonnet-4-20250514",
        "claude-opus-4@20250514",
        "claude-opus-4-1-20250805",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "anthropic/claude-sonnet-4.6",
        "claude-sonnet-4-0",
        "claude-2.1",
    ],
)
def test_claude_generations_are_told_apart(model: str) -> None:
    """Models up to 4.6 have the older tokenizer, which makes fewer tokens."""
    text = "The committee will meet on Tuesday. " * 50

    assert count_tokens(text, model) < count_tokens(text, "claude-opus-4-8")
    assert count_tokens(text, "claude-opus-4-7") == count_tokens(text, "claude-fable-5-2")


def test_count_is_an_int_that_knows_more() -> None:
    """It computes, prints, pickles and copies as the int it is, and keeps what it knows."""
    count = count_tokens("hello world", "gpt-4o")

    assert isinstance(count, int)
    assert repr(count) == "2"
    assert f"{count:>3}" == "  2"
    assert count * 2.5 == 5
    pickled = [pickle.dumps(count, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for same in (*map(pickle.loads, pickled), copy.copy(count), copy.deepcopy(count)):
        assert (same, same.exact, same.method) == (2, True, O200K)
        assert type(same) is TokenCount


def test_output_of_a_broken_stream_is_never_called_exact() -> None:
    """What a model reasoned unseen is billed as well."""
    count = count_output("Once upon a time", "gpt-4o")

    assert count == 4
    assert not count.exact


@pytest.mark.parametrize(
    ("text", "model", "error", "words"),
    [
        (b"bytes", "gpt-4o", TypeError, "text must be a str, not bytes"),
        (None, "gpt-4o", TypeError, "text must be a str, not NoneType"),
        ("text", None, TypeError, "model must be a str, not NoneType"),
        ("text", "  ", ValueError, "model is empty"),
    ],
)
def test_bad_arguments_are_named(
    text: object, model: object, error: type[Exception], words: str
) -> None:
    """Wrong types are refused at once, in words that help."""
    with pytest.raises(error, match=words):
        count_tokens(text, model)  # type: ignore[arg-type]

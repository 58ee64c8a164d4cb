"""`costtrace estimate`: texts, conversations and batches, before they are sent."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli

from costtrace import count_message_tokens, count_tokens, estimate_cost

SKY = "Why is the sky blue?"
CHAT = [{"role": "user", "content": SKY}]


def written(path: str, *values: Any) -> str:
    Path(path).write_text("\n".join(json.dumps(value) for value in values) + "\n")
    return path


def test_a_text_is_one_message(cli: Cli):
    """Its tokens are those of a message, its cost is what the table says of them."""
    Path("prompt.txt").write_text(SKY)

    (row,) = cli(
        "estimate", "prompt.txt", "--model", "gpt-4o-mini", "--max-tokens", "300", "--json"
    ).json["models"]

    tokens = count_message_tokens(CHAT, "gpt-4o-mini")
    assert row["input_tokens"] == tokens
    assert row["is_exact"]
    assert row["max_cost_usd"] == f"{estimate_cost('gpt-4o-mini', tokens, 300):f}"
    assert row["input_cost_usd"] == f"{estimate_cost('gpt-4o-mini', tokens, 0):f}"


def test_models_stand_side_by_side(cli: Cli):
    """In the order they were asked for; each count says whether it is exact."""
    Path("prompt.txt").write_text(SKY)
    models = ("gpt-4o-mini", "claude-haiku-4-5")
    words = [word for model in models for word in ("--model", model)]

    done = cli("estimate", "prompt.txt", *words, "--max-tokens", "100")
    rows = cli("estimate", "prompt.txt", *words, "--max-tokens", "100", "--json").json["models"]

    assert [row["model"] for row in rows] == list(models)
    assert [row["is_exact"] for row in rows] == [True, False]
    assert "exact" in done.out
    assert "estimate:claude" in done.err


def test_standard_input_is_the_file_without_a_name(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """`-`, or nothing at all; what it is shows in the content."""

    def tokens(content: str, *words: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        options = ("--model", "gpt-4o-mini", "--max-tokens", "1", "--json")
        return int(cli("estimate", *words, *options).json["models"][0]["input_tokens"])

    expected = count_message_tokens(CHAT, "gpt-4o-mini")
    assert tokens(SKY) == expected
    assert tokens(SKY, "-") == expected
    assert tokens(json.dumps(CHAT)) == expected
    assert tokens(json.dumps({"messages": CHAT}, indent=2)) == expected
    assert tokens(f"{json.dumps(CHAT)}\n{json.dumps(CHAT)}") == 2 * expected


def test_a_batch_file_takes_the_batch_price(cli: Cli):
    """Each line with the model and the limit that it names; half of the standard price."""
    body = {"model": "gpt-4o-mini", "max_tokens": 100, "messages": CHAT}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}

    (batch,) = cli("estimate", written("b.jsonl", line, line), "--json").json["models"]
    (plain,) = cli("estimate", written("p.jsonl", body, body), "--json").json["models"]

    assert (batch["requests"], batch["max_output_tokens"]) == (2, 200)
    assert float(batch["max_cost_usd"]) * 2 == float(plain["max_cost_usd"])


def test_embeddings_have_no_output(cli: Cli):
    """By the model, or by where a batch sends them; lists are counted text by text."""
    body = {"model": "text-embedding-3-small", "input": [SKY, "Because."]}
    (row,) = cli("estimate", written("e.jsonl", body), "--json").json["models"]

    counts = [count_tokens(text, "text-embedding-3-small") for text in body["input"]]
    assert row["input_tokens"] == sum(counts)
    assert row["max_output_tokens"] == 0
    assert row["max_cost_usd"] == row["input_cost_usd"]


def test_several_answers_cost_several_outputs(cli: Cli):
    """`n` counts, and system prompts in Anthropic's place too."""
    request = {"model": "gpt-4o-mini", "n": 3, "max_tokens": 10, "messages": CHAT}
    claude = {"params": {"model": "claude-haiku-4-5", "max_tokens": 10, "messages": CHAT}}
    with_system = {"params": {**claude["params"], "system": "Be brief. " * 20}}

    (row,) = cli("estimate", written("n.jsonl", request), "--json").json["models"]
    (plain,) = cli("estimate", written("c.jsonl", claude), "--json").json["models"]
    (longer,) = cli("estimate", written("s.jsonl", with_system), "--json").json["models"]

    assert row["max_output_tokens"] == 30
    assert longer["input_tokens"] > plain["input_tokens"] + 40


def test_without_a_limit_the_model_may_say_all_it_can(cli: Cli):
    """The worst case of a call that names no maximum."""
    Path("prompt.txt").write_text(SKY)

    (row,) = cli("estimate", "prompt.txt", "--model", "gpt-4o-mini", "--json").json["models"]

    assert row["max_output_tokens"] == 16_384


def test_an_unknown_price_stays_unknown(cli: Cli):
    """Null, and said; never zero."""
    Path("prompt.txt").write_text(SKY)

    done = cli("estimate", "prompt.txt", "--model", "mystery", "--max-tokens", "5")
    (row,) = cli(
        "estimate", "prompt.txt", "--model", "mystery", "--max-tokens", "5", "--json"
    ).json["models"]

    assert done.status == 0
    assert "unpriced" in done.out
    assert "No price is known for 'mystery'" in done.err
    assert (row["input_cost_usd"], row["max_cost_usd"]) == (None, None)


def test_a_tier_without_a_price_is_named(cli: Cli):
    """The model has a price, in other tiers."""
    Path("prompt.txt").write_text(SKY)

    done = cli("estimate", "prompt.txt", "--model", "gpt-4o", "--max-tokens", "5", "--tier", "slow")

    assert "No price is known for 'gpt-4o' in the tier 'slow'" in done.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.jsonl", b'{"messages": []}\n\n{"messages": [', "x.jsonl, line 3: no JSON"),
        ("x.jsonl", b'{"messages": []}\n[1, 2', "x.jsonl, line 2: no JSON"),
        ("x.jsonl", b'{"model": "gpt-4o"}', 'x.jsonl, line 1: a request has "messages"'),
        ("x.jsonl", b'"text"', "x.jsonl, line 1: a request is a JSON object, not str"),
        ("x.json", b'{"messages": [\n{"role": "user"}}', "x.json, line 2: no JSON"),
        ("x.json", b'{"messages": 3}', 'x.json: "messages" is a list, not int'),
        ("x.json", b'{"messages": [{"content": 1}]}', "x.json: messages[0]"),
        ("x.txt", b"\xff\xfe\x00", "x.txt is no text in UTF-8: byte 0 is none"),
        ("x.txt", b"  \n", "x.txt is empty: there is nothing to estimate"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(cli: Cli, name: str, content: bytes, said: str):
    """Status 2 and one line, whatever is in the file."""
    Path(name).write_bytes(content)

    done = cli("estimate", name, "--model", "gpt-4o-mini", "--max-tokens", "1")

    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_what_is_missing_is_asked_for(cli: Cli):
    """A file, a model, a maximum."""
    Path("prompt.txt").write_text(SKY)

    assert "nowhere.txt cannot be read" in cli("estimate", "nowhere.txt").err
    assert "names no model: give one with --model" in cli("estimate", "prompt.txt").err
    unlimited = cli("estimate", "prompt.txt", "--model", "mystery")
    assert "how much 'mystery' may generate: say --max-tokens" in unlimited.err
    assert unlimited.status == 2


def test_the_kind_of_file_can_be_said(cli: Cli):
    """A text that looks like JSON is a text if the user says so."""
    Path("prompt.txt").write_text('{"messages": []}')
    options = ("--model", "gpt-4o-mini", "--max-tokens", "1", "--json")

    as_chat = cli("estimate", "prompt.txt", "--as", "chat", *options).json["models"][0]
    as_text = cli("estimate", "prompt.txt", *options).json["models"][0]

    assert as_text["input_tokens"] > as_chat["input_tokens"]

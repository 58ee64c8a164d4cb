"""`costtrace compare`: several models are asked the same, and a table says what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from costtrace import CostLedger
from costtrace.testing import LoopbackProvider, Received, Reply

Cli = Callable[..., Any]
MINI, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"


@pytest.fixture(autouse=True)
def _models(provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both SDKs find the provider in their environment."""

    def answer(received: Received) -> Reply:
        is_mini = received.body["model"] == MINI
        return Reply(text="Paris" if is_mini else "London", input_tokens=10, output_tokens=10)

    provider.script(answer)
    for name, value in provider.environ().items():
        monkeypatch.setenv(name, value)


def test_a_row_for_each_model(cli: Cli):
    """The table is the data; what it costs at most is a note, said before."""
    done = cli("compare", MINI, CLAUDE, "--prompt", "Capital of France?", "--expected", "Paris")

    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[2].split()[:3] == [MINI, "yes", "$0.000008"]
    assert lines[3].split()[:3] == [CLAUDE, "no", "$0.000060"]
    assert done.err.startswith("This costs $")


def test_questions_may_come_from_a_file(cli: Cli, tmp_path: Path, provider: LoopbackProvider):
    """Each with an expectation of its own."""
    lines = [
        {"prompt": "Capital of France?", "expected": "Paris"},
        {"messages": [{"role": "user", "content": "Capital of England?"}], "expected": "London"},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    done = cli("compare", MINI, "--file", file, "--runs", 2, "--max-tokens", 20, "--json")

    (row,) = done.json["models"]
    assert (row["correct_answers"], row["checked"], row["calls"]) == (2, 4, 4)
    assert (done.json["prompts"], done.json["runs"]) == (2, 2)
    assert {request.body["max_tokens"] for request in provider.model_calls} == {20}


def test_a_question_may_come_from_standard_input(shell: Cli, provider: LoopbackProvider):
    """In a process of its own; the answers are shown on request."""
    done = shell("compare", MINI, "--answers", env=provider.environ(), stdin="Capital of France?")

    assert done.status == 0
    assert done.out.endswith(f"{MINI}, question 1, run 1:\nParis\n")


def test_a_budget_stops_it(cli: Cli, provider: LoopbackProvider):
    """Exit status 1, with the rows so far."""
    done = cli(
        *("compare", MINI, CLAUDE, "--prompt", "Capital of France?"),
        *("--max-tokens", 10, "--budget", "0.00005"),
    )

    assert done.status == 1
    assert f"\n{MINI} " in done.out
    assert "Stopped: budget of user 'costtrace compare' exceeded" in done.out
    assert len(provider.model_calls) == 1


def test_nobody_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Exit status 1, and the reason."""
    monkeypatch.delenv("OPENAI_API_KEY")
    done = cli("compare", MINI, "--prompt", "Capital of France?")

    assert done.status == 1
    assert "OpenAIError" in done.out


def test_the_calls_are_entered_where_the_environment_says(
    shell: Cli, tmp_path: Path, provider: LoopbackProvider
):
    """In the ledger that other commands then report on."""
    path = tmp_path / "costs.db"
    env = {**provider.environ(), "COSTTRACE_DB": str(path)}
    done = shell("compare", MINI, "--prompt", "Hi", "--json", env=env)

    with CostLedger(path=path) as ledger:
        assert f"{ledger.spent(function_name='compare_models')}" == done.json["cost_usd"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("Capital of France?", "line 1: no JSON"),
        ('{"question": "Capital of France?"}', 'line 1: wants a "prompt"'),
        ('{"prompt": "4 + 4?", "expected": 8}', '"expected" must be a text'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    content: str, says: str, cli: Cli, tmp_path: Path, provider: LoopbackProvider
):
    """With the line; nothing is sent."""
    (tmp_path / "questions.jsonl").write_text(content)
    done = cli("compare", MINI, "--file", "questions.jsonl")

    assert done.status == 2
    assert says in done.err
    assert provider.requests == []


def test_without_a_question_nothing_is_asked(shell: Cli, provider: LoopbackProvider):
    """It says how to ask one."""
    done = shell("compare", MINI, env=provider.environ())

    assert done.status == 2
    assert "--prompt" in done.err

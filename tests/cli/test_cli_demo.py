"""`costtrace demo`: a whole application on this machine, and what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, Cli

from costtrace import CostLedger
from costtrace.testing import LoopbackProvider, Reply

FUNCTIONS = {
    "classify",
    "answer",
    "search",
    "explain",
    "draft",
    "summarise",
    "translate",
    "chat",
}


def entries(path: Path) -> list[Any]:
    with CostLedger(path=path) as ledger:
        assert ledger.verify() == []
        return list(ledger.entries)


def test_without_key_and_server_it_shows_everything(cli: Cli, tmp_path: Path):
    """Both SDKs, streams, embeddings, an alert, a refusal, the report, and what to look at next."""
    done = cli("demo")

    assert (done.status, done.err) == (0, "")
    assert "ALERT  90% of budget used: $0.0232 / $0.0250 (user carol)" in done.out
    assert "BudgetExceededError: budget of user 'carol' exceeded" in done.out
    assert "had seen 11 requests before that call, and has seen 11 now" in done.out
    assert "costtrace report of costtrace-demo.db" in done.out
    assert "costtrace report costtrace-demo.db --by user_id,function_name" in done.out
    assert str(tmp_path / "costtrace-demo.db") in done.out


def test_its_ledger_holds_every_call(cli: Cli, tmp_path: Path):
    """Eight functions, three users, two providers; exact, from the usage that was reported."""
    cli("demo", "--db", "x.db")
    found = entries(tmp_path / "x.db")

    assert {entry.function_name for entry in found} == FUNCTIONS
    assert {entry.user_id for entry in found} == {"alice", "bob", "carol"}
    assert {entry.provider for entry in found} == {"openai", "anthropic"}
    assert {entry.function_name for entry in found if entry.streamed} == {
        "explain",
        "draft",
        "summarise",
    }
    assert {entry.grade for entry in found} == {"reported"}
    assert {entry.call_path for entry in found if entry.function_name == "search"} == {
        ("answer", "search")
    }


def test_a_second_run_goes_on_in_the_same_file(cli: Cli, tmp_path: Path):
    """Carol's month is used up: her very first question is refused, and no second alert is sent."""
    cli("demo", "--db", "x.db")
    again = cli("demo", "--db", "x.db")

    assert "x.db is there already: its 11 calls still count." in again.out
    assert "had seen 7 requests before that call, and has seen 7 now" in again.out
    assert "ALERT" not in again.out
    assert len(entries(tmp_path / "x.db")) == 18


def test_json_is_the_whole_story_and_nothing_else(cli: Cli):
    """With the proof that a refused call was not sent."""
    document = cli("demo", "--db", "x.db", "--json").json

    assert document["is_live"] is False
    assert document["refused"]["user_id"] == "carol"
    assert document["refused"]["limit_usd"] == "0.025"
    assert document["refused"]["requests_before"] == document["refused"]["requests_after"] == 11
    assert document["alerts"] == ["90% of budget used: $0.0232 / $0.0250 (user carol)"]
    assert document["report"]["total"]["calls"] == 11


def test_a_proxy_does_not_get_in_its_way(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """On a machine where every request goes through one."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert cli("demo", "--db", "x.db").status == 0


def test_what_it_cannot_do_it_says(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file of something else, a folder that is not there, switched off."""
    (tmp_path / "other.db").write_text("something else" * 100)

    assert cli("demo", "--db", "other.db").status == 2
    assert "the folder" in cli("demo", "--db", "no/such/x.db").err
    monkeypatch.setenv("COSTTRACE_DISABLED", "1")
    done = cli("demo", "--db", "x.db")
    assert (done.status, done.out) == (2, "")
    assert "COSTTRACE_DISABLED is set" in done.err


def live(monkeypatch: pytest.MonkeyPatch, provider: LoopbackProvider, *names: str) -> None:
    for name, value in provider.environ().items():
        if name.startswith(names):
            monkeypatch.setenv(name, value)


def test_live_needs_a_key(cli: Cli, tmp_path: Path):
    """Before anything else happens."""
    done = cli("demo", "--live", "--yes")

    assert done.status == 2
    assert "--live needs OPENAI_API_KEY or ANTHROPIC_API_KEY" in done.err
    assert list(tmp_path.iterdir()) == []


def test_live_asks_before_it_spends(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, provider: LoopbackProvider
):
    """It says the maximum; without a terminal nobody can agree, and nothing is sent."""
    live(monkeypatch, provider, "OPENAI", "ANTHROPIC")

    done = cli("demo", "--live", "--db", "x.db")

    assert done.status == 2
    assert "It costs $0.0" in done.err
    assert "at most" in done.err
    assert "add --yes" in done.err
    assert provider.requests == []


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_live_does_as_it_is_told(
    tmp_path: Path, provider: LoopbackProvider, answer: bytes, status: int
):
    """On a terminal it asks; only a yes sends anything."""
    ours, theirs = os.openpty()
    os.write(ours, answer)
    done = subprocess.run(
        [sys.executable, "-m", "costtrace", "demo", "--live", "--db", "x.db"],
        stdin=theirs,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **provider.environ()},
        timeout=60,
    )
    os.close(ours)
    os.close(theirs)

    assert done.returncode == status
    assert "Go on? [y/N]" in done.stderr
    assert bool(provider.requests) is (status == 0)


@pytest.mark.parametrize("names", [("OPENAI", "ANTHROPIC"), ("OPENAI",), ("ANTHROPIC",)])
def test_live_stays_within_its_maximum(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: LoopbackProvider,
    names: tuple[str, ...],
):
    """With the keys that there are; what it costs is never more than what it said."""
    live(monkeypatch, provider, *names)

    done = cli("demo", "--live", "--yes", "--db", "x.db")
    maximum = Decimal(done.err.split("It costs $")[1].split()[0])
    found = entries(tmp_path / "x.db")

    assert done.status == 0
    assert {entry.provider for entry in found} == {name.lower() for name in names}
    assert 0 < sum(entry.cost_usd for entry in found) <= maximum
    assert len(found) == len(provider.requests)


def test_a_wrong_key_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, provider: LoopbackProvider
):
    """The provider's own words, without a traceback."""
    live(monkeypatch, provider, "OPENAI")
    provider.default = Reply(status=401, error="Incorrect API key provided")

    done = cli("demo", "--live", "--yes", "--db", "x.db")

    assert done.status == 2
    assert "costtrace: the provider refused: " in done.err
    assert "Incorrect API key provided" in done.err
    assert "Traceback" not in done.err

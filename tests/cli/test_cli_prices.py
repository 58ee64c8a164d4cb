"""`costtrace prices`: the list, one model, and price files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Cli

from costtrace import PriceTable


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps(
            {
                "models": {"house": {"input": "0.5", "output": 2}},
                "aliases": {"my-deployment": "gpt-4o"},
            }
        )
    )
    return path


def test_the_list_has_every_model(cli: Cli):
    """The table on standard output, what its numbers mean on standard error."""
    done = cli("prices")
    listed = cli("prices", "--json").json

    assert done.status == 0
    assert "USD per million tokens" in done.err
    assert {row["model"] for row in listed["models"]} == set(PriceTable.bundled().models())
    (mini,) = (row for row in listed["models"] if row["model"] == "gpt-4o-mini")
    assert mini["prices"] == {"input": "0.15", "cached_input": "0.075", "output": "0.6"}


def test_one_providers_models(cli: Cli):
    """A provider that nobody knows is an error."""
    listed = cli("prices", "--provider", "anthropic", "--json").json["models"]
    unknown = cli("prices", "--provider", "acme")

    assert {row["provider"] for row in listed} == {"anthropic"}
    assert unknown.status == 2
    assert "there are openai and anthropic" in unknown.err


def test_a_model_is_explained_with_its_sources(cli: Cli):
    """What it costs at a time, by tier, since when, and who says so."""
    text = cli("prices", "claude-sonnet-4-6", "--at", "2026-11-21").out
    document = cli("prices", "claude-sonnet-4-6", "--json").json

    assert "cache_write_5m" in text
    assert "Sources:" in text
    assert "At other times:" in text
    assert document["model"] == "claude-sonnet-4-6"
    assert {"input", "output"} <= {row["part"] for row in document["prices"]}
    assert all(isinstance(row["usd"], str) for row in document["prices"])


def test_another_date_has_other_prices(cli: Cli):
    """Before 2026-03-13 the long context of this model had a price of its own."""

    def contexts(at: str) -> str:
        return cli("prices", "claude-sonnet-4-6", "--at", at).out.split("At other times")[0]

    assert "long " in contexts("2026-03-01")
    assert "long " not in contexts("2026-03-13")


def test_a_dated_name_says_what_it_stands_for(cli: Cli):
    """And by which rule."""
    assert "(found as gpt-4o-mini, rule: alias)" in cli("prices", "gpt-4o-mini-2024-07-18").out


def test_an_unknown_model_is_no_guess(cli: Cli):
    """But names that are written alike are offered."""
    done = cli("prices", "claude-sonet-4-6")

    assert (done.status, done.out) == (2, "")
    assert "no price is known for 'claude-sonet-4-6'" in done.err
    assert "did you mean claude-sonnet-4-6" in done.err


def test_prices_of_ones_own_come_on_top(cli: Cli, own: Path, monkeypatch: pytest.MonkeyPatch):
    """By option, or by the variable that the library itself reads."""
    asked = cli("prices", "house", "--prices", own, "--json").json
    monkeypatch.setenv("COSTTRACE_PRICES", str(own))

    assert cli("prices", "house", "--json").json["prices"] == asked["prices"]
    assert [row["usd"] for row in asked["prices"]] == ["0.5", "2"]


def test_a_file_is_checked_as_a_whole(cli: Cli, own: Path):
    """A model that is named beside it would have been passed over."""
    for option in ("--check", "--diff"):
        done = cli("prices", "gpt-4o", option, own)
        assert (done.status, done.out) == (2, "")
        assert "not about 'gpt-4o'" in done.err


def test_a_file_is_checked(cli: Cli, own: Path, tmp_path: Path):
    """A gate: status 1 and everything that is wrong; oddities are told, and fail nothing."""
    (tmp_path / "bad.json").write_text('{"models": {"house": {"inputs": 1}}}')
    (tmp_path / "odd.json").write_text('{"models": {"house": {"input": 3, "output": 1}}}')

    good, bad = cli("prices", "--check", own), cli("prices", "--check", "bad.json")
    odd = cli("prices", "--check", "odd.json", "--json").json

    assert (good.status, good.out) == (0, f"{own} can be used.\n")
    assert (bad.status, bad.out) == (1, "")
    assert "unknown price 'inputs'" in bad.err
    assert odd["is_valid"]
    assert odd["oddities"] == ["'house': output costs less than input"]
    assert not cli("prices", "--check", "bad.json", "--json").json["is_valid"]


def test_a_file_is_compared(cli: Cli, own: Path):
    """What it adds and what it changes, aliases too."""
    changes = cli("prices", "--diff", own, "--json").json
    text = cli("prices", "--diff", own).out

    assert {(row["model"], row["part"], row["old"], row["new"]) for row in changes["prices"]} == {
        ("house", "input", None, "0.5"),
        ("house", "output", None, "2"),
    }
    assert changes["aliases"] == [{"name": "my-deployment", "old": None, "new": "gpt-4o"}]
    assert "my-deployment: - -> gpt-4o" in text


@pytest.mark.parametrize("option", ["--check", "--diff", "--prices"])
def test_a_missing_file_is_wrong_usage(cli: Cli, option: str):
    """Status 2, not that of a file that fails the check."""
    done = cli("prices", option, "nowhere.toml")

    assert (done.status, done.out) == (2, "")
    assert "there is no price file nowhere.toml" in done.err

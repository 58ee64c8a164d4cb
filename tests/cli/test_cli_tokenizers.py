"""`costtrace tokenizers`: what is on this machine, and fetching on request alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Cli


def test_the_list_says_what_is_here(cli: Cli):
    """The tests' own vocabularies are, others may be missing."""
    found = {one["name"]: one for one in cli("tokenizers", "--json").json["tokenizers"]}

    assert found["o200k_base"]["is_cached"]
    assert found["o200k_base"]["bytes"] > 1_000_000
    assert "gpt-4o" in found["o200k_base"]["models"]
    assert "o200k_base" in cli("tokenizers").out


def test_listing_fetches_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty cache stays empty."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))

    done = cli("tokenizers", "--json")

    assert not any(one["is_cached"] for one in done.json["tokenizers"])
    assert not (tmp_path / "cache").exists()


def test_what_is_here_is_not_fetched_again(cli: Cli):
    """Asked for one that is cached, it says where it is."""
    done = cli("tokenizers", "--fetch", "o200k_base")

    assert done.status == 0
    assert "o200k_base is in " in done.err


def test_an_unknown_tokenizer_is_wrong_usage(cli: Cli):
    """With the names that there are."""
    done = cli("tokenizers", "--fetch", "nonsense")

    assert (done.status, done.out) == (2, "")
    assert "no tokenizer is called 'nonsense': there are o200k_base" in done.err


def test_a_fetch_that_fails_is_status_1(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The network is not there, and the cache stays as it was."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    done = cli("tokenizers", "--fetch", "cl100k_base")

    assert done.status == 1
    assert "costtrace: cl100k_base could not be fetched: " in done.err
    assert not (tmp_path / "cache").exists()

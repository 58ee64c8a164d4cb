"""`costtrace doctor`: what is right, what is wrong, and no secrets."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli, Outcome
from waiting import wait_until

from costtrace import CostLedger, SQLiteStore

SECRET = "sk-very-secret-1234"


def findings(done: Outcome) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in done.json["findings"]}


def test_a_healthy_machine(cli: Cli):
    """Versions, both SDKs patched and restored, prices, tokenizers, settings."""
    done = cli("doctor", "--json")
    found = findings(done)

    assert done.status == 0
    assert done.json["is_healthy"]
    assert found["openai"]["verdict"] == found["anthropic"]["verdict"] == "ok"
    assert "restored exactly" in found["openai"]["text"]
    assert " old, " in found["prices"]["text"]
    assert "o200k_base" in found["tokenizers"]["text"]


def test_it_reads_well(cli: Cli):
    """One line for each finding, under its topic."""
    text = cli("doctor").out

    assert text.startswith("Versions\n  costtrace")
    assert "Taking part in calls" in text
    assert "Environment" in text


def test_keys_are_never_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Nor addresses, which may hold a password; only whether they are set."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://user:{SECRET}@example.com")

    text = cli("doctor").out + cli("doctor", "--json").out

    assert SECRET not in text
    assert findings(cli("doctor", "--json"))["OPENAI_API_KEY"]["text"] == "set"


def test_wrong_settings_are_problems(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A budget that is no amount, days that are none, a price file of no use: status 1."""
    (tmp_path / "bad.json").write_text('{"models": {"house": {"inputs": 1}}}')
    monkeypatch.setenv("COSTTRACE_BUDGET_USD", "plenty")
    monkeypatch.setenv("COSTTRACE_KEEP_DAYS", "0")
    monkeypatch.setenv("COSTTRACE_PRICES", str(tmp_path / "bad.json"))

    done = cli("doctor", "--json")
    problems = [one["name"] for one in done.json["findings"] if one["verdict"] == "problem"]

    assert done.status == 1
    assert problems == ["own prices", "COSTTRACE_BUDGET_USD", "COSTTRACE_KEEP_DAYS"]


def test_whoever_else_has_replaced_a_method_is_named(cli: Cli):
    """Another tool's wrapper on top of the SDK is told, and left in place."""
    import openai._base_client as base

    original = base.SyncAPIClient.request

    class Foreign:
        """A wrapper as instrumentation libraries put one on."""

        __module__ = "someone.else"

    wrapper = Foreign()
    base.SyncAPIClient.request = wrapper  # type: ignore[method-assign,assignment]
    try:
        found = cli("doctor", "--json").json["findings"]
        is_kept = vars(base.SyncAPIClient)["request"] is wrapper
    finally:
        base.SyncAPIClient.request = original  # type: ignore[method-assign]

    texts = [one["text"] for one in found if one["name"] == "openai"]
    assert "SyncAPIClient.request is replaced by another tool (someone.else, Foreign)" in texts
    assert is_kept


def test_switched_off_it_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """No call is seen, because somebody wanted it so."""
    monkeypatch.setenv("COSTTRACE_DISABLED", "1")

    assert "no call is seen" in findings(cli("doctor", "--json"))["openai"]["text"]


def test_a_ledgers_health(cli: Cli, costs: Path):
    """Entries, balances, schema."""
    found = findings(cli("doctor", costs, "--json"))

    assert found["entries"]["text"] == "3 entries, 3 calls, $0.0019"
    assert found["balances"]["verdict"] == "ok"
    assert found["schema"]["verdict"] == "ok"


def test_a_damaged_ledger_is_a_problem(cli: Cli, costs: Path, tmp_path: Path):
    """A file that is no database, and one whose numbers were changed behind the ledger's back."""
    (tmp_path / "no.db").write_text("nothing of the kind " * 100)
    with sqlite3.connect(costs) as connection:
        connection.execute("UPDATE entry SET cost_pico = cost_pico + 1")
    connection.close()

    broken, changed = cli("doctor", "no.db", "--json"), cli("doctor", costs, "--json")

    assert broken.status == changed.status == 1
    assert findings(broken)["file"]["verdict"] == "problem"
    assert findings(changed)["balances"]["verdict"] == "problem"
    assert cli("verify", costs).status == 1


def test_unpriced_calls_are_noted(cli: Cli, tmp_path: Path):
    """They are in no amount."""
    with CostLedger(path=tmp_path / "x.db") as ledger, pytest.warns(match="no price"):
        ledger.record("mystery-two", "answer", "alice", 1, 1)

    assert findings(cli("doctor", "x.db", "--json"))["unpriced"]["verdict"] == "note"


def test_what_waits_in_spools_is_told(cli: Cli, tmp_path: Path):
    """Of processes at work, of those that ended, and what cannot be read."""
    path = tmp_path / "costs.db"

    def spool() -> tuple[str, str]:
        found = findings(cli("doctor", str(path), "--json")).get("spool", {})
        return found.get("verdict", ""), found.get("text", "")

    def record(ledger: CostLedger) -> None:
        ledger.record("gpt-4o-mini", "f", "alice", 1_000, 0)

    other = sqlite3.connect(path, isolation_level=None)
    with CostLedger(store=SQLiteStore(path, timeout_s=0.1)) as ledger:
        assert spool() == ("", "")
        other.execute("BEGIN IMMEDIATE")
        record(ledger)
        verdict, text = spool()
        assert (verdict, "that wait: 1," in text, "at work" in text) == ("note", True, True)
        other.execute("ROLLBACK")
        wait_until(ledger.flush)
        assert spool() == ("", "")
        other.execute("BEGIN IMMEDIATE")
        record(ledger)
        record(ledger)
    verdict, text = spool()
    assert (verdict, "that wait: 2," in text, "that died" in text) == ("note", True, True)
    other.close()
    (left,) = Path(f"{path}-spool").iterdir()
    left.write_bytes(left.read_bytes().replace(b"alice", b"malic", 1))
    assert findings(cli("doctor", str(path), "--json"))["spool"]["verdict"] == "problem"

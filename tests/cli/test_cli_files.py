"""`costtrace export`, `import`, `verify`, `backup`: a ledger's entries, moved and kept."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import SECOND, Cli

from costtrace import CostLedger, Usage


def entries(path: Path) -> list[Any]:
    with CostLedger(path=path) as ledger:
        assert ledger.verify() == []
        return list(ledger.entries)


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """One entry with every field set, and one of unknown cost with none that has a default."""
    path = tmp_path / "rich.db"
    usage = Usage(
        input_tokens=1000,
        output_tokens=100,
        cache_read_tokens=200,
        cache_write_tokens=300,
        cache_write_1h_tokens=300,
        reasoning_tokens=7,
        web_search_calls=2,
    )
    with CostLedger(path=path) as ledger:
        ledger.record(
            "claude-sonnet-4-6",
            "antworte_schön",
            'user "ä"\n',
            1000,
            100,
            usage=usage,
            cost_usd="0.000000000001",
            timestamp=datetime(2026, 11, 21, 10, 0, 0, 123456, timezone.utc),
            call_id="one",
            provider="anthropic",
            operation="messages",
            request_model="sonnet",
            call_path=("outer", "antworte_schön"),
            tags={"team": "search", "stage": "=1+1"},
            service_tier="batch",
            region="us",
            streamed=True,
            status="partial",
            grade="estimated",
            reserved_usd="0.5",
            duration_s=1.25,
            attempts=3,
            response_id="msg_1",
            price_id="anthropic/claude-sonnet-4-6#batch:00000000",
        )
        with pytest.warns(match="no price is known"):
            ledger.record("mystery-three", "f", "u", 1, 1, timestamp=SECOND, call_id="two")
    return path


def test_every_field_survives_the_way(cli: Cli, rich: Path, tmp_path: Path):
    """Out and in again: the same entries, to the last digit and microsecond."""
    cli("export", rich, "-o", "out.jsonl")
    done = cli("import", "new.db", "out.jsonl", "--json")

    assert done.json == {
        "schema": "costtrace.import",
        "schema_version": 1,
        "read": 2,
        "added": 2,
        "conflicts": [],
    }
    assert entries(tmp_path / "new.db") == entries(rich)
    assert entries(tmp_path / "new.db")[0].cost_usd == Decimal("0.000000000001")


def test_lines_stand_for_themselves(cli: Cli, rich: Path):
    """One JSON object for each entry; money is text, an unknown cost is null."""
    ledger, first, second, end = map(json.loads, cli("export", rich).out.splitlines())

    assert (ledger["kind"], end) == ("ledger", {"v": 2, "kind": "end", "lines": 3})
    assert first["v"] == 2
    assert first["owners"] == ["ledger", 'user:user "ä"\n']
    assert first["cost_usd"] == "0.000000000001"
    assert first["timestamp"] == "2026-11-21T10:00:00.123456+00:00"
    assert second["cost_usd"] is None


def test_an_import_again_changes_nothing(cli: Cli, costs: Path, tmp_path: Path):
    """Nor does one that overlaps."""
    cli("export", costs, "-o", "all.jsonl")
    cli("export", costs, "-o", "some.jsonl", "--since", "2026-11-21")

    counts = [
        cli("import", "new.db", name, "--json").json["added"]
        for name in ("some.jsonl", "all.jsonl", "all.jsonl")
    ]

    assert counts == [2, 1, 0]
    assert len(entries(tmp_path / "new.db")) == 3


def test_what_contradicts_the_ledger_stays_out(cli: Cli, costs: Path):
    """The same call at another cost: the first one stands, and the status is 1."""
    cli("export", costs, "-o", "all.jsonl")
    changed = Path("all.jsonl").read_text().replace('"0.00021"', '"0.5"')
    Path("changed.jsonl").write_text(changed)

    done = cli("import", costs, "changed.jsonl")

    assert done.status == 1
    assert "0 entries came in, 1 was there already" in done.err
    assert done.err.count("another cost") == 2
    assert cli("report", costs, "--json").json["total"]["cost_usd"] == "0.00192"


def test_standard_input_and_output_will_do(shell: Cli, costs: Path, tmp_path: Path):
    """From one ledger into another, through a pipe."""
    exported = shell("export", costs)
    done = shell("import", "new.db", "-", stdin=exported.out)

    assert done.status == 0
    assert entries(tmp_path / "new.db") == entries(costs)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: no JSON"),
        ("[]", "line 2: an entry is a JSON object, not list"),
        ("{}", "line 2: no entry as `costtrace export` writes it"),
        ('{"v": 1}', "line 2: no field 'model'"),
        ('{"mood": "good"}', "line 2: unknown field 'mood'"),
        ('{"cost_usd": 0.1}', "line 2: cost_usd must be a text such as '0.0021', not 0.1"),
        ('{"cost_usd": "much"}', "line 2: cost_usd is no amount: 'much'"),
        ('{"timestamp": "2026-11-21T10:00:00"}', "line 2: timestamp must have a zone"),
        ('{"timestamp": "yesterday"}', "line 2: "),
        ('{"usage": {"input_tokens": -1}}', "line 2: input_tokens must not be negative"),
        ('{"usage": {"smiles": 1}}', "line 2: usage has an unknown count 'smiles'"),
        ('{"tags": {"team": 1}}', "line 2: tags must be an object of texts"),
        ('{"call_path": "answer"}', "line 2: call_path must be a list of texts"),
        ('{"user_id": ""}', "line 2: user_id must be a text, not ''"),
        ('{"provider": 5}', "line 2: provider must be a text, not 5"),
        ('{"operation": []}', "line 2: operation must be a text, not []"),
        ('{"response_id": {}}', "line 2: response_id must be a text, not {}"),
        ('{"price_id": -1}', "line 2: price_id must be a text, not -1"),
        ('{"streamed": "no"}', "line 2: streamed must be True or False, not 'no'"),
        ('{"attempts": 1.5}', "line 2: attempts must be an int, not float 1.5"),
        ('{"duration_s": "long"}', "line 2: duration_s must be a number of seconds"),
        ('{"status": "fine"}', "line 2: status must be 'ok', 'error', 'partial' or 'raised'"),
        ('{"grade": 5}', "line 2: grade must be 'reported'"),
        ('{"cost_usd": "1e30"}', "line 2: cost_usd of Decimal('1E+30') US dollars is above"),
        ('{"model": "\\ud800"}', "line 2: model holds half a surrogate pair"),
    ],
)
def test_a_line_that_is_wrong_keeps_all_of_it_out(
    cli: Cli, costs: Path, tmp_path: Path, line: str, said: str
):
    """It is named with its number; no ledger is made of half a file."""
    good = cli("export", costs, "--since", "2026-11-01").out.splitlines()[0]
    if line.startswith('{"') and line != '{"v": 1}':
        line = json.dumps({**json.loads(good), "call_id": "x", **json.loads(line)})
    Path("bad.jsonl").write_text(f"{good}\n{line}\n")

    done = cli("import", "new.db", "bad.jsonl")

    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "new.db").exists()


def test_missing_files_are_named(cli: Cli, costs: Path):
    """And none of them is made."""
    assert "there is no file no.jsonl" in cli("import", "new.db", "no.jsonl").err
    assert not Path("new.db").exists()
    assert "cannot be written" in cli("export", costs, "-o", "no/such/folder").err


def test_a_sound_ledger_passes(cli: Cli, costs: Path):
    """Status 0, and how much there is."""
    done = cli("verify", costs)

    assert done.status == 0
    assert "3 entries, and every balance is their sum." in done.out
    assert cli("verify", costs, "--json").json["differences"] == []


def test_a_backup_is_a_ledger(cli: Cli, costs: Path, tmp_path: Path):
    """It can be looked at like any other; a file that is there is kept."""
    done = cli("backup", costs, "copy.db")
    again = cli("backup", costs, "copy.db")

    assert done.status == 0
    assert again.status == 2
    assert "a backup never replaces one" in again.err
    assert cli("report", "copy.db", "--json").json["total"]["cost_usd"] == "0.00192"
    assert entries(tmp_path / "copy.db") == entries(costs)

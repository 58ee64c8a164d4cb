"""A whole ledger moved by command line from a file to PostgreSQL, Redis or another file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import SECOND, Cli

from costtrace import CostLedger, MemoryStore, budget

STORES = Path(__file__).parents[1] / "stores"
HOMES = ("sqlite", "postgres", "redis")
FACTORIES = """
import sys
sys.path.insert(0, {stores!r})
from homes import empty_home
from pathlib import Path
opened = {{}}
def open_store():
    if not opened:
        opened["make"] = empty_home({kind!r}, "cli_target", Path({folder!r}))
    return opened["make"]()
number = 3
def raises():
    return 3
"""


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a factory for an empty ledger of some kind."""
    module = f"home_of_{request.param}"
    text = FACTORIES.format(stores=str(STORES), kind=request.param, folder=str(tmp_path))
    (tmp_path / f"{module}.py").write_text(text)
    path = list(sys.path)
    yield f"{module}:open_store"
    sys.path[:] = path
    sys.modules.pop(module, None)


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A ledger with budgets, nested and of several windows, alerts, and pruned entries."""
    path = tmp_path / "busy.db"
    with CostLedger(path=path, budget_usd=1, clock=lambda: SECOND) as ledger:
        ledger.record("gpt-4o", "old", "alice", 900, 90, timestamp=SECOND - timedelta(days=50))
        ledger.prune(SECOND - timedelta(days=40))
        with (
            budget("team", 2, window="month", ledger=ledger),
            budget("alice", "0.01", window="day", ledger=ledger) as b,
        ):
            b.record("0.0095")
        ledger.record("gpt-4o", "nightly", "bob", 90_000, 9_000, tags={"team": "search"})
        hold = budget("carol", 3, ledger=ledger).authorize("0.25")
        del hold
        nightly = next(e for e in ledger.entries if e.function_name == "nightly")
        less = replace(nightly, call_id="less", cost_usd=Decimal("-0.001"), adjusts=nightly.call_id)
        ledger.store.settle(less, ("ledger", "user:bob"))
    return path


def facts(cli: Cli, *words: object) -> Any:
    done = cli(*words, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    for name in ("source", "created_at"):
        found.pop(name, None)
    return found


@pytest.mark.parametrize("home", HOMES, indirect=True)
def test_file_moves_to_each_home_and_back(cli: Cli, busy: Path, home: str):
    """All reports and budgets are the same there, twice, and in a file made of it again."""
    asked = [
        ("report", "--by", by)
        for by in ("function_name", "user_id", "model", "day", "call_path", "tag:team", "grade")
    ]
    asked += [("budgets",), ("report", "--since", "2026-11-01"), ("verify",)]
    before = [facts(cli, command, busy, *rest) for command, *rest in asked]

    assert cli("export", busy, "-o", "whole.jsonl").status == 0
    first = cli("import", "--store", home, "whole.jsonl", "--json")
    second = cli("import", "--store", home, "whole.jsonl", "--json")

    assert first.json["conflicts"] == second.json["conflicts"] == []
    assert (first.json["added"] > 0, second.json["added"]) == (True, 0)
    assert [facts(cli, c, "--store", home, *rest) for c, *rest in asked] == before
    assert cli("export", "--store", home, "-o", "again.jsonl").status == 0
    assert cli("import", "copy.db", "again.jsonl").status == 0
    assert [facts(cli, command, "copy.db", *rest) for command, *rest in asked] == before


def test_file_that_was_cut_off_stays_out(cli: Cli, busy: Path):
    """Half of a ledger is no ledger."""
    whole = cli("export", busy).out.splitlines()
    Path("half.jsonl").write_text("\n".join(whole[:-1]))

    done = cli("import", "new.db", "half.jsonl")

    assert (done.status, Path("new.db").exists()) == (2, False)
    assert "was cut off after line" in done.err


def test_lines_of_the_first_version_come_in(cli: Cli, costs: Path):
    """They name no owners: the ledger and the user pay."""
    lines = [json.loads(line) for line in cli("export", costs, "--since", "9000d").out.splitlines()]
    for line in lines:
        line["v"] = 1
        assert line.pop("owners") == ["ledger", f"user:{line['user_id']}"]
    Path("old.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    assert cli("import", "new.db", "old.jsonl").status == 0
    assert facts(cli, "report", "new.db") == facts(cli, "report", costs)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", ""),
        ("provider", 5),
        ("response_id", ["x"]),
        ("cost_usd", "much"),
        ("status", "fine"),
        ("grade", "exact"),
        ("streamed", "no"),
        ("attempts", -1),
        ("duration_s", "long"),
        ("duration_s", -1),
        ("timestamp", "noon"),
        ("timestamp", 1_795_348_830),
        ("usage", {"words": 5}),
        ("tags", "blue"),
        ("call_path", "answer"),
    ],
)
def test_each_field_of_an_entry_is_checked(cli: Cli, costs: Path, field: str, value: Any):
    """Before it comes in: what a store cannot keep would wait for it, and others behind that."""
    first, *_ = cli("export", costs, "--since", "9000d").out.splitlines()
    line = {**json.loads(first), field: value}
    Path("bad.jsonl").write_text(json.dumps(line))

    done = cli("import", "new.db", "bad.jsonl")

    assert (done.status, Path("new.db").exists()) == (2, False)
    assert done.err.count("\n") == 1
    assert "bad.jsonl, line 1: " in done.err
    assert field in done.err or "words" in done.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"v": 3, "kind": "wish"}, "written by a newer costtrace: install that version"),
        ({"v": 2, "kind": "wish"}, "unknown kind 'wish'"),
        ({"v": 2, "kind": "budget"}, "no budget as `costtrace export` writes it: KeyError"),
        ({"v": 2, "kind": "gone", "number": 0, "totals": [[1]], "charges": []}, "not enough"),
    ],
)
def test_record_that_is_wrong_is_named(cli: Cli, line: dict[str, Any], said: str):
    """With its file and number, and nothing comes in."""
    Path("bad.jsonl").write_text(json.dumps(line))

    done = cli("import", "new.db", "bad.jsonl")

    assert (done.status, Path("new.db").exists()) == (2, False)
    assert "bad.jsonl, line 1: " in done.err
    assert said in done.err


@pytest.mark.parametrize("home", ["sqlite"], indirect=True)
def test_factory_that_makes_no_store_is_named(cli: Cli, home: str, costs: Path):
    """What is wrong with it, and how it is written."""
    module = home.partition(":")[0]
    for store, said in (
        ("nonsense", "write MODULE:FACTORY"),
        ("no_such_module:open", "no_such_module cannot be imported"),
        (f"{module}:nothing", "has no function nothing"),
        (f"{module}:number", "has no function number"),
        (f"{module}:raises", "store must be one of costtrace.stores"),
    ):
        done = cli("report", "--store", store)
        assert (done.status, done.out) == (2, "")
        assert said in done.err
    assert "name one ledger" in cli("report", costs, "--store", home).err
    assert "name one ledger" in cli("import", "x.jsonl").err
    assert "name one ledger" in cli("budgets").err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("unset", "def make():\n    return {}['COSTS_REDIS']\n", "make raised KeyError: 'COSTS_R"),
        ("halved", "def make(:\n", "halved cannot be imported: SyntaxError: "),
    ],
)
def test_factory_that_fails_is_one_line(cli: Cli, name: str, text: str, said: str):
    """Such as one whose server's address is not in the environment."""
    Path(f"{name}.py").write_text(text)

    done = cli("budgets", "--store", f"{name}:make")

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"costtrace: --store {name}:make: {said}")


def test_ledger_copies_itself(tmp_path: Path, busy: Path):
    """The same in Python: into another ledger or a store."""
    with CostLedger(path=busy) as ledger, CostLedger(path=tmp_path / "b.db") as copy:
        assert ledger.copy_to(copy).conflicts == []
        assert ledger.copy_to(copy).added == 0
        assert copy.totals(("user_id", "day")) == ledger.totals(("user_id", "day"))
        assert copy.total_cost == ledger.total_cost
        store = MemoryStore()
        ledger.copy_to(store)
        assert store.totals(["model"]) == ledger.totals(("model",))
        assert copy.verify() == []


def test_user_is_forgotten(cli: Cli, busy: Path):
    """Under a pseudonym every sum stays; the name is nowhere in the file or its log."""
    before = facts(cli, "report", busy)["total"]
    Path("keep.jsonl").write_text(cli("export", busy).out)
    assert b"alice" in busy.read_bytes()

    done = cli("forget", busy, "alice", "--as", "someone")

    assert done.status == 0
    assert "2 entries now belong to someone" in done.err
    assert facts(cli, "report", busy)["total"] == before
    for file in busy.parent.glob("busy.db*"):
        assert b"alice" not in file.read_bytes(), file
    assert "alice" not in cli("export", busy).out
    assert cli("verify", busy).status == 0


def test_nobody_to_forget_is_said(cli: Cli, costs: Path):
    """Somebody unknown or forgotten before: status 1; "anon" is nobody: status 2."""
    assert cli("forget", costs, "alice", "--json").json["entries"] == 2
    for user in ("alice", "mallory"):
        done = cli("forget", costs, user, "--json")
        assert done.status == 1
        assert (done.json["is_known"], done.json["pseudonym"]) == (False, None)
    assert "knows no user 'alice'" in cli("forget", costs, "alice").err
    done = cli("forget", costs, "anon")
    assert (done.status, "nobody to forget" in done.err) == (2, True)
    done = cli("forget", costs, "mallory", "--as", "bob")
    assert (done.status, "two users would become one" in done.err) == (2, True)


def test_old_entries_go(cli: Cli, costs: Path):
    """What they add to every sum stays."""
    before = facts(cli, "report", costs)["total"]

    done = cli("prune", costs, "--before", "2026-11-21", "--json")

    assert done.json["pruned"] == 1
    assert facts(cli, "report", costs)["total"] == before
    assert len(cli("export", costs, "--since", "2020-01-01").out.splitlines()) == 2
    assert "0 entries are gone" in cli("prune", costs, "--before", "2026-11-21").err

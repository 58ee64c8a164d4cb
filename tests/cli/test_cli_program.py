"""The command line as a whole: help, usage errors, exit statuses, streams, colors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, Cli

import costtrace
from costtrace.cli.program import COMMANDS

HELP = {
    "demo": "run a small application against a provider on this machine, and report on it",
    "run": "run a Python script under a budget, and say what it cost",
    "report": "what was spent: by function, model and user, or any other way",
    "budgets": "where each budget stands; or what another one would have refused",
    "diff": "what changed between two ledgers: tokens, models, prices; a gate for CI",
    "estimate": "what a text, a conversation or a batch file will cost, before it is sent",
    "prices": "what a model costs, since when, and who says so",
    "tokenizers": "which vocabularies are on this machine; fetches them on request",
    "doctor": "check versions, patches, prices, settings, and a ledger's health",
    "verify": "check that a ledger's balances equal the sums of its entries",
    "export": "write a whole ledger, or some of its entries, as JSON lines",
    "import": "read JSON lines into a ledger of any home; each entry comes in once",
    "backup": "copy a ledger to a new file while others go on writing",
    "forget": "put a pseudonym in place of a user; every sum stays",
    "prune": "let old entries go; every sum stays",
}


def test_help_names_every_command(cli: Cli):
    """With one line on each, and nothing on standard error."""
    done = cli("--help")

    words = " ".join(done.out.split())
    assert done.status == 0
    assert done.err == ""
    assert all(f"{name} {text}" in words for name, text in {**HELP, **COMMANDS}.items())


@pytest.mark.parametrize("name", HELP)
def test_one_line_helps_stay_as_they_are(name: str):
    """Whoever changes what a command says of itself changes it here too."""
    assert COMMANDS[name] == HELP[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(cli: Cli, name: str):
    """`--help` tells how it is used, and begins with what it is for."""
    done = cli(name, "--help")

    assert done.status == 0
    assert done.out.startswith(f"usage: costtrace {name}")
    assert COMMANDS[name].split(";")[0][1:20] in " ".join(done.out.split())


def test_alone_it_prints_the_help(cli: Cli):
    """Nobody who tries it out is told off."""
    done = cli()

    assert (done.status, done.out) == (0, cli("--help").out)


def test_version(cli: Cli):
    """The version is that of the package."""
    assert cli("--version").out == f"costtrace {costtrace.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "there is no command 'nonsense' (costtrace --help)"),
        (["reprot", "x.db"], "there is no command 'reprot'; did you mean report?"),
        (["report", "x.db", "--bye", "day"], "--bye day; did you mean --by? (see costtrace report"),
        (["tokenizers", "x.db"], "arguments: x.db (see costtrace tokenizers --help)"),
        (["--verbose"], "missing: COMMAND (see costtrace --help)"),
        (["run"], "missing: SCRIPT (see costtrace run --help)"),
        (["report", "x.db", "--json", "--format", "csv"], "--format: not allowed with"),
        (["report", "x.db", "--stacks", "--json"], "--json: not allowed with"),
        (["report", "x.db", "--stacks", "--top", "3"], "leave out --by and --top"),
        *(
            ([name, "x.db", "--since", "2026-11-02", "--until", "2026-11-02"], "is not before")
            for name in ("report", "advise", "export", "budgets")
        ),
        (["budgets", "x.db", "--since", "7d"], "--since and --until go with --replay"),
        (["prices", "nonsense"], "`costtrace prices` lists all models"),
        (["reprice", "x.db", "--prices", "none.json"], "there is no price file none.json"),
        (["report"], "name one ledger: a file such as costs.db"),
        (["report", "x.db", "--frob"], "unrecognized arguments: --frob"),
        (["report", "x.db", "--format", "pdf"], "invalid choice: 'pdf'"),
        (["report", "x.db", "--since", "soon"], "'soon' is no time: write 2026-11-01"),
        (["report", "x.db", "--by", "mood"], "cannot group by 'mood'; known are function_name"),
        (["report", "x.db", "--top", "0"], "'0' is no whole number from 1 on"),
        (["report", "x.db", "--tag", "team"], "'team' is no tag: write name=value"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(cli: Cli, words: list[str], said: str):
    """What is wrong, and where to read on; nothing on standard output."""
    done = cli(*words)

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("costtrace: ")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["report", "budgets", "verify", "export", "doctor"])
def test_looking_at_a_ledger_never_makes_one(cli: Cli, tmp_path: Path, name: str):
    """A file that is not there is an error, and afterwards it is still not there."""
    done = cli(name, "missing.db")

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("costtrace: there is no ledger missing.db: name a file that")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ledger_is_said_and_kept(cli: Cli, tmp_path: Path):
    """A folder, an empty file, and a file of something else."""
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("this is no database, however long it is" * 20)

    assert "is a folder: name the ledger's file in it" in cli("report", tmp_path).err
    assert "empty.db is empty, and no ledger" in cli("report", "empty.db").err
    assert "file is not a database" in cli("report", "text.db").err
    assert cli("report", "text.db").status == 2
    assert (tmp_path / "empty.db").read_bytes() == b""


def test_no_command_but_those_that_call_loads_an_sdk(shell: Cli, costs: Path):
    """Nor does it load the other commands."""
    code = (
        "import sys; from costtrace.cli import main; main(['report', 'costs.db', '--json'])\n"
        "loaded = sys.modules.keys() & {'openai', 'anthropic', 'wrapt', 'tiktoken', 'asyncio',"
        " 'costtrace.cli.demo', 'costtrace.cli.prices'}\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stderr == ""
    assert done.returncode == 0


def test_one_is_not_several(cli: Cli, tmp_path: Path):
    """A single entry, call or line is spoken of as one."""
    with costtrace.CostLedger(path=tmp_path / "one.db") as ledger:
        ledger.record("gpt-4o-mini", "answer", "alice", 10, 10)

    assert "one.db: 1 entry, and every" in cli("verify", "one.db").out
    assert "1 entry, 1 call, $" in cli("doctor", "one.db").out
    assert "1 entry copied" in cli("backup", "one.db", "copy.db").err
    assert "1 entry written" in cli("export", "one.db", "-o", "one.jsonl").err
    assert "1 entry came in, 0 were there" in cli("import", "new.db", "one.jsonl").err
    assert "1 call, 1 of them" in cli("reprice", "one.db").out
    assert "1 entry now belongs to x" in cli("forget", "one.db", "alice", "--as", "x").err
    assert "1 entry is gone" in cli("prune", "one.db", "--before", "2999-01-01").err


def test_a_reader_that_left_ends_it_quietly(tmp_path: Path):
    """The status is the shell's for a closed pipe; there is no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "costtrace", "prices", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()

    assert (process.wait(), said) == (141, b"")


def test_interrupted_it_stops_quietly(shell: Cli, tmp_path: Path):
    """Ctrl-C: status 130, as shells count, and no traceback."""
    script = tmp_path / "stops.py"
    script.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for jobs\n"
        "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    )

    done = shell("run", script)

    assert (done.status, done.out) == (130, "")
    assert "Traceback" not in done.err


BOLD = "\x1b[1m"


@pytest.mark.parametrize(
    ("env", "is_bold"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)
def test_colors_are_for_those_who_want_them(
    cli: Cli, costs: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], is_bold: bool
):
    """Not into a pipe; FORCE_COLOR asks for them; NO_COLOR, set and not empty, forbids them."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    assert (BOLD in cli("report", costs).out) is is_bold


def test_colors_never_go_into_a_file(
    cli: Cli, costs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever FORCE_COLOR says of the terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")

    cli("report", costs, "-o", "out.txt")

    assert BOLD not in (tmp_path / "out.txt").read_text()

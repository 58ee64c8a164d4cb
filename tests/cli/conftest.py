"""A ledger to look at, and the command line in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import FIRST, ROOT, SECOND, Cli, Outcome

from costtrace import CostLedger
from costtrace.cli import main

DECIDED = ("COSTTRACE_", "NO_COLOR", "FORCE_COLOR", "OPENAI_", "ANTHROPIC_")
"""Variables that a test sets itself, or not at all."""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(DECIDED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Cli:
    """Run a command line in a process of its own; `env` adds to the environment."""

    def run(*words: object, env: dict[str, str] | None = None, stdin: str = "") -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "costtrace", *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    """Three calls: two of alice in `answer`, on two days, one of bob in `summarise`."""
    path = tmp_path / "costs.db"
    with CostLedger(path=path) as ledger:
        for at in (FIRST, SECOND):
            ledger.record(
                "gpt-4o-mini", "answer", "alice", 1000, 100, timestamp=at, tags={"team": "search"}
            )
        ledger.record("claude-haiku-4-5", "summarise", "bob", 1000, 100, timestamp=SECOND)
    return path

"""The tests of the stores are tested: each fault that is put in on purpose is found.

All of them take ten minutes, with COSTTRACE_TEST_MUTANTS=all; else every ninth one is tried, and
of the others it is made sure that they could be.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MACHINE, MUTANTS, Mutant
from servers import check_postgres, check_redis

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = 300
TRIED = MUTANTS if os.environ.get("COSTTRACE_TEST_MUTANTS") == "all" else MUTANTS[::9]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the stores and of their tests."""
    for name in ("costtrace", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "data", "notebooks")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(copy: Path, test: str, examples: int) -> subprocess.CompletedProcess[str]:
    """Run one test in the copy."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", f"tests/stores/{test}", "-x"),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0"),
            "--hypothesis-profile=unshrunk",
        ],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "COSTTRACE_TEST_EXAMPLES": str(examples)},
        capture_output=True,
        text=True,
        timeout=200,
    )


def needs(kind: str) -> None:
    """Skip where the server is missing."""
    {"postgres": check_postgres, "redis": check_redis}.get(kind, lambda: None)()


def test_each_fault_can_still_be_put_in(copy: Path) -> None:
    """The texts that are replaced stand in the code, each once."""
    stores = copy / "costtrace" / "stores"
    whole = {path: path.read_text() for path in stores.glob("*.py")}
    for mutant in MUTANTS:
        for change in mutant.changes:
            change.apply(stores)
        for path, text in whole.items():
            path.write_text(text)


@pytest.mark.parametrize("kind", MACHINE)
def test_no_fault_is_found_where_there_is_none(kind: str, copy: Path) -> None:
    """In a copy as it is nothing fails: what fails in the others does so for the fault's sake."""
    needs(kind)
    done = run(copy, MACHINE[kind], examples=2)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("mutant", TRIED, ids=lambda mutant: f"{mutant.kind}: {mutant.name}")
def test_fault_is_found(mutant: Mutant, copy: Path) -> None:
    """In the copy the test that is meant for it fails."""
    needs(mutant.kind)
    for change in mutant.changes:
        change.apply(copy / "costtrace" / "stores")

    done = run(copy, mutant.killer, examples=EXAMPLES)

    assert done.returncode == 1, f"survived: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert re.search(r"^1 failed", done.stdout.splitlines()[-1]), done.stdout[-2000:]

"""Run the call table on several generations of the SDKs: `python -m tests.sdk_matrix`.

Each pair of SDKs gets a virtual environment of its own, made once under the user's cache folder.
With `--table` the cells that passed are written as a table in Markdown, `--short` with one number
for each call and pair; `--readme check` compares the short one with the README's, `--readme write`
puts it there. Exit status 1 when any test failed, or the README's table says something else.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MARK = "<!-- table: python -m tests.sdk_matrix --readme write -->"
TESTS = [
    f"tests/instrumentation/test_{name}.py"
    for name in ("call_table", "streams_left_early", "asking_for_usage")
]
TOOLS = ("wrapt >= 2.4", "tiktoken >= 0.13", "pytest >= 8")


@dataclass(frozen=True)
class Pair:
    """Two SDKs of about the same age."""

    openai: str
    anthropic: str
    besides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"openai {self.openai}, anthropic {self.anthropic}"

    @property
    def requirements(self) -> list[str]:
        sdks = [f"openai=={self.openai}", f"anthropic=={self.anthropic}"]
        return [*sdks, *self.besides, *TOOLS]


PAIRS = (
    Pair("3.54.0", "2.12.0"),
    Pair("2.54.0", "1.17.0"),
    Pair("1.109.1", "0.125.0"),
    Pair("1.40.0", "0.43.0", ("httpx < 0.28",)),
)


@dataclass(frozen=True)
class Outcome:
    """What became of the tests on one pair."""

    pair: Pair
    is_passed: bool
    said: str
    seconds: float
    cells: list[dict[str, object]]


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sdk_matrix", description=__doc__)
    parser.add_argument("--table", type=Path, help="write the cells that passed to this file")
    parser.add_argument("--short", action="store_true", help="one number for each call and pair")
    parser.add_argument("--readme", choices=("check", "write"), help="the table in README.md")
    parser.add_argument("--jobs", type=int, default=2, help="pairs that run at the same time")
    parser.add_argument("pairs", nargs="*", help="versions of openai; all without any")
    options = parser.parse_args(arguments)
    pairs = [pair for pair in PAIRS if not options.pairs or pair.openai in options.pairs]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(run, pairs))
    for outcome in outcomes:
        mark = "passed" if outcome.is_passed else "FAILED"
        print(f"{mark}: {outcome.pair.name} ({outcome.seconds:.0f} s) {outcome.said}")
    if options.table:
        options.table.write_text(short_table(outcomes) if options.short else table(outcomes))
    is_right = options.readme is None or renew(short_table(outcomes), options.readme == "write")
    return 0 if is_right and all(outcome.is_passed for outcome in outcomes) else 1


def renew(short: str, is_written: bool) -> bool:
    """Compare the README's table with what has passed, or write it there; tell if it is right."""
    text = README.read_text()
    said = in_readme(text)
    if said == short:
        return True
    if is_written:
        README.write_text(text.replace(said, short))
        return True
    lines = difflib.unified_diff(said.splitlines(), short.splitlines(), "README.md", "passed", n=0)
    print("\n".join(lines), "\nto renew it: python -m tests.sdk_matrix --readme write", sep="\n")
    return False


def in_readme(text: str) -> str:
    """Return the README's table."""
    return text.partition(f"{MARK}\n\n")[2].partition("\n\n")[0] + "\n"


def run(pair: Pair) -> Outcome:
    """Run the tests on one pair."""
    started = time.monotonic()
    python = environment(pair)
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder) / "cells.jsonl"
        command = [str(python), "-m", "pytest", *TESTS, "-W", "default", "--disable-warnings"]
        command += ["--tb=short", "-p", "tests.sdk_matrix.absent", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COSTTRACE_TABLE": str(cells)},
            capture_output=True,
            text=True,
        )
        lines = cells.read_text().splitlines() if cells.exists() else []
    is_passed = done.returncode == 0
    said = done.stdout.strip().splitlines()[-1] if is_passed else f"\n{done.stdout}{done.stderr}"
    return Outcome(
        pair, is_passed, said, time.monotonic() - started, [json.loads(line) for line in lines]
    )


def environment(pair: Pair) -> Path:
    """Return the Python of a pair's virtual environment, which is made where it is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "costtrace-tests" / f"sdks-{version}-{pair.openai}-{pair.anthropic}"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(pair.requirements)
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *pair.requirements]
        subprocess.run(command, check=True, timeout=600)
        installed.write_text(wanted)
    return python


def table(outcomes: Iterable[Outcome]) -> str:
    """Return every cell: calls down, shapes across, and in each the pairs it passed on."""
    outcomes = list(outcomes)
    passed: dict[tuple[str, str], dict[int, set[bool]]] = defaultdict(lambda: defaultdict(set))
    for number, outcome in enumerate(outcomes, start=1):
        for cell in outcome.cells:
            key = (str(cell["call"]), str(cell["shape"]))
            passed[key][number].add(bool(cell["is_async"]))
    calls = list(dict.fromkeys(call for call, _ in passed))
    shapes = list(dict.fromkeys(shape for _, shape in passed))
    lines = [f"{number}: {o.pair.name}  " for number, o in enumerate(outcomes, start=1)]
    lines += ["", "Each number: one exact entry on that pair, synchronous and asynchronous.", ""]
    lines += _row(["call", *shapes]) + _row(["---"] * (len(shapes) + 1))
    for call in calls:
        found = [passed.get((call, shape), {}) for shape in shapes]
        marks = [" ".join(str(n) for n in sorted(one) if len(one[n]) == 2) for one in found]
        lines += _row([f"`{call}`", *marks])
    return "\n".join(lines) + "\n"


def short_table(outcomes: Iterable[Outcome]) -> str:
    """Return how many cells of each call passed on each pair."""
    outcomes = list(outcomes)
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(outcomes))
    for number, outcome in enumerate(outcomes):
        for cell in outcome.cells:
            counts[str(cell["call"])][number] += 1
    lines = _row(["call", *(outcome.pair.name for outcome in outcomes)])
    lines += _row(["---"] + ["---:"] * len(outcomes))
    for call, found in counts.items():
        lines += _row([f"`{call}`", *(str(count or "-") for count in found)])
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines += _row(["all", *map(str, total)])
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


if __name__ == "__main__":
    sys.exit(main())

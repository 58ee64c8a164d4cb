"""Other tools doing the same call: `python -m tests.benchmarks --rivals [folder]`.

Each is installed with the same openai into a virtual environment of its own. Processes of the bare
SDK and of the tool take turns in that environment, and so do those of costtrace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.measuring import COSTS, Cost, heading, show_costs

RIVALS = {  # distribution -> what to install for it
    "shekel": ("shekel==1.2.0",),
    "agentbudget": ("agentbudget==0.4.0",),
    "budget-guard-llm": ("budget-guard-llm==0.1.2",),
    "opentelemetry-instrumentation-openai": (
        "opentelemetry-instrumentation-openai",
        "opentelemetry-sdk",
    ),
    "langfuse": ("langfuse",),
}
HELP = "other tools too, in virtual environments that are made (and kept) in FOLDER"
ROOT = Path(__file__).parents[2]


class NotInstalledError(Exception):
    """A tool could not be installed, or does not run; the message is the reason."""


def installed(name: str, folder: Path) -> Path:
    """Return the Python that has a tool; raise `NotInstalledError` where there is none."""
    home = folder / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        wanted = [f"openai=={version('openai')}", *RIVALS[name]]
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalledError(last_line(done.stderr))
    return python


def version_of(name: str, python: Path) -> str:
    """Return the version of a tool in its environment."""
    program = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def rounds_of(name: str, python: Path | str) -> list[float]:
    """Return the rounds of one process."""
    done = subprocess.run(
        [python, "-m", "tests.benchmarks.rival_calls", name],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise NotInstalledError(last_line(done.stderr))
    rounds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rounds


def compare(name: str, python: Path | str, processes: int) -> dict[str, Cost]:
    """Return what the bare call and that of a tool cost; their processes take turns."""
    seen: dict[str, list[float]] = {"bare": [], name: []}
    for _ in range(processes):
        for each, rounds in seen.items():
            rounds += rounds_of(each, python)
    return {each: Cost.of(rounds) for each, rounds in seen.items()}


def last_line(text: str) -> str:
    """Return why something failed, as it said itself."""
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def main(folder: str = "", processes: int = 4) -> None:
    """Print the group."""
    heading("The same call with other tools", COSTS)
    with tempfile.TemporaryDirectory() as temporary:
        show_costs(compare("costtrace", sys.executable, processes), "bare")
        for name in RIVALS:
            try:
                python = installed(name, Path(folder or temporary))
                found = compare(name, python, processes)
            except NotInstalledError as error:
                print(f"  {name}: not measured: {error}", flush=True)
                continue
            shown = f"{name.replace('opentelemetry', 'otel')} {version_of(name, python)}"
            show_costs({"bare": found["bare"], shown: found[name]}, "bare")


if __name__ == "__main__":
    main(*sys.argv[1:2])

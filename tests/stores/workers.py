"""Processes that work on one ledger: `python SCRIPT WORK ...`, started together and watched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

at_work: list[subprocess.Popen[str]] = []
"""What a test has started and not seen the end of."""


def ending_with_us() -> list[str]:
    """What makes a program end when the tests are killed."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def kill_what_is_left() -> None:
    """End the workers of a test that has failed: some would go on for ever."""
    while at_work:
        process = at_work.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


class Worker:
    """A started process. It waits for `go` once it has opened the ledger."""

    def __init__(self, script: str, name: str, *arguments: object) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
        self.process = subprocess.Popen(
            [*ending_with_us(), sys.executable, script, name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        at_work.append(self.process)

    def wait(self) -> None:
        """Return when it is ready."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> list[str]:
        """Kill it as hard as there is, and return what it had said in whole lines."""
        self.process.kill()
        said, _ = self.process.communicate()
        return said.splitlines() if said.endswith("\n") else said.splitlines()[:-1]

    def finish(self, timeout_s: float = 120) -> list[str]:
        """Wait for its end and return what it said."""
        said, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0
        return said.splitlines()


class Crew:
    """Starts the workers of one script."""

    def __init__(self, script: str) -> None:
        self._script = script

    def worker(self, name: str, *arguments: object) -> Worker:
        """Start one."""
        return Worker(self._script, name, *arguments)

    def started(self, name: str, count: int, *arguments: object) -> list[Worker]:
        """Start several of a kind, and let them go together."""
        workers = [self.worker(name, *arguments) for _ in range(count)]
        for worker in workers:
            worker.wait()
        for worker in workers:
            worker.go()
        return workers

    def run_all(self, name: str, count: int, *arguments: object) -> list[list[str]]:
        """Run several of a kind at once and return what each said."""
        return [worker.finish() for worker in self.started(name, count, *arguments)]


def wait_for_go() -> None:
    """Say that all is ready, and wait."""
    print("ready", flush=True)
    sys.stdin.readline()


def do(work: Mapping[str, Callable[..., None]]) -> None:
    """Do what the command line says."""
    work[sys.argv[1]](*sys.argv[2:])

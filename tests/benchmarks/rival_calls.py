"""One tool beside the bare SDK, in a process of its own: `-m tests.benchmarks.rival_calls <name>`.

Prints the CPU microseconds of each round as JSON. Not all tools can be taken off again, so a round
is bare or not by the process it runs in; `rivals.py` lets the processes take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.sdk import ask, client

ROUNDS, CALLS = 40, 25
Opened = contextlib.AbstractContextManager[Any]


@contextmanager
def bare() -> Iterator[Any]:
    """Nothing around the SDK."""
    yield client()


@contextmanager
def costtrace() -> Iterator[Any]:
    """This package: attributed, reserved under a budget, settled and kept."""
    from costtrace import budget

    with budget("alice", 1_000_000, window="month"):
        yield client()


@contextmanager
def shekel() -> Iterator[Any]:
    """Adds up what the calls did cost."""
    from shekel import budget  # type: ignore[import-not-found]

    with budget(max_usd=1_000_000):
        yield client()


@contextmanager
def agentbudget() -> Iterator[Any]:
    """Adds up what the calls did cost."""
    import agentbudget as tool  # type: ignore[import-not-found]

    tool.init("$1000000", max_repeated_calls=10**9)
    yield client()
    tool.teardown()


@contextmanager
def budget_guard() -> Iterator[Any]:
    """Reserves an estimate for each user, then adds up."""
    import budget_guard as tool  # type: ignore[import-not-found]

    tool.configure(limits=tool.Limits(per_user=1_000_000), loop_detection=None)
    yield tool.guard(client(), user="alice", feature="answer")


@contextmanager
def opentelemetry() -> Iterator[Any]:
    """Makes a span of each call, which nobody exports."""
    from opentelemetry.instrumentation.openai import (  # type: ignore[import-not-found]
        OpenAIInstrumentor,
    )
    from opentelemetry.sdk.trace import TracerProvider  # type: ignore[import-not-found]

    OpenAIInstrumentor().instrument(tracer_provider=TracerProvider())
    yield client()


@contextmanager
def langfuse() -> Iterator[Any]:
    """Makes an observation of each call, for a server that is not there."""
    from langfuse import Langfuse  # type: ignore[import-not-found]
    from langfuse.openai import OpenAI  # type: ignore[import-not-found]

    Langfuse(public_key="none", secret_key="none", host="http://127.0.0.1:9", flush_interval=600)
    yield client(OpenAI)


TOOLS: dict[str, Callable[[], Opened]] = {
    "bare": bare,
    "costtrace": costtrace,
    "shekel": shekel,
    "agentbudget": agentbudget,
    "budget-guard-llm": budget_guard,
    "opentelemetry-instrumentation-openai": opentelemetry,
    "langfuse": langfuse,
}


def main(name: str) -> None:
    """Print the rounds."""
    warnings.simplefilter("ignore")
    rounds = []
    with TOOLS[name]() as sdk:
        for _ in range(3 * CALLS):
            ask(sdk)
        for _ in range(ROUNDS):
            start_ns = time.thread_time_ns()
            for _ in range(CALLS):
                ask(sdk)
            rounds.append((time.thread_time_ns() - start_ns) / CALLS / 1_000)
    print("\n" + json.dumps(rounds), flush=True)
    os._exit(0)  # one of them would wait long for a server that is not there


if __name__ == "__main__":
    main(sys.argv[1])

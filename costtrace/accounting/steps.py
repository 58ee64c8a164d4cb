"""Steps: rules that ask a store or a provider, or wait, written once as generators.

Whoever takes the steps runs them on the spot, or off an event loop.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Wait:
    """A step that waits for calls in flight to give back what they do not need."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """A step that asks a provider through the caller's own client, which is sync or async."""

    now: Callable[[], Any]
    later: Callable[[], Awaitable[Any]]


Step: TypeAlias = "Callable[[], Any] | Wait | Ask"
Steps: TypeAlias = "Generator[Step, Any, Any]"


def take(steps: Steps) -> Any:
    """Take the steps one after another in this thread; return what they come to."""
    answer: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as done:
            return done.value
        answer, failure = None, None
        try:
            if isinstance(step, Wait):
                time.sleep(step.seconds)
            elif isinstance(step, Ask):
                answer = step.now()
            else:
                answer = step()
        except BaseException as error:
            failure = error

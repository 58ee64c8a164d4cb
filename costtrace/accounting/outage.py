"""An outage: a store that let somebody wait in vain is not asked again until it answers.

So one call waits for the store's deadline, and not every one of them. A store that fails at once
needs none of this: asking it costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from costtrace.accounting.backlog import NEVER_TAKEN

SLOW_S = 0.1
"""An error that took longer than this has kept a call waiting."""
P = ParamSpec("P")
T = TypeVar("T")


class NotAsked(Exception):  # noqa: N818
    """The store was not asked, since it is away."""


class Outage:
    """Whether the store is away. Safe from any thread."""

    def __init__(self) -> None:
        self.is_on = False
        self._why = ""

    def ask(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a step of the store; raises what it raises, and `NotAsked` while it is away."""
        if self.is_on:
            raise NotAsked(f"it is away: {self._why}")
        started_s = time.monotonic()
        try:
            return step(*args, **kwargs)
        except NEVER_TAKEN:
            raise
        except Exception as error:
            if time.monotonic() - started_s > SLOW_S:
                self._why, self.is_on = str(error), True
            raise

    def probe(self, step: Callable[[], object]) -> None:
        """Ask an absent store again; an answer ends the outage, also one that says no at once."""
        if not self.is_on:
            return
        started_s = time.monotonic()
        try:
            step()
        except Exception as error:
            self._why = str(error)
            self.is_on = time.monotonic() - started_s > SLOW_S
        else:
            self.is_on = False

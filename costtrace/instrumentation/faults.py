"""Our own faults: logged once, counted, and never the caller's."""

from __future__ import annotations

import logging
from types import TracebackType

from costtrace.accounting.health import FAULTS

log = logging.getLogger("costtrace")


class guard:  # noqa: N801 (used like a keyword)
    """Swallow, count and log what goes wrong inside; `BaseException` always passes."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        swallowed(self._what, error)
        return True


def swallowed(what: str, error: Exception) -> None:
    """Count and log a fault that was caught: where each call passes, `try` costs nothing."""
    if FAULTS.add(what) == 1:
        # the kind alone: an error's text may hold something of the call
        log.error("costtrace failed to %s: %s", what, type(error).__name__)
        log.debug("costtrace failed to %s", what, exc_info=error)


def faults() -> dict[str, int]:
    """Return how often each step of ours has failed in this process."""
    return FAULTS.counts()

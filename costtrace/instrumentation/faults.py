"""Our own faults: logged once, counted, and never the caller's."""

from __future__ import annotations

import logging
from types import TracebackType

from costtrace.accounting.health import FAULTS
from costtrace.exceptions import BudgetExceededError, BudgetStoreError, UnknownPriceError

log = logging.getLogger("costtrace")
REFUSALS = (BudgetExceededError, UnknownPriceError, BudgetStoreError)
"""The only errors of ours that reach a caller, before anything is sent."""


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


class harmless(guard):  # noqa: N801 (used like a keyword)
    """Let refusals through; any other fault of ours is swallowed, and the call goes on."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return not isinstance(error, REFUSALS) and super().__exit__(kind, error, traceback)


def faults() -> dict[str, int]:
    """Return how often each step of ours has failed in this process."""
    return FAULTS.counts()

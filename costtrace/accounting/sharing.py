"""Budgets in one process's memory that several processes use: each allows the whole limit."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable

from costtrace.caller import stack_level
from costtrace.exceptions import SharedBudgetWarning
from costtrace.stores.base import Limit

log = logging.getLogger("costtrace")


def is_worker() -> bool:
    """Tell whether `multiprocessing` made this process to work for another one."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def warn_if_shared(limits: Iterable[Limit]) -> bool:
    """Warn that other processes may allow the same again; return whether it was said.

    Not of a block: that is the work of one process anyway.
    """
    shared = next((one for one in limits if not one.owner.startswith("block:")), None)
    if shared is None:
        return False
    text = (
        f"the limit of {shared.owner} is kept in the memory of this process alone: every other "
        "process allows the whole limit again; share one with CostLedger(path=...) or "
        "configure(path=...)"
    )
    try:
        warnings.warn(text, SharedBudgetWarning, stacklevel=stack_level())
    except SharedBudgetWarning:  # warnings are errors here, but a call is about to be authorized
        log.warning(text)
    return True

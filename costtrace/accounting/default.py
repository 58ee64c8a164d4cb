"""The process's own ledger: what `costtrace.ledger` is, and what `configure` makes of it."""

from __future__ import annotations

import os
from typing import Any

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.retention import days_in
from costtrace.forklock import ForkLock
from costtrace.money import to_pico
from costtrace.pricing import PriceTable

_lock = ForkLock()
_ledger: CostLedger | None = None


def default_ledger() -> CostLedger:
    """Return the process's ledger, made of the environment when it is first needed.

    `COSTTRACE_DB` names its SQLite file, `COSTTRACE_BUDGET_USD` its budget, `COSTTRACE_PRICES` a
    file with prices of your own and `COSTTRACE_KEEP_DAYS` how long entries are kept. Raises
    `ValueError`, which names the variable, for one that is wrong.
    """
    global _ledger
    if _ledger is None:
        with _lock.now:
            if _ledger is None:
                _ledger = CostLedger(**_from_environment({}))
    return _ledger


def configure(**options: Any) -> CostLedger:
    """Make the process's ledger anew, with the options of `CostLedger`; return it.

    What is not given is taken from the environment, as for `costtrace.ledger`. Scopes that are open
    and calls under way keep the ledger they have; once nobody uses it any more, it is closed.
    """
    global _ledger
    fresh = CostLedger(**_from_environment(options))
    with _lock.now:
        before, _ledger = _ledger, fresh
    if before is not None:
        before.flush()
    return fresh


def _from_environment(options: dict[str, Any]) -> dict[str, Any]:
    found = dict(options)
    if "path" not in found and "store" not in found and (path := _variable("COSTTRACE_DB")):
        found["path"] = path
    if "budget_usd" not in found and (budget := _variable("COSTTRACE_BUDGET_USD")):
        to_pico(budget, "COSTTRACE_BUDGET_USD")
        found["budget_usd"] = budget
    if "prices" not in found and (prices := _variable("COSTTRACE_PRICES")):
        found["prices"] = _price_table("COSTTRACE_PRICES", prices)
    if "keep_days" not in found and (days := _variable("COSTTRACE_KEEP_DAYS")):
        found["keep_days"] = days_in(days, "COSTTRACE_KEEP_DAYS")
    return found


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _price_table(name: str, path: str) -> PriceTable:
    try:
        return PriceTable.load(path)
    except OSError as error:
        raise ValueError(f"{name} names {path}, which cannot be read: {error.strerror}") from error

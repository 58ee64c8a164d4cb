"""The ledger and its budgets: what was spent, by whom, and what may still be.

Each part is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.lazy import lazily

if TYPE_CHECKING:
    from costtrace.accounting.advice import Advice, advise
    from costtrace.accounting.asking import Entries
    from costtrace.accounting.default import configure, default_ledger
    from costtrace.accounting.health import Health
    from costtrace.accounting.ledger import CostLedger
    from costtrace.accounting.open_budget import OpenBudget
    from costtrace.accounting.terms import BudgetTerms
    from costtrace.accounting.tightness import Tightness
    from costtrace.accounting.window import Window

__all__ = [
    "Advice",
    "BudgetTerms",
    "CostLedger",
    "Entries",
    "Health",
    "OpenBudget",
    "Tightness",
    "Window",
    "advise",
    "configure",
    "default_ledger",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Advice": "advice",
        "BudgetTerms": "terms",
        "CostLedger": "ledger",
        "Entries": "asking",
        "Health": "health",
        "OpenBudget": "open_budget",
        "Tightness": "tightness",
        "Window": "window",
        "advise": "advice",
        "configure": "default",
        "default_ledger": "default",
    },
)

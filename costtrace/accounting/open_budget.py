"""A budget that a piece of work stands in: its terms, and the ledger that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.terms import BudgetTerms


class OpenBudget(NamedTuple):
    """One entered budget; every call made under it is charged to it in its ledger."""

    ledger: CostLedger
    terms: BudgetTerms


def open_budgets(budgets: Sequence[object]) -> list[OpenBudget]:
    """Return the budgets that a scope carries without looking into them."""
    return [opened for opened in budgets if isinstance(opened, OpenBudget)]

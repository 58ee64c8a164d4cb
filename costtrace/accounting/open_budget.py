"""A budget that a piece of work stands in: its terms, and the ledger that keeps it."""

from __future__ import annotations

from typing import NamedTuple

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.terms import BudgetTerms


class OpenBudget(NamedTuple):
    """One entered budget; every call made under it is charged to it in its ledger."""

    ledger: CostLedger
    terms: BudgetTerms

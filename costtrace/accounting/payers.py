"""Who pays for the calls of one home ledger under the same budgets: worked out once for all."""

from __future__ import annotations

from collections.abc import Sequence

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.open_budget import OpenBudget, open_budgets
from costtrace.accounting.terms import BudgetTerms

_REMEMBERED = 64
"""Chains of budgets that a ledger remembers."""


class Payers:
    """The ledgers that enter a call, with their budgets, and what follows from those."""

    __slots__ = (
        "at_home",
        "bounds_each_call",
        "covers_retries",
        "hard",
        "is_blocking",
        "is_lasting",
        "is_observed",
        "others",
        "owners",
        "terms",
        "wait_s",
    )

    def __init__(self, home: CostLedger, budgets: Sequence[OpenBudget]) -> None:
        grouped: dict[int, tuple[CostLedger, list[BudgetTerms]]] = {id(home): (home, [])}
        for ledger, terms in budgets:
            grouped.setdefault(id(ledger), (ledger, []))[1].append(terms)
        groups = tuple((ledger, tuple(terms)) for ledger, terms in grouped.values())
        self.is_lasting = len(groups) == 1 and not any(one.block_id for one in groups[0][1])
        """Whether it may be remembered: else that would keep alive what is soon over."""
        self.at_home = groups[0][1]
        self.others = groups[1:]
        self.terms = tuple(
            [ledger.postings.own for ledger, _ in groups]
            + [one for _, several in groups for one in several]
        )
        self.hard = tuple(one for one in self.terms if one.is_hard)
        self.is_blocking = any(ledger.postings.store.is_blocking for ledger, _ in groups)
        self.is_observed = any(one.is_observed for one in self.terms)
        self.owners = tuple(one.owner for one in self.hard if one.has_limit)
        self.bounds_each_call = any(one.per_call_pico is not None for one in self.hard)
        self.covers_retries = any(one.cover_retries for one in self.hard)
        self.wait_s = max((one.wait_s for one in self.hard), default=0.0)


def payers_of(home: CostLedger, carried: Sequence[object]) -> Payers:
    """Return who pays under what a scope carries; the same for the same, whichever call asks."""
    last = home.postings.last_payers
    if last is not None and last[0] is carried:
        known: Payers = last[1]
        return known
    payers = _payers_of(home, open_budgets(carried))
    if payers.is_lasting:
        home.postings.last_payers = (carried, payers)  # in one step, so that any thread may
    return payers


def _payers_of(home: CostLedger, budgets: Sequence[OpenBudget]) -> Payers:
    if any(opened.ledger is not home or opened.terms.block_id for opened in budgets):
        return Payers(home, budgets)
    known = home.postings.payers
    key = tuple([id(opened.terms) for opened in budgets])
    payers = known.get(key)
    if payers is None:
        payers = Payers(home, budgets)  # it keeps the terms, and so their ids
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = payers
    return payers

"""Who is charged for a user's calls, and what limits them: worked out once for many calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from costtrace.accounting.terms import BudgetTerms
from costtrace.instant import Microseconds
from costtrace.stores.base import ALWAYS_END, ALWAYS_START, LEDGER, Limit, user_owner

_NEVER = (0, 0)
_MOST_USERS = 1_024
"""Users whose limits, under the budgets of their last call, are remembered."""


class UserLimits(NamedTuple):
    """What holds for one user's calls under the same budgets, from `start_us` until `end_us`."""

    budgets: tuple[BudgetTerms, ...]
    """Kept with the rest, so that they stay the ones that this was worked out for."""
    owners: tuple[str, ...]
    """Everyone who is charged, each once."""
    limits: tuple[Limit, ...]
    terms: tuple[BudgetTerms, ...]
    """Whose limits these are, in the same order."""
    start_us: Microseconds
    end_us: Microseconds


class LimitBook:
    """The limits of all users of a ledger. Safe from any thread.

    `define` is called with each budget before its limit is first asked for, and again when
    another budget of the user's was asked for meanwhile.
    """

    def __init__(self, own: BudgetTerms, define: Callable[[BudgetTerms], None]) -> None:
        self._own = own
        self._define = define
        self._known: dict[str, UserLimits] = {}

    def owners(self, user_id: str, budgets: tuple[BudgetTerms, ...]) -> tuple[str, ...]:
        """Return everyone who is charged for a user's call under these budgets."""
        known = self._known.get(user_id)
        if known is None or known.budgets is not budgets:
            charged = [LEDGER, user_owner(user_id)]
            for terms in budgets:
                charged += terms.owners
            owners = tuple(dict.fromkeys(charged))
            known = self._remember(user_id, UserLimits(budgets, owners, (), (), *_NEVER))
        return known.owners

    def at(self, user_id: str, budgets: tuple[BudgetTerms, ...], at_us: Microseconds) -> UserLimits:
        """Return what holds for a call that is authorized at this time."""
        known = self._known.get(user_id)
        if (
            known is None
            or known.budgets is not budgets
            or not known.start_us <= at_us < known.end_us
        ):
            known = self._remember(user_id, self._found(user_id, budgets, at_us))
        return known

    def forget(self, user_id: str) -> None:
        """Forget a user, whose budgets are to be defined anew."""
        self._known.pop(user_id, None)

    def start_over(self) -> None:
        """Forget all: in a forked child, budgets are to be defined anew."""
        self._known.clear()

    def _remember(self, user_id: str, found: UserLimits) -> UserLimits:
        if len(self._known) >= _MOST_USERS:
            self._known.clear()
        self._known[user_id] = found
        return found

    def _found(
        self, user_id: str, budgets: tuple[BudgetTerms, ...], at_us: Microseconds
    ) -> UserLimits:
        for terms in budgets:
            self._define(terms)
        limited = [
            (limit, terms)
            for terms in (self._own, *budgets)
            if terms.refuses and (limit := terms.limit(at_us)) is not None
        ]
        spans = [limit.span for limit, _ in limited]
        start_us = max((span.start_us for span in spans), default=ALWAYS_START)
        end_us = min((span.end_us for span in spans), default=ALWAYS_END)
        if any(span.is_rolling for span in spans):
            start_us, end_us = _NEVER
        return UserLimits(
            budgets,
            self.owners(user_id, budgets),
            tuple(limit for limit, _ in limited),
            tuple(terms for _, terms in limited),
            start_us,
            end_us,
        )

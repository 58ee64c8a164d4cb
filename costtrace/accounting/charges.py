"""Who is charged for one call: every budget around it, in every ledger that keeps one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.open_budget import OpenBudget
from costtrace.accounting.postings import Headroom, Refused
from costtrace.accounting.terms import BudgetTerms
from costtrace.entry import CostEntry

FIRST_WAIT_S, LONGEST_WAIT_S = 0.005, 0.1
"""Seconds between two looks at a budget that others may give something back to."""
Steps: TypeAlias = "Generator[Callable[[], Any], Any, Refused | None]"
"""Steps that ask a store, to be run on the spot or off an event loop."""


class Charges:
    """The home ledger of a call, where it is entered, and all others that hold one of its budgets.

    A ledger besides the home ledger gets the same entry under the same id, so that its balances
    stay the sum of its entries.
    """

    def __init__(self, home: CostLedger, budgets: Sequence[OpenBudget]) -> None:
        grouped: dict[int, tuple[CostLedger, list[BudgetTerms]]] = {id(home): (home, [])}
        for ledger, terms in budgets:
            grouped.setdefault(id(ledger), (ledger, []))[1].append(terms)
        self.home = home
        self.groups = tuple((ledger, tuple(terms)) for ledger, terms in grouped.values())

    @property
    def terms(self) -> list[BudgetTerms]:
        """The terms of every budget, the ledgers' own included."""
        own = [ledger.postings.own for ledger, _ in self.groups]
        return [*own, *(one for _, several in self.groups for one in several)]

    @property
    def is_blocking(self) -> bool:
        """Whether entering the call may wait for a disk or a network."""
        return any(ledger.postings.store.is_blocking for ledger, _ in self.groups)

    def reserving(self, entry: CostEntry) -> Steps:
        """Hold the entry's cost in every ledger, or in none; return who refused."""
        held: list[Callable[[], None]] = []
        for ledger, terms in self.groups:
            try:
                refused: Refused | None = yield partial(ledger.postings.reserve, entry, terms)
            except BaseException:
                for release in held:
                    release()
                raise
            if refused is not None:
                for release in held:
                    yield release
                return refused
            held.append(partial(ledger.postings.release, entry.call_id))
        return None

    def reserve(self, entry: CostEntry) -> Refused | None:
        """Take the steps of `reserving` on the spot."""
        steps = self.reserving(entry)
        try:
            step = next(steps)
            while True:
                step = steps.send(step())
        except StopIteration as done:
            refused: Refused | None = done.value
            return refused

    def reserve_waiting(self, entry: CostEntry) -> Refused | None:
        """Reserve on the spot; wait as long as the budgets do for others to give back."""
        deadline = time.monotonic() + max(terms.wait_s for terms in self.terms)
        pause_s = FIRST_WAIT_S
        while (refused := self.reserve(entry)) is not None and refused.may_pass_later:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause_s, left))
            pause_s = min(pause_s * 2, LONGEST_WAIT_S)
        return refused

    def observe(self, entry: CostEntry) -> None:
        """Say what budgets that only warn would have refused. Never raises."""
        for ledger, terms in self.groups:
            ledger.postings.observe(entry, (ledger.postings.own, *terms))

    def headroom(self, at: datetime) -> Headroom:
        """Return the least that is left over all budgets."""
        room = Headroom()
        for ledger, terms in self.groups:
            room = room.least(ledger.postings.headroom(at, terms))
        return room

    def hold(self, entry: CostEntry) -> None:
        """Hold more for a call that was authorized, whatever the limits. Never raises."""
        for ledger, terms in self.groups:
            ledger.postings.hold(entry, ledger.postings.owners(entry.user_id, terms))

    def enter(self, entry: CostEntry, *, amend: bool = False) -> None:
        """Settle the call in every ledger."""
        for ledger, terms in self.groups:
            ledger.enter(entry, ledger.postings.owners(entry.user_id, terms), amend=amend)

    def release(self, call_id: str) -> None:
        """Give back what is held for a call that was never billed. Never raises."""
        for ledger, _ in self.groups:
            ledger.postings.release(call_id)

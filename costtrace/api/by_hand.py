"""Calls that costtrace does not see itself: reserved and settled by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from costtrace.accounting.charges import Charges
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.lines import patiently
from costtrace.accounting.recording import new_call_id
from costtrace.accounting.refusals import Refused, too_dear
from costtrace.accounting.steps import Steps
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError
from costtrace.money import Money, to_pico, to_usd
from costtrace.scopes import Scope
from costtrace.usage import Usage

MANUAL = "manual"
"""The operation of entries made by hand, which know no model."""


class Hold:
    """Money held for one call: settle it, or release it; what comes first counts, and once.

    One that is forgotten is charged at its estimate: the provider may well have billed the call.
    """

    def __init__(self, charges: Charges, entry: CostEntry, forget: Callable[[Hold], None]) -> None:
        self._charges = charges
        self._entry = entry
        self._forget = forget
        self._open = [True]  # whoever takes it out ends the hold: one step, in any thread

    @property
    def call_id(self) -> str:
        """The id of the entry that it becomes."""
        return self._entry.call_id

    @property
    def is_open(self) -> bool:
        """Whether it is neither settled nor released."""
        return bool(self._open)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "ended"
        return f"<Hold of {self._entry.cost_usd} USD for {self._entry.user_id!r}, {state}>"

    def settle(self, actual_cost: Money) -> bool:
        """Replace what is held by what the call did cost, in US dollars; False if it was ended."""
        amount = to_usd(to_pico(actual_cost, "actual_cost"))
        if not self._ends():
            return False
        self._charges.enter(replace(self._entry, cost_usd=amount, grade="reported"))
        return True

    def release(self) -> bool:
        """Give back what is held: nothing was billed. Returns False if it was ended before."""
        if not self._ends():
            return False
        self._charges.release(self._entry.call_id)
        return True

    def _ends(self) -> bool:
        try:
            was_open = self._open.pop()
        except IndexError:
            was_open = False
        self._forget(self)
        return was_open


@dataclass(frozen=True, slots=True)
class _Rejection:
    """Why money cannot be held now."""

    error: BudgetExceededError
    owner: str = ""
    wait_s: float = 0.0
    may_pass_later: bool = False


def holding(charges: Charges, entry: CostEntry, *, may_wait: bool) -> Steps:
    """Yield the steps that hold an entry's cost; come to the entry as it was authorized.

    They raise `BudgetExceededError` when a budget does not agree, in the end.
    """
    worst = replace(entry, reserved_usd=entry.cost_usd, grade="assumed")
    yield lambda: charges.observed(charges.refusing(worst))
    for terms in charges.payers.hard:
        if (error := too_dear(terms, worst)) is not None:
            raise error
    authorized = [worst]

    def attempt(_: bool) -> Steps:
        if may_wait:  # a call belongs to the window in which it is authorized
            authorized[0] = replace(worst, timestamp=charges.home.now())
        refused: Refused | None = yield from charges.reserving(authorized[0])
        if refused is None:
            return None
        return _Rejection(
            refused.error(entry),
            refused.refusal.limit.owner,
            refused.terms.wait_s,
            refused.may_pass_later,
        )

    if may_wait and charges.payers.wait_s:
        lines = charges.home.postings.lines
        rejection = yield from patiently(
            attempt, charges.payers.wait_s, lines, charges.payers.owners
        )
    else:
        rejection = yield from attempt(False)
    if rejection is not None:
        raise rejection.error
    return authorized[0]


def manual_entry(ledger: CostLedger, scope: Scope | None, amount: Money) -> CostEntry:
    """Return the entry of a call of which only the cost is known."""
    return CostEntry(
        model="unknown",
        function_name=scope.function_name if scope else "unknown",
        user_id=scope.user_id if scope else "anon",
        usage=Usage(),
        cost_usd=to_usd(to_pico(amount)),
        timestamp=ledger.now(),
        call_id=new_call_id(),
        operation=MANUAL,
        call_path=scope.call_path if scope else (),
        tags=scope.tags if scope else {},
    )

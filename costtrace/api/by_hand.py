"""Calls that costtrace does not see itself: reserved and settled by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from costtrace.accounting.charges import Charges
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.recording import new_call_id
from costtrace.entry import CostEntry
from costtrace.money import Money, to_pico, to_usd
from costtrace.scopes import Scope
from costtrace.usage import Usage

MANUAL = "manual"
"""The operation of entries made by hand, which know no model."""


class Hold:
    """Money held for one call: settle it, or release it; what comes first counts, and once."""

    def __init__(self, charges: Charges, entry: CostEntry, forget: Callable[[Hold], None]) -> None:
        self._charges = charges
        self._entry = entry
        self._forget = forget
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def call_id(self) -> str:
        """The id of the entry that it becomes."""
        return self._entry.call_id

    @property
    def is_open(self) -> bool:
        """Whether it is neither settled nor released."""
        return self._is_open

    def settle(self, actual_cost: Money) -> None:
        """Replace what is held by what the call did cost, in US dollars."""
        amount = to_usd(to_pico(actual_cost, "actual_cost"))
        if self._ends():
            self._charges.enter(replace(self._entry, cost_usd=amount, grade="reported"))

    def release(self) -> None:
        """Give back what is held: nothing was billed."""
        if self._ends():
            self._charges.release(self._entry.call_id)

    def _ends(self) -> bool:
        with self._lock:
            was_open, self._is_open = self._is_open, False
        self._forget(self)
        return was_open


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

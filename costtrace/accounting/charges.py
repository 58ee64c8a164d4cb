"""Who is charged for one call: every budget around it, in every ledger that keeps one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from costtrace.accounting.headroom import Headroom
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.payers import payers_of
from costtrace.accounting.refusals import Refused, too_dear
from costtrace.accounting.steps import Steps
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError, BudgetStoreError
from costtrace.money import Picodollars
from costtrace.stores.rows import exact_pico


class Charges:
    """The home ledger of a call, where it is entered, and all others that hold one of its budgets.

    A ledger besides the home ledger gets the same entry under the same id, so that its balances
    stay the sum of its entries. A reservation that nobody ends (an interrupt between two lines, a
    hold by hand that was forgotten) is charged as its worst case when these are collected.
    """

    __slots__ = (
        "_held",
        "_lines",
        "_over_pico",
        "_process",
        "_reserved",
        "groups",
        "home",
        "payers",
    )

    def __init__(self, home: CostLedger, budgets: Sequence[object]) -> None:
        self.home = home
        self.payers = payers = payers_of(home, budgets)
        """Who pays, and what follows from their terms."""
        self.groups = ((home, payers.at_home), *payers.others)
        self._held: CostEntry | None = None
        self._process = ""
        self._reserved: CostEntry | None = None
        self._lines: dict[str, Picodollars] | None = None
        self._over_pico: Picodollars = 0

    # before the call

    def reserving(self, entry: CostEntry) -> Steps:
        """Hold the entry's cost in every ledger, or in none; come to who refused, or None."""
        held: list[Callable[[], None]] = []
        self._held, self._process = entry, self.home.postings.process
        try:
            for ledger, terms in self.groups:
                held.append(partial(ledger.postings.release, entry.call_id))
                refused: Refused | None = yield partial(ledger.postings.reserve, entry, terms)
                if refused is not None:
                    held.pop()
                    break
            else:
                self._reserved = entry
                return None
        except GeneratorExit:
            for release in held:
                release()
            raise
        except BaseException as error:  # the step that was broken off may have held as well
            if isinstance(error, BudgetStoreError):
                held.pop()  # whose ledger sees to that itself
            yield from held
            self._held = None
            raise
        yield from held
        self._held = None
        return refused

    def is_held_at_home(self, entry: CostEntry) -> bool:
        """Hold the entry's cost where the home ledger alone pays; False if that refuses."""
        postings = self.home.postings
        self._held, self._process = entry, postings.process
        try:
            refused = postings.reserve(entry, self.payers.at_home)
        except BaseException as error:
            self._held = None
            if not isinstance(error, BudgetStoreError):  # its ledger sees to that itself
                postings.release(entry.call_id)
            raise
        if refused is None:
            self._reserved = entry
            return True
        self._held = None
        return False

    def headroom(self, at: datetime) -> Headroom:
        """Return the least that is left over all budgets."""
        room: Headroom | None = None
        for ledger, terms in self.groups:
            left = ledger.postings.headroom(at, terms)
            room = left if room is None else room.least(left)
        return Headroom() if room is None else room

    def is_plentiful(self, pico: Picodollars | None) -> bool:
        """Tell, without asking a store, whether there was far more than this a moment ago."""
        return pico is not None and self.home.postings.glances.is_plentiful(
            self.payers.owners, pico
        )

    def look(self, at: datetime) -> Headroom:
        """Return the headroom, and remember it for a moment."""
        room = self.headroom(at)
        self.home.postings.glances.note(self.payers.owners, room)
        return room

    def refusing(self, entry: CostEntry) -> list[BudgetExceededError]:
        """Return what the budgets that only warn would have said to an entry. Never raises."""
        errors = [too_dear(one, entry) for one in self.payers.terms if one.is_observed]
        found = [error for error in errors if error is not None]
        for ledger, terms in self.groups:
            found += [one.error(entry) for one in ledger.postings.refusing(entry, terms)]
        return found

    def observed(self, errors: Sequence[BudgetExceededError]) -> None:
        """Note what would have been refused; a call that several would have refused, once."""
        if errors:
            self.home.postings.observed(errors[0])

    # after it

    def enter(
        self,
        entry: CostEntry,
        *,
        amend: bool = False,
        rest: CostEntry | None = None,
        frees: str = "",
    ) -> None:
        """Settle the call in every ledger; `rest` stays reserved, `frees` is an earlier rest."""
        for ledger, terms in self.groups:
            owners = ledger.postings.limits.owners(entry.user_id, terms)
            ledger.enter(entry, owners, amend=amend, rest=rest, frees=frees)
        if entry.adjusts is None:
            self._held = None
        self._compare(entry)

    def release(self, call_id: str) -> None:
        """Give back what is held for a call that was never billed. Never raises."""
        for ledger, _ in self.groups:
            ledger.postings.release(call_id)
        if self._held is not None and self._held.call_id == call_id:
            self._held = None

    def _compare(self, entry: CostEntry) -> None:
        """Count by how much the call cost more than was reserved for it, all its lines together."""
        cost, held = entry.cost_usd, self._reserved
        if cost is None or held is None:
            return
        lines = self._lines
        if lines is None:
            if (held.cost_usd or 0) >= cost and entry.adjusts is None:
                return  # as nearly always
            lines = self._lines = {}
        lines[entry.call_id] = exact_pico(cost) or 0
        reserved = exact_pico(held.cost_usd) or 0
        over, known = max(sum(lines.values()) - reserved, 0), self._over_pico
        if over != known:
            self._over_pico = over
            for ledger, _ in self.groups:
                ledger.postings.overruns.add(entry, over, known)

    def __del__(self) -> None:
        held: CostEntry | None = getattr(self, "_held", None)
        if held is not None and self._process == self.home.postings.process:
            for ledger, terms in self.groups:  # a finaliser may run inside any lock: only queue
                postings = ledger.postings
                owners = postings.limits.owners(held.user_id, terms)
                postings.dropped.put(partial(postings.abandon, held, owners))

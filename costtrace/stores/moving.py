"""A ledger on its way from one home to another: what a store hands over, and what it takes in.

Totals and balances do not travel: they follow from the calls, and from the sums of the calls whose
entries were pruned. Whatever comes a second time changes nothing. Calls are known by their ids;
sums of pruned entries have none, so the home that takes them in notes whose they are and how many
parts of them it has. They stay out where they might be counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, runtime_checkable

from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError, CallConflictError
from costtrace.stores.base import EVERYTHING, BudgetRecord, Crossing, Hold, Query, Store
from costtrace.stores.rows import Charge, Label

TAKEN = "taken:"
"""How the notes about other ledgers' sums begin."""
GONE_AT_ONCE = 400
"""Sums that travel in one part, and come in as one step."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The ledger that the records which follow come from, as it was when they were read."""

    ledger_id: str
    pruned_before_us: int | None = None
    gone_entries: int = 0
    """How many entries were pruned that are still in its sums."""
    gone_parts: int = 0
    """How many parts these sums come in."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """What this ledger has noted of the ledgers whose records came in here, by their ids."""


@dataclass(frozen=True, slots=True)
class Charged:
    """An entry, and who was charged for it."""

    entry: CostEntry
    owners: tuple[str, ...]
    is_lapsed: bool = False
    """Whether nobody settled it: it is charged as its worst case."""


@dataclass(frozen=True, slots=True)
class Latched:
    """An alert that has fired."""

    crossing: Crossing
    is_delivered: bool


@dataclass(frozen=True, slots=True)
class GoneTotal:
    """What pruned entries of one day and label add to totals: the six counts of a `Row`."""

    day: int
    label: Label
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GoneCharge:
    """What pruned entries of one minute took from an owner."""

    owner: str
    minute: int
    charge: Charge


@dataclass(frozen=True, slots=True)
class GonePart:
    """Some of the sums of pruned entries; the parts are numbered from 0."""

    number: int
    totals: tuple[GoneTotal, ...] = ()
    charges: tuple[GoneCharge, ...] = ()


Record: TypeAlias = Origin | BudgetRecord | Hold | Charged | Latched | GonePart


@runtime_checkable
class Movable(Store, Protocol):
    """A store that hands over all it has, and takes in what another one handed over."""

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""

    def charged(self, query: Query = EVERYTHING) -> Iterator[Charged]:
        """Yield the entries and who was charged, in the order they came in."""

    def standing(self) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease and no limits."""

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""

    def latch(self, alerts: Sequence[Latched]) -> None:
        """Note alerts that have fired elsewhere; one that is known here stays, once delivered."""

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`, and make it `now`.

        With `pruned_us`, calls authorized before then are not entered any more. Returns False, and
        changes nothing, where the note is another one.
        """


@dataclass(slots=True)
class Loaded:
    """What became of records that a store took in."""

    entries: int = 0
    """How many were read."""
    added: int = 0
    """How many were new, those included whose sums alone came in."""
    conflicts: list[str] = field(default_factory=list)
    """What stayed out, since it contradicts the ledger or may have been counted already."""


def movable(store: object) -> Movable:
    """Return the store if its ledger can be moved; raises `TypeError` for one of another kind."""
    if not isinstance(store, Movable):
        raise TypeError(
            f"a {type(store).__name__} does not say all that is needed to move a ledger "
            "(the methods of costtrace.stores.moving.Movable)"
        )
    return store


def records_of(store: Movable) -> Iterator[Record]:
    """Yield all that a store has, while others may go on writing.

    A call that is settled meanwhile may come as a hold, as an entry, or as both. Raises
    `BudgetStoreError` at the end if the ledger was pruned meanwhile: then it is to be read again.
    """
    totals, charges = store.gone()
    parts, entries = list(_parts(totals, charges)), _entries_of(totals)
    origin = store.origin()
    yield replace(origin, gone_entries=entries, gone_parts=len(parts))
    yield from store.budgets()
    yield from store.standing()
    yield from store.charged()
    yield from store.latched()
    yield from parts
    if _entries_of(store.gone()[0]) != entries:
        raise BudgetStoreError("the ledger was pruned while it was being read: read it again")


def load(store: Movable, records: Iterable[Record]) -> Loaded:
    """Take records into a store; what is there already stays as it is."""
    loading = _Loading(store)
    before = store.sums().entries
    for record in records:
        loading.take(record)
    store.flush()
    loading.loaded.added = store.sums().entries - before
    return loading.loaded


def copy(source: Store, target: Store) -> Loaded:
    """Copy a whole ledger from one store into another; a second time changes nothing.

    Raises `TypeError` where one of the stores is of a kind that cannot be moved.
    """
    return load(movable(target), records_of(movable(source)))


class _Loading:
    """Records on their way into one store."""

    def __init__(self, store: Movable) -> None:
        self.loaded = Loaded()
        self._store = store
        self._own_id = store.origin().ledger_id
        self._origin: Origin | None = None
        self._note: str | None = None

    def take(self, record: Record) -> None:
        """Take one record in."""
        if isinstance(record, Charged):
            self.loaded.entries += 1
            self._enter(record)
        elif isinstance(record, Origin):
            self._begin(record)
        elif isinstance(record, BudgetRecord):
            self._define(record)
        elif isinstance(record, Hold):
            self._hold(record)
        elif isinstance(record, Latched):
            self._store.latch([record])
        elif self._origin is not None:
            self._add_gone(record, self._origin)

    def _define(self, budget: BudgetRecord) -> None:
        known = {(each.user_id, each.window) for each in self._store.budgets()}
        if (budget.user_id, budget.window) not in known:  # as it was last used here
            self._store.define(budget)

    def _hold(self, hold: Hold) -> None:
        try:
            self._store.reserve(hold)
        except CallConflictError as error:
            if not any(self._store.entries(Query(call_id=hold.entry.call_id))):
                self.loaded.conflicts.append(str(error))

    def _enter(self, charged: Charged) -> None:
        entry = charged.entry
        try:
            if charged.is_lapsed:
                self._store.reserve(Hold(entry, charged.owners, lease_s=0.0))
                self._store.lapse()
            else:
                self._store.settle(entry, charged.owners)
        except CallConflictError as error:
            known = next(self._store.entries(Query(call_id=entry.call_id)), None)
            if known is None or known.cost_usd != entry.cost_usd:
                self.loaded.conflicts.append(str(error))

    # -- sums of what was pruned -------------------------------------------------------------

    def _begin(self, origin: Origin) -> None:
        if origin.ledger_id == self._own_id:
            return
        here = self._store.origin().taken
        note = here.get(origin.ledger_id)
        if problem := self._twice(origin, here, note):
            self.loaded.conflicts.append(
                f"the sums of entries that were pruned stay out, {problem}: import the ledger as "
                "it is now into a new one"
            )
            return
        self._origin, self._note = origin, note
        if note is None and not origin.gone_parts:
            self._store.take_gone(
                origin.ledger_id, None, _note(origin, 0), GonePart(0), origin.pruned_before_us
            )

    def _twice(self, origin: Origin, here: Mapping[str, str], note: str | None) -> str | None:
        """Return why the sums may have been counted already; None if they have not."""
        if note is not None:
            entries, _, parts = map(int, note.split("|"))
            if (entries, parts) != (origin.gone_entries, origin.gone_parts):
                return "since it was pruned further after its entries were imported here"
            return None
        if not origin.gone_parts:
            return None
        with_sums = {ledger for ledger, known in origin.taken.items() if _has_sums(known)}
        if self._own_id in with_sums or any(ledger in here for ledger in with_sums):
            return "since some of them came from a ledger that is here already"
        return None

    def _add_gone(self, part: GonePart, origin: Origin) -> None:
        done = 0 if self._note is None else int(self._note.split("|")[1])
        if part.number != done:
            return  # it is here already
        note, pruned_us = _note(origin, done + 1), None
        if done + 1 == origin.gone_parts:  # entries of that time have all come in before
            pruned_us = origin.pruned_before_us
        if self._store.take_gone(origin.ledger_id, self._note, note, part, pruned_us):
            self._note = note
        else:
            self._origin = None
            self.loaded.conflicts.append("somebody else is importing the same ledger: import again")


def _note(origin: Origin, parts: int) -> str:
    return f"{origin.gone_entries}|{parts}|{origin.gone_parts}"


def _has_sums(note: str) -> bool:
    return not note.endswith("|0")


def _entries_of(totals: Iterable[GoneTotal]) -> int:
    return sum(total.counts[0] for total in totals)


def _parts(totals: Sequence[GoneTotal], charges: Sequence[GoneCharge]) -> Iterator[GonePart]:
    number = 0
    for start in range(0, len(totals), GONE_AT_ONCE):
        yield GonePart(number, totals=tuple(totals[start : start + GONE_AT_ONCE]))
        number += 1
    for start in range(0, len(charges), GONE_AT_ONCE):
        yield GonePart(number, charges=tuple(charges[start : start + GONE_AT_ONCE]))
        number += 1

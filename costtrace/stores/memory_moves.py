"""A ledger in memory on its way to another home, or from one; see `moving`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.adding import LABEL_BITS
from costtrace.stores.base import EVERYTHING, Hold, Query
from costtrace.stores.books import Books
from costtrace.stores.columns import LAPSED
from costtrace.stores.grouping import check_query, matches, times_us
from costtrace.stores.latches import Latches
from costtrace.stores.moving import Charged, GoneCharge, GonePart, GoneTotal, Latched, Origin
from costtrace.stores.reentry import AMID_A_STEP, is_taken_twice
from costtrace.stores.rows import MINUTE_US
from costtrace.stores.turns import TurnLock

_LABEL_MASK = 2**LABEL_BITS - 1
_CHUNK = 256  # entries that are read under the lock at a time


class MemoryMoves:
    """What makes a `MemoryStore` movable."""

    _lock: TurnLock
    _latches: Latches
    _now_us: Callable[[], int]
    _books: Books

    def __init__(self) -> None:
        self._ledger_id = os.urandom(16).hex()
        self._taken: dict[str, str] = {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A step that changes something, and so not amid another one of the same thread.

        What a signal's handler did between a step's looking and its writing would be undone by it,
        or done twice.
        """
        if self._lock.is_mine():
            raise BudgetStoreError(AMID_A_STEP)
        with self._lock:
            yield

    def _sound_books(self) -> Books:
        """Return the books; a step that a signal broke off is made good first.

        One that only waits for the handler of a signal is not: it will go on by itself.
        """
        books = self._books
        if books.is_half_done:
            if is_taken_twice(self._lock):
                raise BudgetStoreError(AMID_A_STEP)
            books.mend()
        return books

    def _summed_books(self) -> Books:
        """Return the sound books with the latest entries in all their sums."""
        books = self._sound_books()
        books.fold()
        return books

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""
        with self._lock:
            pruned_us = self._summed_books().forgotten_before_us
            return Origin(self._ledger_id, pruned_us, taken=dict(self._taken))

    def charged(self, query: Query = EVERYTHING) -> Iterator[Charged]:
        """Yield the entries and who was charged, in the order they came in."""
        check_query(query)
        with self._lock:
            entries = self._summed_books().entries
            first, end = entries.first_row, entries.end_row
        for start in range(first, end, _CHUNK):
            yield from self._some_charged(query, start, min(start + _CHUNK, end))

    def _some_charged(self, query: Query, first: int, end: int) -> list[Charged]:
        since_us, until_us = times_us(query)
        found = []
        with self._lock:
            books = self._summed_books()
            for row, record in books.entries.records(first, end):
                at_us, label = record.timestamp_us, books.labels[record.label]
                if (
                    (since_us is None or at_us >= since_us)
                    and (until_us is None or at_us < until_us)
                    and matches(label, query)
                ):
                    entry = books.entries.entry(row, record, label)
                    owners = tuple(sorted(books.payers[record.payers]))
                    found.append(Charged(entry, owners, bool(record.flags & LAPSED)))
        return found

    def standing(self) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease and no limits."""
        with self._lock:
            now_us = self._now_us()
            return [
                replace(held.hold, limits=(), lease_s=max(held.lease_until_us - now_us, 0) / 1e6)
                for held in self._summed_books().holds.values()
            ]

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""
        with self._lock:
            return [Latched(*latch) for latch in self._latches.all()]

    def latch(self, alerts: Sequence[Latched]) -> None:
        """Note alerts that have fired elsewhere; one that is known here stays, once delivered."""
        with self._lock:
            fired = [alert.crossing for alert in alerts]
            new = [crossing for crossing in fired if crossing.watch.key not in self._latches]
            self._latches.latch(new, self._now_us())
            self._latches.delivered([a.crossing.watch.key for a in alerts if a.is_delivered])

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""
        with self._lock:
            books = self._summed_books()
            totals = [
                GoneTotal(key >> LABEL_BITS, books.labels[key & _LABEL_MASK], tuple(counts))
                for key, counts in books.gone_totals.items()
            ]
            charges = [
                GoneCharge(owner, minute, charge)
                for owner, account in books.accounts.items()
                for minute, charge in account.gone or ()
            ]
        return totals, charges

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`."""
        with self._alone():
            if self._taken.get(source) != before:
                return False
            books = self._summed_books()
            books.is_half_done = True
            _add_gone(books, part)
            books.is_half_done = False
            if pruned_us is not None:
                books.forgotten_before_us = max(pruned_us, books.forgotten_before_us or pruned_us)
            self._taken[source] = now
            return True


def _add_gone(books: Books, part: GonePart) -> None:
    for total in part.totals:
        key = total.day << LABEL_BITS | books.label_code(total.label)
        for sums in (books.gone_totals, books.totals):
            known = sums.get(key, [0] * len(total.counts))
            sums[key] = [a + b for a, b in zip(known, total.counts, strict=True)]
    for gone in part.charges:
        account = books.account(gone.owner)
        account.forget(gone.minute * MINUTE_US, gone.charge)
        account.line.add(gone.minute, *gone.charge)
        account.kept.clear()

"""A ledger in a file on its way to another home, or from one; see `moving`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from costtrace.stores.base import EVERYTHING, Hold, Query
from costtrace.stores.database import Database
from costtrace.stores.grouping import check_query
from costtrace.stores.moving import TAKEN, Charged, GoneCharge, GonePart, GoneTotal, Latched, Origin
from costtrace.stores.sql_moves import READ_META, HandingOver
from costtrace.stores.statements import (
    ADD_ALERT,
    ADD_TO_MINUTE,
    ADD_TO_TOTAL,
    DELIVERED,
    FIND_ALERT,
)
from costtrace.stores.steps import Steps
from costtrace.stores.upkeep import FORGET_BALANCES, SET_META


class SQLiteMoves:
    """What makes a `SQLiteStore` movable."""

    _database: Database
    _now_us: Callable[[], int]

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""
        with self._database.read() as run:
            return HandingOver(run).origin()

    def charged(self, query: Query = EVERYTHING) -> Iterator[Charged]:
        """Yield the entries and who was charged, in the order they came in."""
        check_query(query)
        with self._database.read() as run:
            first, last = HandingOver(run).entry_range(query)
        while first <= last:
            with self._database.read() as run:
                found, seen = HandingOver(run).some_charged(query, first, last)
            yield from found
            if seen is None:
                return
            first = seen + 1

    def standing(self) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease and no limits."""
        with self._database.read() as run:
            return HandingOver(run).standing(self._now_us())

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""
        with self._database.read() as run:
            return HandingOver(run).latched()

    def latch(self, alerts: Sequence[Latched]) -> None:
        """Note alerts that have fired elsewhere; one that is known here stays, once delivered."""
        with self._database.write() as run:
            Taking(run).latch(alerts, self._now_us())

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""
        with self._database.read() as run:
            return HandingOver(run).gone()

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`."""
        with self._database.write() as run:
            return Taking(run).take_gone(source, before, now, part, pruned_us)


class Taking(Steps):
    """Taking in what another ledger handed over."""

    def latch(self, alerts: Sequence[Latched], now_us: int) -> None:
        """Note alerts that have fired."""
        for alert in alerts:
            watch, spent_pico = alert.crossing.watch, alert.crossing.spent_pico
            span = watch.span
            if self._run(FIND_ALERT, (watch.key,)).fetchone() is None:
                where = (span.start_us, span.end_us, int(span.is_rolling))
                found = (watch.key, watch.owner, *where, watch.threshold_pico, spent_pico, now_us)
                self._run(ADD_ALERT, found)
            if alert.is_delivered:
                self._run(DELIVERED, (watch.key,))

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`."""
        known = self._run(READ_META, (TAKEN + source,)).fetchone()
        if (None if known is None else known[0]) != before:
            return False
        for total in part.totals:
            label_id = self._label_id(tuple(total.label))
            self._run(ADD_TO_TOTAL, (total.day, label_id, 1, *total.counts))
        for gone in part.charges:
            owner_id = self._owner_id(gone.owner)
            self._run(ADD_TO_MINUTE, (owner_id, gone.minute, 1, *gone.charge))
            self._run(FORGET_BALANCES, (owner_id,))
        if pruned_us is not None:
            pruned = self._run(READ_META, ("pruned_before_us",)).fetchone()
            if pruned is None or int(pruned[0]) < pruned_us:
                self._run(SET_META, ("pruned_before_us", str(pruned_us)))
        self._run(SET_META, (TAKEN + source, now))
        return True

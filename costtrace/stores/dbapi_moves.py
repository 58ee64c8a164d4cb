"""A ledger in PostgreSQL on its way to another home, or from one; see `moving`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from costtrace.stores.base import EVERYTHING, Hold, Query
from costtrace.stores.dbapi_link import Rows, schema_lock
from costtrace.stores.dbapi_payload import label_payload
from costtrace.stores.dbapi_upkeep import ADD_OWNER, FIND_OWNER, LOCK_ALL
from costtrace.stores.grouping import check_query
from costtrace.stores.moving import TAKEN, Charged, GoneCharge, GonePart, GoneTotal, Latched, Origin
from costtrace.stores.payloads import digest_of, owner_digest
from costtrace.stores.postgres_functions import ADD_TO_MINUTES, ADD_TO_TOTALS
from costtrace.stores.sql_moves import READ_META, HandingOver

Run = Callable[..., Rows]
T = TypeVar("T")

NOW = "SELECT now_us()"
LABEL_OF = "SELECT label_of(CAST(? AS jsonb))"
ADD_TO_TOTAL = f"""
    INSERT INTO total (day, label_id, is_gone, slot, entries, calls, prompt_tokens,
        completion_tokens, cost_pico, unpriced_calls) VALUES (?, ?, 1, 0, ?, ?, ?, ?, ?, ?)
    {ADD_TO_TOTALS}"""
ADD_TO_MINUTE = f"""
    INSERT INTO minute (owner_id, minute, is_gone, slot, spent_pico, spent_tokens, spent_calls)
        VALUES (?, ?, 1, 0, ?, ?, ?)
    {ADD_TO_MINUTES}"""
FORGET_BALANCES = "DELETE FROM balance WHERE owner_id = ?"
ADD_ALERT = """
    INSERT INTO alert VALUES (CAST(? AS uuid), ?, ?, ?, ?, ?, CAST(? AS numeric), ?, now_us(), ?)
    ON CONFLICT (digest) DO UPDATE SET
        is_delivered = alert.is_delivered OR excluded.is_delivered"""
SET_META = """
    INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
PRUNED = """
    INSERT INTO meta VALUES ('pruned_before_us', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
    WHERE CAST(meta.value AS bigint) < CAST(excluded.value AS bigint)"""


class DBAPIMoves:
    """What makes a `DBAPIStore` movable."""

    _schema: str
    _now_us: Callable[[], int] | None

    def _ask(self, work: Callable[[Callable[..., Rows]], T], is_snapshot: bool = True) -> T:
        raise NotImplementedError

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""
        return self._ask(lambda run: HandingOver(run).origin())

    def charged(self, query: Query = EVERYTHING) -> Iterator[Charged]:
        """Yield the entries and who was charged, in the order they came in."""
        check_query(query)
        first, last = self._ask(lambda run: HandingOver(run).entry_range(query))
        while first <= last:
            found, seen = self._some_charged(query, first, last)
            yield from found
            if seen is None:
                return
            first = seen + 1

    def standing(self) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease and no limits."""
        now_us = self._now_us

        def standing(run: Run) -> list[Hold]:
            return HandingOver(run).standing(run(NOW)[0][0] if now_us is None else now_us())

        return self._ask(standing)

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""
        return self._ask(lambda run: HandingOver(run).latched())

    def latch(self, alerts: Sequence[Latched]) -> None:
        """Note alerts that have fired elsewhere; one that is known here stays, once delivered."""

        def latch(run: Run) -> None:
            for alert in alerts:
                run(ADD_ALERT, _alert_values(alert))

        self._ask(latch, False)

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""
        return self._ask(lambda run: HandingOver(run).gone())

    def take_gone(
        self, source: str, before: str | None, now: str, part: GonePart, pruned_us: int | None
    ) -> bool:
        """Add a part of another ledger's sums if the note about it is `before`."""

        def take(run: Run) -> bool:
            run(LOCK_ALL, (schema_lock(self._schema),))
            known = run(READ_META, (TAKEN + source,)).fetchone()
            if (None if known is None else known[0]) != before:
                return False
            _add(run, part)
            if pruned_us is not None:
                run(PRUNED, (str(pruned_us),))
            run(SET_META, (TAKEN + source, now))
            return True

        return self._ask(take, False)

    def _some_charged(
        self, query: Query, first: int, last: int
    ) -> tuple[list[Charged], int | None]:
        return self._ask(lambda run: HandingOver(run).some_charged(query, first, last))


def _add(run: Run, part: GonePart) -> None:
    for total in part.totals:
        label_id = run(LABEL_OF, (json.dumps(label_payload(tuple(total.label))),))[0][0]
        run(ADD_TO_TOTAL, (total.day, label_id, *total.counts))
    for gone in part.charges:
        digest = owner_digest(gone.owner)
        known = run(FIND_OWNER, (digest,)) or run(ADD_OWNER, (digest, gone.owner))
        owner_id = known[0][0]
        run(ADD_TO_MINUTE, (owner_id, gone.minute, *gone.charge))
        run(FORGET_BALANCES, (owner_id,))


def _alert_values(alert: Latched) -> tuple[Any, ...]:
    watch = alert.crossing.watch
    span = watch.span
    return (
        digest_of(watch.key),
        watch.key,
        watch.owner,
        span.start_us,
        span.end_us,
        span.is_rolling,
        str(watch.threshold_pico),
        alert.crossing.spent_pico,
        alert.is_delivered,
    )

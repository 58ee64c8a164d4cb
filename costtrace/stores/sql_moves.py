"""What a SQL ledger hands over when it moves to another home; see `moving`."""

from __future__ import annotations

from typing import Any

from costtrace.stores.base import Crossing, Hold, Query, Span, Watch
from costtrace.stores.calls import CALL_COLUMNS, LABEL, PAYERS, entry_from
from costtrace.stores.grouping import matches
from costtrace.stores.moving import TAKEN, Charged, GoneCharge, GoneTotal, Latched, Origin
from costtrace.stores.questions import Questions, conditions

_COLUMNS = ", ".join(CALL_COLUMNS)
_CHUNK = 500

SOME_CHARGED = f"""
    SELECT {_COLUMNS}, is_lapsed, id FROM entry
    WHERE id >= ? AND id <= ? AND {{where}} ORDER BY id LIMIT ?"""
NAMES_OF = """
    SELECT name FROM payer JOIN owner ON owner.id = owner_id WHERE payers_id = ? ORDER BY name"""
STANDING = f"SELECT {_COLUMNS}, lease_until_us, process FROM hold ORDER BY call_id"
LATCHED = """
    SELECT key, owner, start_us, end_us, is_rolling, threshold_pico, spent_pico, is_delivered
    FROM alert ORDER BY handed_out_us, key"""
GONE_TOTALS = """
    SELECT day, label_id, sum(entries), sum(calls), sum(prompt_tokens), sum(completion_tokens),
        sum(cost_pico), sum(unpriced_calls)
    FROM total WHERE is_gone = 1 GROUP BY day, label_id ORDER BY day, label_id"""
GONE_CHARGES = """
    SELECT name, minute, sum(spent_pico), sum(spent_tokens), sum(spent_calls)
    FROM minute JOIN owner ON owner.id = owner_id WHERE is_gone = 1
    GROUP BY name, minute ORDER BY name, minute"""
ALL_META = "SELECT name, value FROM meta"
READ_META = "SELECT value FROM meta WHERE name = ?"


class HandingOver(Questions):
    """All that a ledger has, asked for inside of a transaction that sees one state of it."""

    def origin(self) -> Origin:
        """Return which ledger this is, how far it was pruned, and what was taken in."""
        meta: dict[str, str] = dict(self._run(ALL_META, ()).fetchall())
        pruned = meta.get("pruned_before_us")
        taken = {n.removeprefix(TAKEN): v for n, v in meta.items() if n.startswith(TAKEN)}
        return Origin(meta["ledger_id"], None if pruned is None else int(pruned), taken=taken)

    def some_charged(self, query: Query, first: int, last: int) -> tuple[list[Charged], int | None]:
        """Return the next matching entries between two ids, and the last id looked at, if any."""
        where, values = conditions(query, is_by_id=True)
        rows = self._run(
            SOME_CHARGED.format(where=where), (first, last, *values, _CHUNK)
        ).fetchall()
        found = [
            Charged(entry_from(row, label), self._names(row[PAYERS]), bool(row[-2]))
            for row in rows
            if matches(label := self._label(row[LABEL]), query)
        ]
        return found, rows[-1][-1] if rows else None

    def standing(self, now_us: int) -> list[Hold]:
        """Return the holds that stand, each with what is left of its lease."""
        return [
            Hold(
                entry_from(row, self._label(row[LABEL])),
                self._names(row[PAYERS]),
                lease_s=max(row[-2] - now_us, 0) / 1e6,
                process=row[-1],
            )
            for row in self._run(STANDING, ()).fetchall()
        ]

    def latched(self) -> list[Latched]:
        """Return the alerts that have fired."""
        return [_latched(*row) for row in self._run(LATCHED, ()).fetchall()]

    def gone(self) -> tuple[list[GoneTotal], list[GoneCharge]]:
        """Return the sums of pruned entries."""
        totals = [
            GoneTotal(day, self._label(label_id), tuple(map(int, counts)))
            for day, label_id, *counts in self._run(GONE_TOTALS, ()).fetchall()
        ]
        charges = [
            GoneCharge(name, minute, (int(pico), int(tokens), int(calls)))
            for name, minute, pico, tokens, calls in self._run(GONE_CHARGES, ()).fetchall()
        ]
        return totals, charges

    def _names(self, payers_id: int) -> tuple[str, ...]:
        return tuple(name for (name,) in self._run(NAMES_OF, (payers_id,)).fetchall())


def _latched(
    key: str,
    owner: str,
    start_us: int,
    end_us: int,
    is_rolling: Any,
    threshold_pico: Any,
    spent_pico: int,
    is_delivered: Any,
) -> Latched:
    span = Span(start_us, end_us, bool(is_rolling))
    watch = Watch(owner, span, int(threshold_pico), key)
    return Latched(Crossing(watch, spent_pico), bool(is_delivered))

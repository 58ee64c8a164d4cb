"""Questions to a SQL ledger. None of them changes anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from costtrace.entry import CostEntry, Total
from costtrace.exceptions import BudgetStoreError
from costtrace.stores.base import Dimension, Query, Span, Sums
from costtrace.stores.calls import (
    CALL_COLUMNS,
    LABEL,
    TIMESTAMP,
    Run,
    Values,
    counts_from,
    entry_from,
)
from costtrace.stores.grouping import (
    Row,
    Stretch,
    check_query,
    dimensions,
    group,
    matches,
    names_one_call,
    needs_days,
    negative,
    only,
    sum_up,
    times_us,
)
from costtrace.stores.rows import DAY_US, Label, label_digest, label_from_row, payers_digest
from costtrace.stores.statements import READ_LABEL
from costtrace.stores.steps import Steps

_COLUMNS = ", ".join(CALL_COLUMNS)
_LABEL_COLUMNS = ", ".join(Label._fields)
_CHUNK = 500

# Sums of money are made in two halves, so that none passes 64 bits on its way.
_TOTAL_SUMS = """
    sum(entries), sum(calls), sum(prompt_tokens), sum(completion_tokens),
    sum(cost_pico >> 32), sum(cost_pico & 4294967295), sum(unpriced_calls)"""
TOTALS = f"""
    SELECT {{day}}, label_id, {_TOTAL_SUMS} FROM total
    WHERE day >= ? AND day < ? AND {{labels}} GROUP BY 1, 2"""
_ENTRY_SUMS = """
    count(*), sum(CASE WHEN adjusts IS NULL THEN 1 ELSE 0 END),
    sum(input_tokens), sum(output_tokens),
    sum(coalesce(cost_pico, 0) >> 32), sum(coalesce(cost_pico, 0) & 4294967295),
    sum(CASE WHEN adjusts IS NULL AND cost_pico IS NULL THEN 1 ELSE 0 END)"""
EDGE = f"""
    SELECT timestamp_us / {DAY_US}, label_id, {_ENTRY_SUMS} FROM entry
    WHERE timestamp_us >= ? AND timestamp_us < ? AND {{labels}} GROUP BY 1, 2"""
LABELS = f"SELECT id, {_LABEL_COLUMNS} FROM label WHERE {{labels}}"
FORWARD = f"""
    SELECT {_COLUMNS}, id FROM entry WHERE id >= ? AND id <= ? AND {{where}} ORDER BY id LIMIT ?"""
BACKWARD = f"""
    SELECT {_COLUMNS}, id FROM entry WHERE id >= ? AND id <= ? AND {{where}}
    ORDER BY id DESC LIMIT ?"""
RANGE = "SELECT min(id), max(id) FROM entry WHERE {where}"
PROVISIONAL = f"""
    SELECT {_COLUMNS} FROM entry
    WHERE is_lapsed = 1 OR label_id IN (SELECT id FROM label WHERE grade = 'assumed') ORDER BY id"""

# Each finds rows whose sums are not what the entries add up to.
WRONG_TOTALS = f"""
    SELECT day, label_id FROM (
        SELECT day, label_id, entries, calls, prompt_tokens AS sent, completion_tokens AS generated,
            cost_pico AS cost, unpriced_calls AS unpriced
        FROM total WHERE is_gone = 0
        UNION ALL
        SELECT timestamp_us / {DAY_US}, label_id, -count(*),
            -sum(CASE WHEN adjusts IS NULL THEN 1 ELSE 0 END), -sum(input_tokens),
            -sum(output_tokens), -sum(coalesce(cost_pico, 0)),
            -sum(CASE WHEN adjusts IS NULL AND cost_pico IS NULL THEN 1 ELSE 0 END)
        FROM entry GROUP BY 1, 2
    ) AS moved GROUP BY 1, 2
    HAVING sum(entries) <> 0 OR sum(calls) <> 0 OR sum(sent) <> 0 OR sum(generated) <> 0
        OR sum(cost) <> 0 OR sum(unpriced) <> 0"""
WRONG_MINUTES = """
    SELECT owner_id, minute FROM (
        SELECT owner_id, minute, spent_pico AS pico, spent_tokens AS tokens, spent_calls AS calls
        FROM minute WHERE is_gone = 0
        UNION ALL
        SELECT owner_id, timestamp_us / 60000000, -sum(coalesce(cost_pico, 0)),
            -sum(input_tokens + output_tokens), -sum(CASE WHEN adjusts IS NULL THEN 1 ELSE 0 END)
        FROM entry JOIN payer ON payer.payers_id = entry.payers_id GROUP BY 1, 2
    ) AS moved GROUP BY 1, 2 HAVING sum(pico) <> 0 OR sum(tokens) <> 0 OR sum(calls) <> 0"""
BALANCES = """
    SELECT owner_id, start_us, end_us, spent_pico, spent_tokens, spent_calls, reserved_pico,
        reserved_tokens, reserved_calls FROM balance"""
ALL_CALLS = (f"SELECT {_COLUMNS} FROM entry", f"SELECT {_COLUMNS} FROM hold")
DIGESTED_LABELS = f"SELECT id, digest, {_LABEL_COLUMNS} FROM label"
DIGESTED_PAYERS = "SELECT id, digest FROM payers WHERE digest IS NOT NULL"
PAYER_NAMES = "SELECT name FROM payer JOIN owner ON owner.id = owner_id WHERE payers_id = ?"
OWNER_NAME = "SELECT name FROM owner WHERE id = ?"
HELD_AND_ENTERED = "SELECT hold.call_id FROM hold JOIN entry ON entry.call_id = hold.call_id"
NAMELESS = """
    SELECT call_id FROM entry WHERE label_id NOT IN (SELECT id FROM label)
        OR payers_id NOT IN (SELECT id FROM payers)
    UNION ALL
    SELECT call_id FROM hold WHERE label_id NOT IN (SELECT id FROM label)
        OR payers_id NOT IN (SELECT id FROM payers)"""


class Questions:
    """What can be asked, inside of a transaction that sees one state of the ledger."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._labels: dict[int, Label] = {}

    def sums(self, query: Query) -> Sums:
        """Return the sum of the matching entries."""
        return sum_up(self._rows(query, is_by_day=False))

    def totals(self, by: Sequence[Dimension], query: Query) -> list[Total]:
        """Return one total for each group."""
        return group(self._rows(query, needs_days(by)), dimensions(by))

    def entry_range(self, query: Query) -> tuple[int, int]:
        """Return the ids between which the matching entries are; (1, 0) if there are none."""
        where, values = conditions(query)
        first, last = self._run(RANGE.format(where=where), values).fetchone()
        return (1, 0) if first is None else (first, last)

    def some_entries(
        self, query: Query, first: int, last: int, newest_first: bool
    ) -> tuple[list[CostEntry], int | None]:
        """Return the next matching entries between two ids, and the last id looked at, if any."""
        where, values = conditions(query, is_by_id=True)
        statement = (BACKWARD if newest_first else FORWARD).format(where=where)
        rows = self._run(statement, (first, last, *values, _CHUNK)).fetchall()
        found = [
            entry_from(row, label)
            for row in rows
            if matches(label := self._label(row[LABEL]), query)
        ]
        return found, rows[-1][-1] if rows else None

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case."""
        rows = self._run(PROVISIONAL, ()).fetchall()
        return [entry_from(row, self._label(row[LABEL])) for row in rows]

    def damaged(self) -> list[str]:
        """Return what is not as it was written, also where it changes no sum."""
        found = []
        for label_id, digest, *row in self._run(DIGESTED_LABELS, ()).fetchall():
            try:
                label = self._labels[label_id] = label_from_row(tuple(row))
            except BudgetStoreError as error:
                found.append(f"label {label_id}: {error}")
                continue
            if digest not in (None, label_digest(tuple(label))):
                found.append(f"label {label_id} is not as it was written: {label}")
        for payers_id, digest in self._run(DIGESTED_PAYERS, ()).fetchall():
            names = [str(name) for (name,) in self._run(PAYER_NAMES, (payers_id,)).fetchall()]
            if digest != payers_digest(tuple(names)):
                found.append(f"payers {payers_id} are not as they were written: {names}")
        for statement in ALL_CALLS:
            found += self._unreadable(statement)
        return found

    def differences(self) -> list[str]:
        """Return what does not agree with the entries and holds."""
        run = self._run
        found = [
            f"call {call_id!r} is held and in the ledger as well"
            for (call_id,) in run(HELD_AND_ENTERED, ()).fetchall()
        ]
        found += [
            f"call {call_id!r} has lost its label or its owners"
            for (call_id,) in run(NAMELESS, ()).fetchall()
        ]
        found += [
            f"total of day {day} and label {label_id} is not the sum of its entries"
            for day, label_id in run(WRONG_TOTALS, ()).fetchall()
        ]
        found += [
            f"{self._owner(owner_id)}: minute {minute} is not the sum of its entries"
            for owner_id, minute in run(WRONG_MINUTES, ()).fetchall()
        ]
        return found + self._wrong_balances()

    def _wrong_balances(self) -> list[str]:
        steps, found = Steps(self._run), []
        for owner_id, start_us, end_us, *kept in self._run(BALANCES, ()).fetchall():
            balance = steps.summed(owner_id, Span(start_us, end_us))
            spent = (balance.spent_pico, balance.spent_tokens, balance.spent_calls)
            reserved = (balance.reserved_pico, balance.reserved_tokens, balance.reserved_calls)
            if (*spent, *reserved) != tuple(kept):
                owner = self._owner(owner_id)
                found.append(f"{owner}: balance {kept}, but its calls sum to {spent + reserved}")
        return found

    def _unreadable(self, statement: str) -> Iterator[str]:
        rows = self._run(statement, ())
        while (row := rows.fetchone()) is not None:
            label = self._labels.get(row[LABEL])
            if label is not None:  # those without one are found elsewhere
                try:
                    entry_from(row, label)
                except BudgetStoreError as error:
                    yield str(error)

    def _rows(self, query: Query, is_by_day: bool) -> Iterator[Row]:
        if names_one_call(query):
            return self._rows_of_calls(query)
        return only(self._summed_rows(query, is_by_day), query)

    def _summed_rows(self, query: Query, is_by_day: bool) -> Iterator[Row]:
        labels, values = label_filter(query)
        for label_id, *row in self._run(LABELS.format(labels=labels), values).fetchall():
            self._labels[label_id] = label_from_row(tuple(row))
        within = f"label_id IN (SELECT id FROM label WHERE {labels})" if values else "1 = 1"
        stretch = Stretch.of(query)
        statement = TOTALS.format(day="day" if is_by_day else "0", labels=within)
        days = (stretch.first_day, stretch.end_day)
        for day, label_id, *sums in self._run(statement, (*days, *values)).fetchall():
            yield day, self._label(label_id), _joined(sums)
        for edge in stretch.edges:
            found = self._run(EDGE.format(labels=within), (*edge, *values)).fetchall()
            for day, label_id, *sums in found:
                yield day if is_by_day else 0, self._label(label_id), negative(_joined(sums))

    def _rows_of_calls(self, query: Query) -> Iterator[Row]:
        where, values = conditions(query)
        statement = f"SELECT {_COLUMNS} FROM entry WHERE {where}"
        for row in self._run(statement, values).fetchall():
            label = self._label(row[LABEL])
            if matches(label, query):
                yield row[TIMESTAMP] // DAY_US, label, counts_from(row)

    def _label(self, label_id: int) -> Label:
        label = self._labels.get(label_id)
        if label is None:
            label = label_from_row(self._run(READ_LABEL, (label_id,)).fetchone())
            self._labels[label_id] = label
        return label

    def _owner(self, owner_id: int) -> str:
        found = self._run(OWNER_NAME, (owner_id,)).fetchone()
        return f"owner {owner_id}" if found is None else str(found[0])


def label_filter(query: Query) -> tuple[str, Values]:
    """Return the condition on labels, without tags, and its values."""
    names = ("user_id", "function_name", "model", "provider")
    asked = [(name, getattr(query, name)) for name in names if getattr(query, name) is not None]
    return " AND ".join(["1 = 1", *(f"{name} = ?" for name, _ in asked)]), tuple(
        v for _, v in asked
    )


def conditions(query: Query, is_by_id: bool = False) -> tuple[str, Values]:
    """Return the condition on entries, without tags, and its values."""
    check_query(query)
    labels, values = label_filter(query)
    parts, bound = ["1 = 1"], list(values)
    if values:
        parts.append(f"label_id IN (SELECT id FROM label WHERE {labels})")
    time = "+timestamp_us" if is_by_id else "timestamp_us"  # + : go by id, not by the time index
    since_us, until_us = times_us(query)
    for condition, value in ((f"{time} >= ?", since_us), (f"{time} < ?", until_us)):
        if value is not None:
            parts.append(condition)
            bound.append(value)
    if query.call_id is not None:
        parts.append("call_id = ?")
        bound.append(query.call_id)
    if query.response_id is not None:
        parts.append("substr(response_id, -6) = substr(?, -6) AND response_id = ?")
        bound += [query.response_id, query.response_id]
    return " AND ".join(parts), tuple(bound)


def _joined(sums: Sequence[int]) -> tuple[int, ...]:
    entries, calls, sent, generated, high, low, unpriced = sums
    return (entries, calls, sent, generated, (high << 32) + low, unpriced)

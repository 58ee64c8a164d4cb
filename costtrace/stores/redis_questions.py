"""Questions to a ledger in Redis. None of them changes anything.

Totals are kept by day and label; what a question with times cuts off from its first and last day
is read as entries, page by page. All other conditions are looked at here, not in Redis.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from costtrace.entry import CostEntry, Total
from costtrace.exceptions import BudgetStoreError
from costtrace.stores.base import Dimension, Query, Sums
from costtrace.stores.grouping import (
    FOREVER,
    Row,
    Stretch,
    dimensions,
    group,
    matches,
    names_one_call,
    negative,
    only,
    sum_up,
    times_us,
)
from costtrace.stores.redis_link import RedisLink
from costtrace.stores.redis_payload import (
    AT,
    DAY,
    LABEL,
    MINUTE,
    PAYERS,
    charge_of,
    counts_of,
    entry_of,
    label_of_json,
    response_id_of,
    row_of,
)
from costtrace.stores.rows import MINUTE_US, Label

_PAGE, _DAYS = 500, 400
_QUESTION_S = 30.0
_MOST_TRIES = 20


class RedisQuestions:
    """What can be asked; each object answers one question."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._labels: dict[str, Label] = {}

    def sums(self, query: Query) -> Sums:
        """Return the sum of the matching entries."""
        return sum_up(self._rows(query))

    def totals(self, by: Sequence[Dimension], query: Query) -> list[Total]:
        """Return one total for each group."""
        return group(self._rows(query), dimensions(by))

    def entries(self, query: Query, newest_first: bool) -> Iterator[CostEntry]:
        """Yield the matching entries."""
        for row in self.found_rows(query, newest_first):
            label = self.label(row[LABEL])
            if matches(label, query):
                yield entry_of(row, label)

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case."""
        found: list[CostEntry] = []
        after = "0"
        while True:
            (numbered,) = self._ask("provisional", {"after": after})
            rows = [row_of(packed) for packed in numbered[1::2] if packed]
            self._read_labels(rows)
            found += [entry_of(row, self.label(row[LABEL])) for row in rows]
            if len(numbered) < 2 * _PAGE:
                return found
            after = numbered[-2]

    def labels_of(self, user_id: str) -> dict[str, tuple[Label, str]]:
        """Return a user's labels by number, and as they are written."""
        return {
            number: (label, text)
            for number, text in self.all_of("label").items()
            if (label := label_of_json(text)).user_id == user_id
        }

    def entries_of(self, numbers: set[str]) -> int:
        """Return how many entries there are of the labels with these numbers."""
        whole = Stretch(*FOREVER, ())
        rows, _, _ = self._day_totals(whole)
        return sum(counts[0] for _, label, counts in rows if label in numbers)

    def all_of(self, name: str) -> dict[str, str]:
        """Return all that one hash holds."""
        (flat,) = self._ask("all_of", {"name": name})
        return {field: value for field, value in pairs(flat) if field != "v"}

    # -- rows --------------------------------------------------------------------------------

    def _ask(self, script: str, payload: dict[str, Any]) -> list[Any]:
        return self._link.ask(script, payload, _QUESTION_S)

    def found_rows(self, query: Query, newest_first: bool = False) -> Iterator[list[str]]:
        """Yield the rows that may match; their labels' names are not looked at yet."""
        since_us, until_us = times_us(query)
        for rows in self._pages(query, newest_first):
            self._read_labels(rows)
            for row in rows:
                at_us = int(row[AT])
                if (
                    (since_us is None or at_us >= since_us)
                    and (until_us is None or at_us < until_us)
                    and query.response_id in (None, response_id_of(row))
                ):
                    yield row

    def _pages(self, query: Query, newest_first: bool) -> Iterator[list[list[str]]]:
        if query.call_id is not None:
            (found,) = self._ask("find", {"id": query.call_id})
            yield [row_of(found[1])] if found and found[1] else []
            return
        last = int(self._ask("about", {})[0])
        starts = range(1, last + 1, _PAGE)
        for first in reversed(starts) if newest_first else starts:
            upto = min(first + _PAGE - 1, last)
            (packed,) = self._ask("entries", {"first": str(first), "last": str(upto)})
            rows = [row_of(text) for text in packed if text]
            yield rows[::-1] if newest_first else rows

    def _rows(self, query: Query) -> list[Row]:
        if names_one_call(query):
            rows = list(self.found_rows(query, newest_first=False))
            return list(only((self._counted(row) for row in rows), query))
        stretch = Stretch.of(query)
        for _ in range(_MOST_TRIES):
            found, last, changed = self._day_rows(stretch)
            edges = [row for edge in stretch.edges for row in self._edge_rows(edge, last)]
            if not stretch.edges or self._ask("about", {})[1] == changed:
                return list(only([*found, *edges], query))
        raise BudgetStoreError("Redis: entries were being changed all the time; ask again")

    def _day_rows(self, stretch: Stretch) -> tuple[list[Row], int, str]:
        """Return the totals of days, how many entries they count, and the state they belong to."""
        totals, last, changed = self._day_totals(stretch)
        self._read_label_numbers({label for _, label, _ in totals})
        return [(day, self.label(label), counts) for day, label, counts in totals], last, changed

    def _day_totals(
        self, stretch: Stretch
    ) -> tuple[list[tuple[int, str, tuple[int, ...]]], int, str]:
        rows: list[tuple[int, str, tuple[int, ...]]] = []
        first, about = stretch.first_day, ["0", "0"]
        while True:
            (found,) = self._ask("totals", {"first": str(first), "stop": str(stretch.end_day)})
            about = about if rows else found[:2]
            for day, flat in zip(found[3::2], found[4::2], strict=True):
                for label, packed in pairs(flat):
                    if packed:
                        rows.append((int(day), label.removeprefix("g"), _numbers(packed)))
            if len(found) < 2 * _DAYS:
                return rows, int(about[0]), about[1]
            first = int(found[-2]) + 1

    def _edge_rows(self, edge: tuple[int, int], last: int) -> Iterator[Row]:
        """Yield what entries at the edge of a day take off from its total."""
        skip = 0
        while True:
            payload = {"start": str(edge[0]), "stop": str(edge[1]), "skip": str(skip)}
            numbered, _ = self._ask("between", payload)
            rows = [
                row_of(packed)
                for number, packed in pairs(numbered)
                if packed and int(number) <= last
            ]
            self._read_labels(rows)
            for day, label, counts in map(self._counted, rows):
                yield day, label, negative(counts)
            if len(numbered) < 2 * _PAGE:
                return
            skip += _PAGE

    def _counted(self, row: list[str]) -> Row:
        return int(row[DAY]), self.label(row[LABEL]), counts_of(row)

    # -- labels ------------------------------------------------------------------------------

    def _read_labels(self, rows: list[list[str]]) -> None:
        self._read_label_numbers({row[LABEL] for row in rows})

    def _read_label_numbers(self, numbers: set[str]) -> None:
        unknown = sorted(numbers - self._labels.keys())
        for start in range(0, len(unknown), _PAGE):
            part = unknown[start : start + _PAGE]
            (texts,) = self._ask("labels", {"ids": part})
            for number, text in zip(part, texts, strict=True):
                if text is not None:
                    self._labels[number] = label_of_json(text)

    def label(self, number: str) -> Label:
        """Return the label with this number."""
        if number not in self._labels:
            self._read_label_numbers({number})
        return self._labels[number]


class RedisAudit:
    """Everything in a ledger, read at one moment, and what in it does not agree."""

    def __init__(self, link: RedisLink) -> None:
        self._questions = RedisQuestions(link)
        self._link = link

    def differences(self) -> list[str]:
        """Return what does not agree with the entries and holds."""
        for _ in range(_MOST_TRIES):
            state = self._link.ask("about", {})
            found = self._differences(int(state[0]))
            if self._link.ask("about", {}) == state:
                return found
        raise BudgetStoreError("Redis: the ledger was being written all the time; ask again")

    def _differences(self, last: int) -> list[str]:
        all_of = self._questions.all_of
        entries = self._entries(last)
        holds = {name[1:]: row_of(packed) for name, packed in all_of("hold").items()}
        payers = {
            number: text.partition("|")[2].split(",") for number, text in all_of("payers").items()
        }
        owners = {
            number: json.loads(text.partition("|")[2]) for number, text in all_of("owner").items()
        }
        ids = {name[1:]: number for name, number in all_of("ids").items()}
        found = [
            f"call {call_id!r} is held and in the ledger as well"
            for call_id in holds
            if call_id in ids
        ]
        if sorted(ids.values()) != sorted(entries):
            found.append("the ids of the calls do not belong to the entries")
        found += self._wrong_totals(entries)
        for number, name in owners.items():
            mine = [row for row in entries.values() if number in payers[row[PAYERS]]]
            held = [row for row in holds.values() if number in payers[row[PAYERS]]]
            found += self._wrong_minutes(number, name, mine)
            found += self._wrong_balances(number, name, mine, held)
        return found

    def _entries(self, last: int) -> dict[str, list[str]]:
        rows: dict[str, list[str]] = {}
        for first in range(1, last + 1, _PAGE):
            upto = min(first + _PAGE - 1, last)
            (packed,) = self._link.ask(
                "entries", {"first": str(first), "last": str(upto)}, _QUESTION_S
            )
            rows |= {str(n): row_of(text) for n, text in enumerate(packed, first) if text}
        return rows

    def _wrong_totals(self, entries: dict[str, list[str]]) -> list[str]:
        (found,) = self._link.ask(
            "totals", {"first": str(FOREVER[0]), "stop": str(FOREVER[1])}, _QUESTION_S
        )
        kept = {
            (day, label): _numbers(packed)
            for day, flat in zip(found[3::2], found[4::2], strict=True)
            for label, packed in pairs(flat)
            if packed and not label.startswith("g")
        }
        summed: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 6)
        for row in entries.values():
            _add(summed[(row[DAY], row[LABEL])], counts_of(row))
        return [
            f"total of day {day} and label {label} is not the sum of its entries"
            for day, label in sorted(kept.keys() | summed.keys())
            if kept.get((day, label), (0,) * 6) != tuple(summed.get((day, label), (0,) * 6))
        ]

    def _wrong_minutes(self, number: str, name: str, mine: list[list[str]]) -> list[str]:
        kept = self._questions.all_of(f"m:{number}")
        summed: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 3)
        for row in mine:
            _add(summed[row[MINUTE]], charge_of(row))
            _add(summed["d" + row[DAY]], charge_of(row))
        for field, packed in kept.items():
            if field.startswith("g"):
                gone = _numbers(packed)
                _add(summed[field[1:]], gone)
                _add(summed[f"d{int(field[1:]) // 1440}"], gone)
        fields = {field for field in kept if field[0] in "d0123456789"}
        return [
            f"{name}: minute or day {field} is not the sum of its entries"
            for field in sorted(fields | summed.keys())
            if _numbers(kept.get(field, "0|0|0")) != tuple(summed[field])
        ]

    def _wrong_balances(
        self, number: str, name: str, mine: list[list[str]], held: list[list[str]]
    ) -> list[str]:
        minutes = self._questions.all_of(f"m:{number}")
        found = []
        for field, packed in self._questions.all_of(f"b:{number}").items():
            start_us, end_us = map(int, field.split(":"))
            summed = _summed(minutes, mine, start_us, end_us)
            for row in held:
                if start_us <= int(row[AT]) < end_us:
                    _add(summed, (0, 0, 0, *charge_of(row)))
            if _numbers(packed) != tuple(summed):
                found.append(f"{name}: balance {packed}, but its calls sum to {summed}")
        return found


def _summed(
    minutes: dict[str, str], mine: list[list[str]], start_us: int, end_us: int
) -> list[int]:
    """Sum the minutes that a span touches, less the calls in them that lie outside."""
    sums = [0] * 6
    first, end = start_us // MINUTE_US, -(-end_us // MINUTE_US)
    for field, packed in minutes.items():
        if field[0].isdigit() and first <= int(field) < end:
            _add(sums, _numbers(packed))
    for row in mine:
        if first <= int(row[MINUTE]) < end and not start_us <= int(row[AT]) < end_us:
            _add(sums, negative(charge_of(row)))
    return sums


def pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the fields of a hash with their values."""
    return zip(flat[::2], flat[1::2], strict=True)


def _numbers(packed: str) -> tuple[int, ...]:
    return tuple(map(int, packed.split("|")))


def _add(sums: list[int], more: Sequence[int]) -> None:
    for position, count in enumerate(more):
        sums[position] += count

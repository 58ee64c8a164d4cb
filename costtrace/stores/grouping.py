"""Totals: rows of (day, label, counts) in, groups out. Every store answers questions through this.

A question with times cuts through days. The totals of whole days are kept by every store, so the
answer is all days that the times touch, less the entries at the edges that lie outside of them.
Entries that a store no longer keeps are only known by their day: they count as at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from costtrace.entry import CostEntry, Total
from costtrace.money import Picodollars, to_usd
from costtrace.stores.base import Dimension, Query, Sums
from costtrace.stores.rows import (
    DAY_US,
    Label,
    check_text,
    checked_label,
    exact_pico,
    label_of,
    to_us,
)

Counts: TypeAlias = Sequence[int]
"""Entries, calls, prompt tokens, completion tokens, picodollars, unpriced calls."""
Row: TypeAlias = tuple[int, Label, Counts]
KeyOf: TypeAlias = Callable[[int, Label], str]

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIELDS = (
    "function_name",
    "user_id",
    "model",
    "provider",
    "operation",
    "service_tier",
    "status",
    "grade",
)
FOREVER = (-(2**40), 2**40)
"""Days that no calendar reaches."""


def counts_of(entry: CostEntry, pico: Picodollars | None) -> Counts:
    """Return what the entry adds to the total of its group."""
    usage, is_call = entry.usage, entry.adjusts is None
    unpriced = 1 if pico is None and is_call else 0
    return (1, int(is_call), usage.input_tokens, usage.output_tokens, pico or 0, unpriced)


def row_of(entry: CostEntry) -> Row:
    """Return the row of one entry alone."""
    label = checked_label(label_of(entry))
    return to_us(entry.timestamp) // DAY_US, label, counts_of(entry, exact_pico(entry.cost_usd))


@dataclass(frozen=True, slots=True)
class Stretch:
    """The days that a query's times touch, and the edges of these days that lie outside."""

    first_day: int
    end_day: int
    edges: tuple[tuple[int, int], ...]
    """Microseconds, end exclusive: entries here are to be taken off again."""

    @classmethod
    def of(cls, query: Query) -> Stretch:
        """Return the stretch of a query; raises `ValueError` for times without a zone."""
        first, end = FOREVER
        edges = []
        since, until = times_us(query)
        if since is not None and until is not None and since >= until:
            return cls(0, 0, ())
        if since is not None:
            first = since // DAY_US
            edges.append((first * DAY_US, since))
        if until is not None:
            end = -(-until // DAY_US)
            edges.append((until, end * DAY_US))
        return cls(first, end, tuple(edge for edge in edges if edge[0] < edge[1]))


def times_us(query: Query) -> tuple[int | None, int | None]:
    """Return the query's `since` and `until` in microseconds."""
    since = None if query.since is None else to_us(query.since, "since")
    until = None if query.until is None else to_us(query.until, "until")
    return since, until


def matches(label: Label, query: Query) -> bool:
    """Return whether entries of this label can be what the query asks for."""
    return (
        query.user_id in (None, label.user_id)
        and query.function_name in (None, label.function_name)
        and query.model in (None, label.model)
        and query.provider in (None, label.provider)
        and (not query.tags or query.tags.items() <= dict(label.tags).items())
    )


def names_one_call(query: Query) -> bool:
    """Return whether the query asks for single entries, which totals know nothing of."""
    return query.call_id is not None or query.response_id is not None


def check_query(query: Query) -> None:
    """Raise `ValueError` or `TypeError` for what cannot be asked."""
    for name in ("user_id", "function_name", "model", "provider", "call_id", "response_id"):
        value = getattr(query, name)
        if value is not None:
            check_text(value, name)
    times_us(query)


def group(rows: Iterable[Row], by: Sequence[Dimension]) -> list[Total]:
    """Return one total for each group of rows, dearest first."""
    keys = [key_of(dimension) for dimension in dimensions(by)]
    groups: dict[tuple[str, ...], list[int]] = {}
    for day, label, counts in rows:
        key = tuple(part(day, label) for part in keys)
        sums = groups.setdefault(key, [0] * 6)
        for position, count in enumerate(counts):
            sums[position] += count
    totals = [_total(key, sums) for key, sums in groups.items() if sums[0]]
    return sorted(totals, key=lambda total: (-total.cost_usd, total.key))


def sum_up(rows: Iterable[Row]) -> Sums:
    """Return the sum of all rows."""
    sums = [0] * 6
    for _, _, counts in rows:
        for position, count in enumerate(counts):
            sums[position] += count
    entries, calls, prompt, completion, pico, unpriced = sums
    return Sums(entries, calls, prompt, completion, to_usd(pico), unpriced)


def only(rows: Iterable[Row], query: Query) -> Iterator[Row]:
    """Yield the rows whose label the query asks for."""
    is_wanted: dict[int, bool] = {}
    for row in rows:
        label = row[1]
        wanted = is_wanted.get(id(label))
        if wanted is None:
            wanted = is_wanted[id(label)] = matches(label, query)
        if wanted:
            yield row


def negative(counts: Counts) -> Counts:
    """Return the counts of entries that are taken off."""
    return tuple(-count for count in counts)


def needs_days(by: Sequence[Dimension]) -> bool:
    """Return whether days must be told apart."""
    return "day" in dimensions(by)


def dimensions(by: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Return the dimensions; raises `ValueError` for one that does not exist, or none at all."""
    names = (by,) if isinstance(by, str) else tuple(by)
    if not names:
        raise ValueError("totals need something to group by, such as 'function_name'")
    for name in names:
        key_of(name)
    return names


def key_of(dimension: Dimension) -> KeyOf:
    """Return how a row's place in this dimension is found."""
    if dimension in _FIELDS:
        position = Label._fields.index(dimension)
        return lambda _day, label: str(label[position])
    if dimension == "day":
        return lambda day, _label: day_text(day)
    if dimension == "call_path":
        return lambda _day, label: " > ".join(label.call_path)
    if isinstance(dimension, str) and dimension.startswith("tag:") and len(dimension) > 4:
        tag = dimension[4:]
        return lambda _day, label: dict(label.tags).get(tag, "")
    raise ValueError(
        f"cannot group by {dimension!r}; known are {', '.join(_FIELDS)}, day, call_path, tag:<name>"
    )


def day_text(day: int) -> str:
    """Return the UTC day as it is written: `2026-11-22`."""
    return date.fromordinal(_EPOCH_ORDINAL + day).isoformat()


def _total(key: tuple[str, ...], sums: list[int]) -> Total:
    return Total(
        key=key,
        calls=sums[1],
        prompt_tokens=sums[2],
        completion_tokens=sums[3],
        cost_usd=to_usd(sums[4]),
        unpriced_calls=sums[5],
    )

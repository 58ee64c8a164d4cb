"""Asking a ledger: its entries as a sequence, and what a caller's filters mean to a store."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import islice
from typing import Any

from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError
from costtrace.instant import to_us
from costtrace.stores.base import Query, Store


class Entries:
    """The entries of a ledger: iterable as often as wanted, with a length; read as they stand."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __iter__(self) -> Iterator[CostEntry]:
        return self._store.entries()

    def __reversed__(self) -> Iterator[CostEntry]:
        return self._store.entries(newest_first=True)

    def __len__(self) -> int:
        return self._store.sums().entries

    def __getitem__(self, index: int | slice) -> CostEntry | list[CostEntry]:
        if isinstance(index, slice):
            return list(self)[index]
        place = operator.index(index)
        found, skipped = (reversed(self), -1 - place) if place < 0 else (iter(self), place)
        for entry in islice(found, skipped, None):  # no more are read than lie before it
            return entry
        raise IndexError(f"there is no entry {place}: there are {len(self)}")

    def __repr__(self) -> str:
        try:
            return f"<{len(self)} entries>"
        except BudgetStoreError as error:
            return f"<entries: {error}>"


def query_of(filters: dict[str, Any]) -> Query:
    """Return the query of what a caller asked for; an unknown filter is a `TypeError`."""
    unknown = filters.keys() - _FILTERS
    if unknown:
        raise TypeError(
            f"unknown filter {', '.join(sorted(unknown))}: there are {', '.join(_FILTERS)}"
        )
    for name in ("since", "until"):
        if filters.get(name) is not None:
            to_us(filters[name], name)
    return Query(**{name: value for name, value in filters.items() if value is not None})


_FILTERS = ("user_id", "function_name", "model", "provider", "since", "until", "tags")

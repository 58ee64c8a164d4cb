"""Asking a ledger: its entries as a sequence, and what a caller's filters mean to a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from costtrace.entry import CostEntry
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
        return list(self)[index]

    def __repr__(self) -> str:
        return f"<{len(self)} entries>"


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

"""How the sums of a MemoryStore are added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from typing import TypeVar

from costtrace.stores.rows import DAY_US, Charge

K = TypeVar("K")
LABEL_BITS = 32


def total_key(timestamp_us: int, label: int) -> int:
    """Return the key of the total of a label's entries on the day of this time."""
    return (timestamp_us // DAY_US) << LABEL_BITS | label


def add_to(sums: dict[K, list[int]], key: K, more: Sequence[int]) -> None:
    """Add counts to the sums of a key, which may be new."""
    known = sums.get(key)
    if known is None:
        sums[key] = list(more)
    else:
        known[:] = map(add, known, more)


def add_in_place(sums: list[int], more: Iterable[int]) -> None:
    """Add counts to sums."""
    for position, count in enumerate(more):
        sums[position] += count


def less(charge: Charge, old: Charge) -> Charge:
    """Return the difference of two charges."""
    return (charge[0] - old[0], charge[1] - old[1], charge[2] - old[2])

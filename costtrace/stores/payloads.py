"""Steps as JSON, for servers that do them by themselves."""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from costtrace.entry import CostEntry
from costtrace.stores.base import Crossing, Limit, Watch
from costtrace.stores.rows import Label, check_text, checked_label, distinct, lapsed_grade

_GRADE = Label._fields.index("grade")


def digest_of(text: str) -> str:
    """Return what a text of any length is found by: 32 hexadecimal digits."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)
def owner_digest(owner: str) -> str:
    """Return what an owner is found by."""
    return digest_of(check_text(owner, "an owner"))


def lapsed_label(fields: tuple[object, ...], entry: CostEntry) -> tuple[object, ...]:
    """Return the label that the entry gets when nobody settles it."""
    return (*fields[:_GRADE], lapsed_grade(entry), *fields[_GRADE + 1 :])


@lru_cache(maxsize=4096)
def sound_label(fields: tuple[object, ...]) -> Label:
    """Return the label, checked; the same one is checked once."""
    return checked_label(fields)


def finite(number: float | None) -> float | None:
    """Return the number if it is one."""
    return number if number is None or math.isfinite(number) else None


def sorted_limits(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Return each limit once."""
    return tuple(dict.fromkeys(limits))


def names(owners: tuple[str, ...]) -> tuple[str, ...]:
    """Return the owners, each once and checked."""
    for owner in (owners := distinct(owners)):
        owner_digest(owner)
    return owners


def crossings(watches: dict[str, Watch], found: list[Any]) -> list[Crossing]:
    """Return the crossings that a server names by the digests of their keys."""
    return [Crossing(watches[digest], int(spent)) for digest, spent in found]

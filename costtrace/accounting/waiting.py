"""What may have to wait for a store: settlements and releases, as data that a file can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from costtrace.entry import CostEntry
from costtrace.stores.base import Hold


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a call did cost, and who is charged for it."""

    entry: CostEntry
    owners: tuple[str, ...]
    amend: bool = False
    rest: Hold | None = None
    """What the call may still cost; while a settlement waits, its own hold stands for that."""
    frees: str = ""
    """The hold of an earlier rest."""


@dataclass(frozen=True, slots=True)
class Release:
    """A hold that is to be given back."""

    call_id: str
    is_certain: bool = True
    """Whether the hold was made; else the store failed, and only may have made it."""


Waiting: TypeAlias = Settlement | Release


def name_of(step: Waiting) -> str:
    """Return what a step does, in a word."""
    return "settle" if isinstance(step, Settlement) else "release"

"""Headroom: what is left of all limits that a call must keep."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from costtrace.accounting.terms import BudgetTerms
from costtrace.money import Picodollars
from costtrace.stores.base import Balance, Limit

PLENTY = 16
"""While other calls are in flight, a call holds further attempts from this part of what is left."""

FAR = 64
"""A limit is far from what costs no more than this part of what is left of it."""
GLANCE_S = 1.0
"""Seconds for which what was seen of a limit that is far is believed."""
MOST_GLANCES = 1_024


@dataclass(frozen=True, slots=True)
class Headroom:
    """What is left in each unit; None where nothing limits it."""

    pico: Picodollars | None = None
    tokens: int | None = None
    owner: str = ""
    """Whose limit is the tightest, in money if there is one."""
    is_shared: bool = False
    """Whether other calls are in flight, which may give something back."""

    @classmethod
    def left(cls, limit: Limit, balance: Balance) -> Headroom:
        """Return what is left of one limit."""
        pico = _left(limit.pico, balance.spent_pico, balance.reserved_pico)
        tokens = _left(limit.tokens, balance.spent_tokens, balance.reserved_tokens)
        return cls(pico, tokens, limit.owner, has_reserved(balance))

    def least(self, other: Headroom) -> Headroom:
        """Return the lesser of the two in each unit."""
        pico, tokens = least(self.pico, other.pico), least(self.tokens, other.tokens)
        is_others = not self.owner or (pico, tokens) == (other.pico, other.tokens)
        owner = other.owner if is_others else self.owner
        return Headroom(pico, tokens, owner, self.is_shared or other.is_shared)

    def half(self) -> Headroom:
        """Return what one call may take so that others in parallel are left something."""
        return self._part(2)

    def bounded(self, budgets: Iterable[BudgetTerms]) -> Headroom:
        """Return what one call may take at all, which `per_call` may bound further."""
        pico = self.pico
        for terms in budgets:
            if terms.per_call_pico is not None:
                pico = least(pico, terms.per_call_pico)
        if pico == self.pico:
            return self
        return Headroom(pico, self.tokens, self.owner, self.is_shared)

    def attempts(self, wanted: int, pico: Picodollars | None, tokens: int) -> int:
        """Return how many attempts of this worst case a call may hold, at least one.

        All that can be paid for; but while others are in flight, what is there in plenty: what one
        call holds for attempts that it will hardly need, another one could have been sent with.
        """
        room = self._part(PLENTY) if self.is_shared else self
        for left, each in ((room.pico, pico), (room.tokens, tokens)):
            if left is not None and each:
                wanted = min(wanted, left // each)
        return max(1, wanted)

    def _part(self, share: int) -> Headroom:
        pico = None if self.pico is None else self.pico // share
        tokens = None if self.tokens is None else self.tokens // share
        return Headroom(pico, tokens, self.owner, self.is_shared)


class Glances:
    """What was left of limits a moment ago: it spares calls far from them a look at the store.

    It decides nothing but how much a call asks for; whether it gets that is the store's to say.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], tuple[float, Picodollars]] = {}

    def note(self, owners: tuple[str, ...], room: Headroom) -> None:
        """Remember what was seen; limits in tokens are looked at each time."""
        if len(self._seen) >= MOST_GLANCES:
            self._seen.clear()
        if room.pico is not None and room.tokens is None:
            self._seen[owners] = (time.monotonic() + GLANCE_S, room.pico)

    def is_plentiful(self, owners: tuple[str, ...], pico: Picodollars) -> bool:
        """Tell whether the limits of these owners were far from such a call a moment ago."""
        seen = self._seen.get(owners)
        return seen is not None and pico * FAR <= seen[1] and time.monotonic() < seen[0]


def least(one: int | None, other: int | None) -> int | None:
    """Return the lesser of two bounds, where None is none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def has_reserved(balance: Balance) -> bool:
    """Tell whether anything is in flight."""
    return bool(balance.reserved_pico or balance.reserved_tokens or balance.reserved_calls)


def _left(limit: int | None, spent: int, reserved: int) -> int | None:
    return None if limit is None else limit - spent - reserved

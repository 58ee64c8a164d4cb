"""A hold that stands in a MemoryStore."""

from __future__ import annotations

from dataclasses import dataclass, replace

from costtrace.stores.base import Hold, user_owner
from costtrace.stores.rows import Charge


@dataclass(slots=True)
class Held:
    """A hold that stands."""

    hold: Hold
    timestamp_us: int
    charge: Charge
    payers: int
    lease_until_us: int


def with_user_renamed(held: Held, user_id: str, new_user_id: str) -> Held:
    """Return the hold with another name on what a user has in it."""
    entry = held.hold.entry
    if entry.user_id == user_id:
        entry = replace(entry, user_id=new_user_id)
    owner, new_owner = user_owner(user_id), user_owner(new_user_id)
    owners = tuple(new_owner if name == owner else name for name in held.hold.owners)
    return replace(held, hold=replace(held.hold, entry=entry, owners=owners))

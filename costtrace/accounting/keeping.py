"""What is done to a ledger now and then: checked, copied, moved, users forgotten, old calls let go.

Each of these looks at all of a ledger; none of them belongs on an event loop.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from costtrace.accounting.postings import Postings
from costtrace.accounting.terms import checked_id
from costtrace.stores.base import ALWAYS, Balance, Query, Store, user_owner
from costtrace.stores.moving import Loaded, copy

ANONYMOUS = "anon"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of a user whom a ledger has forgotten."""

    pseudonym: str
    """The name that stands in all places now; it tells nothing of the old one."""
    entries: int
    """How many entries that were."""
    is_known: bool
    """Whether there was anything of the user, budgets and charges included."""


class Keeping:
    """The part of a `CostLedger` that keeps it in order."""

    postings: Postings
    _store: Store

    @property
    def store(self) -> Store:
        """Where the money is kept."""
        raise NotImplementedError

    def verify(self) -> list[str]:
        """Check that balances equal the sums of the entries; return what does not agree."""
        return self.store.verify()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the ledger to a new SQLite file."""
        backup = getattr(self.store, "backup", None)
        if backup is None:
            raise TypeError(
                f"a {type(self._store).__name__} cannot be copied to a file: "
                "only a ledger that lives in one (path=...) can; copy_to() copies any of them"
            )
        backup(path)

    def copy_to(self, target: Keeping | Store) -> Loaded:
        """Copy all of this ledger into another ledger or store, of whichever kind.

        Entries with all who were charged, budgets, alerts, holds, and the sums of what was pruned:
        afterwards every total and balance is the same there. What is there already stays as it is,
        so a second time changes nothing; what contradicts it is listed as a conflict and stays
        out. Calls that are under way are copied as holds: move a ledger while nobody uses it.
        """
        self.postings.drain()
        if isinstance(target, (str, os.PathLike)):
            raise TypeError(
                f"target must be a ledger or a store, not {target!r}: "
                f"copy_to(CostLedger(path={os.fspath(target)!r})) copies into a file"
            )
        return copy(self.store, target.store if isinstance(target, Keeping) else target)

    def forget(self, user_id: str, pseudonym: str | None = None) -> Forgotten:
        """Put a pseudonym in all places that name a user; every sum stays as it is.

        Entries, charges, holds, balances, budgets and alerts go to the pseudonym, a random one
        unless you give it. A SQLite file is written anew, so that nothing of the name is left in
        it; backups, exports and logs are yours to see to, as are tags and names of functions. A
        call of the user that is under way comes in under the old name: forget again when it has.
        A user who is not known here, or was forgotten before, changes nothing. Raises `ValueError`
        for "anon", who is nobody, and for a pseudonym that is in use.
        """
        if checked_id("user_id", user_id) == ANONYMOUS:
            raise ValueError("'anon' pays where no user is named: there is nobody to forget")
        new = f"gone-{os.urandom(6).hex()}" if pseudonym is None else pseudonym
        if checked_id("pseudonym", new) == user_id or self._knows(new):
            raise ValueError(f"pseudonym {new!r} is in use: two users would become one")
        self.postings.drain()
        is_known = self._knows(user_id)
        entries = self.store.rename_user(user_id, new)
        self.postings.alerts.forget(user_owner(user_id))
        self.postings.limits.forget(user_id)
        return Forgotten(new, entries, is_known)

    def prune(self, before: datetime) -> int:
        """Let go of the entries of calls authorized before; return how many those were.

        Totals, `spent`, reports and budgets stay exact: by day, and by minute for budgets. Single
        entries of that time are no longer listed, and no such call can come in any more. Calls
        whose fate is unknown stay. `keep_days=` does this by itself.
        """
        return self.store.prune(before)

    def _knows(self, user_id: str) -> bool:
        store = self.store
        return bool(
            store.sums(Query(user_id=user_id)).entries
            or store.balance(user_owner(user_id), ALWAYS) != Balance()
            or any(budget.user_id == user_id for budget in store.budgets())
        )

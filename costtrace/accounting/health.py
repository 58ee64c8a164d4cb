"""What went wrong without harming anybody's call: counted, so that somebody can look."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from costtrace.entry import CostEntry
from costtrace.money import Picodollars, format_usd, to_usd
from costtrace.stores.forks import survive_forks

log = logging.getLogger("costtrace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a ledger has fared in this process since it was opened; all counts are 0 at best."""

    store_failures: Mapping[str, int]
    """How often each operation of the store has failed."""
    waiting: int
    """Entries and releases that wait for the store to answer again."""
    unspooled: int
    """Those of them that are in memory alone, since no spool could keep them either."""
    recovered: int
    """Entries and releases that waited when their process died, and were entered by this one."""
    torn: int
    """Entries that were cut off in a spool, since their process died while it wrote them."""
    lost: int
    """Entries that could not be kept: the store takes no such thing, or too many were waiting."""
    unreserved: int
    """Calls that were sent unreserved, since the store was away and the budgets allowed it."""
    internal_faults: Mapping[str, int]
    """Faults of costtrace itself, by what it was about to do, of all ledgers of the process."""
    would_have_refused: int
    """Calls that budgets with `on_exceed="warn"` would have refused."""
    overruns: int
    """Calls that cost more than was reserved for them; charged in full."""
    overrun_usd: Decimal
    """By how much, together: the one way past a limit."""
    largest_overrun_usd: Decimal
    """By how much at most."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing waits, nothing failed and every bound has held."""
        return not (
            self.store_failures
            or self.waiting
            or self.lost
            or self.torn
            or self.unreserved
            or self.internal_faults
            or self.overruns
        )


class Tally:
    """Counts by name. Safe from any thread, and after a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        survive_forks(self)

    def add(self, name: str) -> int:
        """Count one more, and return how many that makes."""
        with self._lock:
            self._counts[name] = count = self._counts.get(name, 0) + 1
        return count

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)

    def of(self, name: str) -> int:
        """Return one count."""
        return self._counts.get(name, 0)

    def before_fork(self) -> None:
        """Do nothing."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Go on with a lock that no thread of the parent holds."""
        self._lock = threading.RLock()


FAULTS = Tally()
"""Faults of ours in this process, by what was to be done."""


class Overruns:
    """Calls that cost more than was reserved for them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._seen: set[tuple[str, str]] = set()
        self.calls = 0
        self.total_pico: Picodollars = 0
        self.largest_pico: Picodollars = 0

    def add(self, entry: CostEntry, over: Picodollars, known: Picodollars) -> None:
        """Note that a call is over by so much, of which `known` was noted before."""
        with self._lock:
            self.calls += (over > 0) - (known > 0)
            self.total_pico += over - known
            self.largest_pico = max(self.largest_pico, over)
            kind = (entry.model, entry.operation)
            is_new = over > 0 and kind not in self._seen
            self._seen.add(kind)
        if is_new:
            log.info(
                "a call cost %s more than was reserved for it and is charged in full (%s, %s)",
                format_usd(to_usd(over)),
                *kind,
            )

    def renew_lock(self) -> None:
        """Go on in a forked child."""
        self._lock = threading.RLock()

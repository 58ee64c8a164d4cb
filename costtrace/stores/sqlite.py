"""The store in a file: many processes of one machine, durable, readable with the sqlite3 shell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from costtrace.entry import CostEntry, Total
from costtrace.stores.base import (
    EVERYTHING,
    Balance,
    BudgetRecord,
    Crossing,
    Dimension,
    Hold,
    Query,
    Refusal,
    Span,
    Sums,
    Watch,
)
from costtrace.stores.clock import checked_timeout, wall_clock
from costtrace.stores.database import Database
from costtrace.stores.grouping import check_query, dimensions
from costtrace.stores.questions import Questions
from costtrace.stores.rows import facts_of, to_us
from costtrace.stores.sqlite_moves import SQLiteMoves
from costtrace.stores.upkeep import Upkeep

_LAPSED_AT_ONCE = 500


class SQLiteStore(SQLiteMoves):
    """Keeps everything in a SQLite file that any number of local processes may share.

    `synchronous="FULL"` survives a power cut; with `"NORMAL"`, about twice as fast, a power cut
    may take the latest calls, a killed process never does. An operation that cannot have the file
    within `timeout_s` raises `BudgetStoreError`, as does a file that is no ledger, cannot be
    written, or is on a network file system (unless `allow_network`); no file is ever overwritten.
    """

    is_blocking = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout_s: float = 2.0,
        allow_network: bool = False,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f'synchronous must be "FULL" or "NORMAL", not {synchronous!r}')
        self._database = Database(
            _file_path(path),
            synchronous=synchronous,
            timeout_s=checked_timeout(timeout_s),
            allow_network=allow_network,
        )
        self._is_lazy = synchronous == "NORMAL"
        self._now_us: Callable[[], int] = wall_clock

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._database.path

    @property
    def identity(self) -> str:
        """What tells this ledger from every other one."""
        return file_identity(self.path)

    def use_clock(self, now_us: Callable[[], int]) -> None:
        """Take leases' time from this clock (microseconds since the epoch)."""
        self._now_us = now_us

    # -- steps -------------------------------------------------------------------------------

    def reserve(self, hold: Hold) -> Refusal | None:
        """Hold the worst case on every owner, or, if a limit would be passed, on none."""
        facts = facts_of(hold.entry)
        with self._database.write(keeps_names=True) as run:
            return Upkeep(run, self._database.names).reserve(hold, facts, self._now_us())

    def settle(
        self,
        entry: CostEntry,
        owners: tuple[str, ...],
        watches: Sequence[Watch] = (),
        *,
        amend: bool = False,
        rest: Hold | None = None,
        frees: str = "",
    ) -> list[Crossing]:
        """Replace the call's hold, or its provisional charge, by what it did cost."""
        facts = facts_of(entry)
        with self._database.write(keeps_names=True) as run:
            steps = Upkeep(run, self._database.names)
            crossed = steps.settle(facts, owners, watches, self._now_us(), amend)
            if frees:
                steps.release(frees)
            if rest is not None:
                steps.reserve(rest, facts_of(rest.entry), self._now_us())
            return crossed

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back: nothing was billed. False if unknown."""
        with self._database.write(keeps_names=True) as run:
            return Upkeep(run, self._database.names).release(call_id)

    def renew(self, process: str, lease_s: float) -> int:
        """Put off the lapse of all holds of a process that still stand; return how many."""
        with self._database.write() as run:
            return Upkeep(run).renew(process, lease_s, self._now_us())

    def lapse(self) -> int:
        """Charge every hold whose lease has run out as its worst case; return how many."""
        return self._in_parts(lambda steps: steps.lapse(self._now_us(), _LAPSED_AT_ONCE))

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span."""
        with self._database.read() as run:
            return Upkeep(run).balance(owner, span)

    # -- alerts, budgets, owners -------------------------------------------------------------

    def undelivered(self, older_than_s: float) -> list[Crossing]:
        """Return crossings latched longer ago than this and never delivered."""
        with self._database.write() as run:
            return Upkeep(run).undelivered(self._now_us(), older_than_s)

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that the alerts of these watches have been sent."""
        with self._database.write() as run:
            Upkeep(run).delivered(keys)

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms; the last ones of a user and window count."""
        if budget not in self.budgets():
            with self._database.write() as run:
                Upkeep(run).define(budget)

    def budgets(self) -> list[BudgetRecord]:
        """Return the budgets that were ever defined."""
        with self._database.read() as run:
            return Upkeep(run).budgets()

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner that nobody will ask about again (a block)."""
        with self._database.write() as run:
            Upkeep(run).drop(owner)

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has here; return how many entries that were.

        Afterwards the file is written anew, so that no page of it and no log holds the old name;
        all others wait meanwhile. What is broken off in that is completed the next time.
        """
        with self._database.write() as run:
            renamed = Upkeep(run).rename_user(user_id, new_user_id)
            has_traces = Upkeep(run).has_traces()
        if has_traces:
            self._database.rewrite()
            with self._database.write() as run:
                Upkeep(run).forget_traces()
        return renamed

    def prune(self, before: datetime, *, at_most: int | None = None) -> int:
        """Let go of settled entries authorized before; totals and balances stay exact."""
        before_us = to_us(before, "before")
        return self._in_parts(lambda steps: steps.prune(before_us), at_most)

    # -- questions ---------------------------------------------------------------------------

    def entries(
        self, query: Query = EVERYTHING, *, newest_first: bool = False
    ) -> Iterator[CostEntry]:
        """Yield entries in the order they came into the ledger, lapsed ones included."""
        check_query(query)
        return self._entries(query, newest_first)

    def sums(self, query: Query = EVERYTHING) -> Sums:
        """Return the sum of the matching entries."""
        check_query(query)
        with self._database.read() as run:
            return Questions(run).sums(query)

    def totals(self, by: Sequence[Dimension], query: Query = EVERYTHING) -> list[Total]:
        """Return one total for each group, dearest first; `key` is always a tuple."""
        check_query(query)
        by = dimensions(by)
        with self._database.read() as run:
            return Questions(run).totals(by, query)

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case because their fate is unknown."""
        with self._database.read() as run:
            return Questions(run).provisional()

    def verify(self) -> list[str]:
        """Check every running balance against the calls, and the file itself."""
        with self._database.read() as run:
            found = [str(row[0]) for row in run("PRAGMA integrity_check", ()).fetchall()]
            questions = Questions(run)
            damaged = [text for text in found if text != "ok"] + questions.damaged()
            return damaged + questions.differences()

    def __repr__(self) -> str:
        return f"<SQLiteStore of {str(self.path)!r}>"

    # -- the file ----------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the ledger as it is now into a new file, while others go on writing.

        Never copy the files themselves: whoever closes them takes SQLite's locks away.
        """
        self._database.backup(_file_path(path))

    def flush(self) -> None:
        """Make all that was settled durable; with `synchronous="FULL"` it is already."""
        if self._is_lazy:
            self._database.checkpoint()

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._database.close()

    def _entries(self, query: Query, newest_first: bool) -> Iterator[CostEntry]:
        with self._database.read() as run:
            first, last = Questions(run).entry_range(query)
        while first <= last:
            with self._database.read() as run:
                found, seen = Questions(run).some_entries(query, first, last, newest_first)
            yield from found
            if seen is None:
                return
            first, last = (first, seen - 1) if newest_first else (seen + 1, last)

    def _in_parts(self, step: Callable[[Upkeep], int], at_most: int | None = None) -> int:
        """Do something in several transactions, so that others need not wait long."""
        done = 0
        while True:
            with self._database.write() as run:
                part = step(Upkeep(run))
            done += part
            if not part or (at_most is not None and done >= at_most):
                return done


def file_identity(path: Path) -> str:
    """Return the identity of a ledger in this file."""
    return f"sqlite:{os.path.realpath(path)}"


def _file_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a text or a path, not {path!r}")
    if not text or "\0" in text or text == ":memory:":
        raise ValueError(f"path must name a file, not {text!r}; MemoryStore() keeps no file")
    return Path(text).absolute()

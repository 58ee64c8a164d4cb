"""The store of one process: in memory, as fast as a lock, gone when the process ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from costtrace.entry import CostEntry, Total
from costtrace.exceptions import BudgetStoreError
from costtrace.stores.agreement import differences
from costtrace.stores.base import (
    EVERYTHING,
    Balance,
    BudgetRecord,
    Crossing,
    Dimension,
    Hold,
    Limit,
    Query,
    Refusal,
    Span,
    Sums,
    Watch,
    user_owner,
)
from costtrace.stores.books import Books
from costtrace.stores.clock import steady_clock
from costtrace.stores.columns import LAPSED
from costtrace.stores.forks import survive_forks
from costtrace.stores.grouping import (
    Row,
    Stretch,
    check_query,
    dimensions,
    group,
    matches,
    names_one_call,
    negative,
    only,
    row_of,
    sum_up,
    times_us,
)
from costtrace.stores.held import Held
from costtrace.stores.latches import Latches
from costtrace.stores.memory_moves import MemoryMoves
from costtrace.stores.reentry import AMID_A_STEP
from costtrace.stores.rows import (
    DAY_US,
    Charge,
    balance_of,
    conflict,
    facts_of,
    lapsed_grade,
    lease_us,
    refusal,
    terms_of,
    to_us,
    too_old,
)
from costtrace.stores.turns import TurnLock

_LAPSED_AT_ONCE = 64  # due holds that one caller's reservation may have to see to
_NEVER = 2**63
_CHUNK = 256  # entries that are read under the lock at a time


class MemoryStore(MemoryMoves):
    """Keeps everything in this process; other processes, forked ones too, have their own.

    With `keep`, about that many of the latest entries are kept as entries, and of older ones only
    what they add to totals and balances, which stay exact. Calls are then known by their id for
    as long as their entry is kept. Raises `ValueError` for a `keep` that is no positive int.
    """

    is_blocking = False

    def __init__(self, keep: int | None = None) -> None:
        if keep is not None and (type(keep) is not int or keep < 1):
            raise ValueError(f"keep must be None or a positive int of entries, not {keep!r}")
        super().__init__()
        self._keep = keep
        self._lock = TurnLock()
        self._books = Books()
        self._latches = Latches()
        self._budgets: dict[tuple[str | None, str | None], BudgetRecord] = {}
        self._now_us = steady_clock()
        self._next_lapse_us = _NEVER
        survive_forks(self)

    def use_clock(self, now_us: Callable[[], int]) -> None:
        """Take leases' time from this clock (microseconds since the epoch)."""
        with self._lock:
            self._now_us = now_us
            self._next_lapse_us = 0

    def reserve(self, hold: Hold) -> Refusal | None:
        """Hold the worst case on every owner, or, if a limit would be passed, on none."""
        if self._lock.is_mine():  # as `_alone`, without its generator: every call comes here
            raise BudgetStoreError(AMID_A_STEP)
        with self._lock:
            return self._reserve(hold)

    def _reserve(self, hold: Hold) -> Refusal | None:
        timestamp_us, _, charge = terms_of(hold.entry)
        lease = lease_us(hold.lease_s)
        books = self._books
        if books.is_half_done:
            books = self._sound_books()
        if self._is_held(hold, timestamp_us, charge):
            return None
        now_us = self._now_us()
        if now_us >= self._next_lapse_us:
            self._lapse(now_us, _LAPSED_AT_ONCE)
        for limit in hold.limits:
            refused = self._refusal(limit, charge)
            if refused is not None:
                return refused
        lease_until_us = now_us + lease
        payers = books.payers_code(hold.owners)
        books.hold(Held(hold, timestamp_us, charge, payers, lease_until_us))
        if lease_until_us < self._next_lapse_us:
            self._next_lapse_us = lease_until_us
        return None

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
        if self._lock.is_mine():
            raise BudgetStoreError(AMID_A_STEP)
        with self._lock:
            books = self._books
            if books.is_half_done:
                books = self._sound_books()
            held = books.holds.get(entry.call_id)
            if held is not None:
                books.book(facts, held.payers, held)
            elif (row := books.entries.find(entry.call_id)) is not None:
                record = books.entries.record(row)
                if not amend and not record.flags & LAPSED:
                    if books.entries.cost_pico(record) == facts.pico:
                        return []
                    raise conflict(entry.call_id, "is settled already, with another cost")
                books.rebook(row, record, facts)
            else:
                self._check_age(entry.call_id, facts.timestamp_us)
                books.book(facts, books.payers_code(owners), None)
            if frees:
                self._release(frees)
            if rest is not None:
                self._reserve(rest)
            if self._keep is not None:
                self._trim(self._keep)
            return self._crossings(watches) if watches else []

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back: nothing was billed. False if unknown."""
        with self._alone():
            return self._release(call_id)

    def _release(self, call_id: str) -> bool:
        books = self._sound_books()
        held = books.holds.get(call_id)
        if held is not None:
            books.unhold(held)
            return True
        row = books.entries.find(call_id)
        if row is None:
            return False
        record = books.entries.record(row)
        if record.flags & LAPSED:
            books.unbook(row, record)
        return bool(record.flags & LAPSED)

    def renew(self, process: str, lease_s: float) -> int:
        """Put off the lapse of all holds of a process that still stand; return how many."""
        with self._lock:
            now_us, renewed = self._now_us(), 0
            until_us = now_us + lease_us(lease_s)
            for held in self._sound_books().holds.values():
                if held.hold.process == process and held.lease_until_us > now_us:
                    held.lease_until_us = until_us
                    renewed += 1
            if renewed:
                self._next_lapse_us = min(self._next_lapse_us, until_us)
            return renewed

    def lapse(self) -> int:
        """Charge every hold whose lease has run out as its worst case; return how many."""
        with self._alone():
            self._summed_books()
            return self._lapse(self._now_us(), None)

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span."""
        with self._lock:
            books = self._summed_books()
            account = books.accounts.get(owner)
            kept = account and account.kept.get((span.start_us, span.end_us))
            if kept and not span.is_rolling:
                return balance_of(kept[:3], kept[3:])
            summed = books.summed(owner, span)
            return balance_of(summed[:3], summed[3:])

    def undelivered(self, older_than_s: float) -> list[Crossing]:
        """Return crossings latched longer ago than this and never delivered."""
        with self._lock:
            return self._latches.undelivered(self._now_us(), older_than_s)

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that the alerts of these watches have been sent."""
        with self._lock:
            self._latches.delivered(keys)

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms; the last ones of a user and window count."""
        with self._lock:
            self._budgets[(budget.user_id, budget.window)] = budget

    def budgets(self) -> list[BudgetRecord]:
        """Return the budgets that were ever defined."""
        with self._lock:
            return list(self._budgets.values())

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner that nobody will ask about again (a block)."""
        with self._alone():
            self._summed_books().drop(owner)

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has here; return how many entries that were."""
        query = Query(user_id=user_id)
        check_query(Query(user_id=new_user_id))
        with self._alone():
            books = self._summed_books()
            renamed = sum_up(only(books.total_rows(-(2**40), 2**40), query)).entries
            books.rename_user(user_id, new_user_id)
            self._latches.rename(user_owner(user_id), user_owner(new_user_id))
            for key in [key for key in self._budgets if key[0] == user_id]:
                budget = replace(self._budgets.pop(key), user_id=new_user_id)
                self._budgets.setdefault((new_user_id, budget.window), budget)
            return renamed

    def prune(self, before: datetime, *, at_most: int | None = None) -> int:
        """Let go of settled entries authorized before; totals and balances stay exact."""
        before_us = to_us(before, "before")
        with self._alone():
            books = self._summed_books()
            if at_most is None:
                return books.drop_before(before_us)
            return books.drop_some_before(before_us, at_most)

    def entries(
        self, query: Query = EVERYTHING, *, newest_first: bool = False
    ) -> Iterator[CostEntry]:
        """Yield entries in the order they came into the ledger, lapsed ones included."""
        check_query(query)
        return self._entries(query, newest_first)

    def sums(self, query: Query = EVERYTHING) -> Sums:
        """Return the sum of the matching entries."""
        check_query(query)
        return sum_up(self._rows(query))

    def totals(self, by: Sequence[Dimension], query: Query = EVERYTHING) -> list[Total]:
        """Return one total for each group, dearest first; `key` is always a tuple."""
        check_query(query)
        return group(self._rows(query), dimensions(by))

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case because their fate is unknown."""
        with self._lock:
            books = self._summed_books()
            entries = books.entries
            return [
                entries.entry(row, record, books.labels[record.label])
                for row, record in entries.records(entries.first_row, entries.end_row)
                if record.flags & LAPSED or books.labels[record.label].grade == "assumed"
            ]

    def verify(self) -> list[str]:
        """Check every running balance against the calls; say what does not agree."""
        with self._lock:
            return differences(self._summed_books())

    def flush(self) -> None:
        """Do nothing: memory is as durable as it gets."""

    def close(self) -> None:
        """Do nothing: there are no files."""

    def before_fork(self) -> None:
        """Finish the step that another thread may be in."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with a lock that no thread of the parent waits for."""
        self._lock = TurnLock()

    def _is_held(self, hold: Hold, timestamp_us: int, charge: Charge) -> bool:
        """Return whether this very hold stands; raises if the id stands for another call."""
        call_id, books = hold.entry.call_id, self._books
        held = books.holds.get(call_id)
        if held is None:
            if books.entries.find(call_id) is not None:
                raise conflict(call_id, "is settled or lapsed already")
            if books.forgotten_before_us is not None:
                self._check_age(call_id, timestamp_us)
            return False
        if held.charge != charge or set(held.hold.owners) != set(hold.owners):
            raise conflict(call_id, "is held already, with another amount or other owners")
        return True

    def _refusal(self, limit: Limit, charge: Charge) -> Refusal | None:
        balance = self._books.running(limit.owner, limit.span)
        pico, tokens, calls = limit.pico, limit.tokens, limit.calls
        if (
            (pico is None or balance[0] + balance[3] + charge[0] <= pico)
            and (tokens is None or balance[1] + balance[4] + charge[1] <= tokens)
            and (calls is None or balance[2] + balance[5] + charge[2] <= calls)
        ):
            return None
        return refusal(limit, balance_of(balance[:3], balance[3:]), charge)

    def _crossings(self, watches: Sequence[Watch]) -> list[Crossing]:
        crossed = []
        for watch in watches:
            if watch.key not in self._latches:
                spent = self._books.running(watch.owner, watch.span)[0]
                if spent >= watch.threshold_pico:
                    crossed.append(Crossing(watch, spent))
        if crossed:
            self._latches.latch(crossed, self._now_us())
        return crossed

    def _lapse(self, now_us: int, at_most: int | None) -> int:
        books = self._books
        due = [held for held in books.holds.values() if held.lease_until_us <= now_us]
        due.sort(key=lambda held: (held.lease_until_us, held.hold.entry.call_id))
        for held in due[:at_most]:
            entry = held.hold.entry
            facts = facts_of(replace(entry, grade=lapsed_grade(entry)))
            books.book(facts, held.payers, held, LAPSED)
        left = [held.lease_until_us for held in books.holds.values()]
        self._next_lapse_us = min(left, default=_NEVER)
        return len(due[:at_most])

    def _check_age(self, call_id: str, timestamp_us: int) -> None:
        forgotten_us = self._books.forgotten_before_us
        if forgotten_us is not None and timestamp_us < forgotten_us:
            raise too_old(call_id, timestamp_us, forgotten_us)

    def _trim(self, keep: int) -> None:
        surplus = len(self._books.entries) - keep
        if surplus >= max(_CHUNK, keep // 8):
            self._books.drop_oldest(surplus)

    def _rows(self, query: Query) -> list[Row]:
        if names_one_call(query):
            found = self._entries(query, newest_first=False)
            return [row_of(entry) for entry in found]
        stretch = Stretch.of(query)
        with self._lock:
            books = self._summed_books()
            rows = books.total_rows(stretch.first_day, stretch.end_day)
            for start_us, end_us in stretch.edges:
                for row, record in books.entries.between(start_us, end_us):
                    counts = negative(books.entries.counts(row, record))
                    day = record.timestamp_us // DAY_US
                    rows.append((day, books.labels[record.label], counts))
        return list(only(rows, query))

    def _entries(self, query: Query, newest_first: bool) -> Iterator[CostEntry]:
        with self._lock:
            books = self._summed_books()
            first, end = books.entries.first_row, books.entries.end_row
            if self._keep is not None:
                first = max(first, end - self._keep)
            if query.call_id is not None:
                row = books.entries.find(query.call_id)
                first, end = (0, 0) if row is None else (max(first, row), row + 1)
        starts = range(first, end, _CHUNK)
        for start in reversed(starts) if newest_first else starts:
            chunk = self._chunk(query, start, min(start + _CHUNK, end))
            yield from reversed(chunk) if newest_first else chunk

    def _chunk(self, query: Query, first: int, end: int) -> list[CostEntry]:
        since_us, until_us = times_us(query)
        with self._lock:
            books = self._summed_books()
            entries = books.entries
            return [
                entries.entry(row, record, label)
                for row, record in entries.records(first, end)
                if (since_us is None or record.timestamp_us >= since_us)
                and (until_us is None or record.timestamp_us < until_us)
                and matches(label := books.labels[record.label], query)
                and (
                    query.response_id is None
                    or entries.response_id(row, record) == query.response_id
                )
            ]

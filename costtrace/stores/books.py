"""What a MemoryStore keeps. Holds and entries are the truth; all sums are derived from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.accounts import Account, Timeline
from costtrace.stores.adding import LABEL_BITS, add_in_place, add_to, less, total_key
from costtrace.stores.base import Span, user_owner
from costtrace.stores.columns import GONE, LAPSED, EntryColumns, Record
from costtrace.stores.grouping import Counts, counts_of, negative
from costtrace.stores.held import Held, with_user_renamed
from costtrace.stores.rowindex import BLOCK
from costtrace.stores.rows import (
    CEILING,
    DAY_US,
    MINUTE_US,
    NOTHING,
    Charge,
    Facts,
    Label,
    check_text,
    checked_label,
    distinct,
    label_of,
)
from costtrace.usage import Usage

_FEW = 16 * BLOCK
_FRESH = 128  # entries that wait for `fold`: to add many at once takes less time for each
_MOST = 2 * CEILING - 1  # what 64 bits count to


class Books:
    """The tables of a MemoryStore. Not safe from several threads: the store has the lock.

    Running balances follow each step at once. The latest entries are in no other sum until `fold`
    adds them: whoever wants totals, times or accounts calls it first.

    A signal may break off a step anywhere. Entries and holds change in one instruction each; the
    sums that follow are marked as half done until they are complete, and then made anew.
    """

    def __init__(self) -> None:
        self.entries = EntryColumns()
        self.holds: dict[str, Held] = {}
        self.accounts: dict[str, Account] = {}
        self.labels: list[Label] = []
        self.payers: list[tuple[str, ...]] = []
        self.totals: dict[int, list[int]] = {}
        self.gone_totals: dict[int, list[int]] = {}
        self.forgotten_before_us: int | None = None
        self.is_half_done = False
        self._fresh: list[tuple[int, int, int, Charge, Usage, int]] = []
        self._label_codes: dict[tuple[object, ...], int] = {}
        self._payers_codes: dict[tuple[str, ...], int] = {}
        self._payers_of: defaultdict[str, list[int]] = defaultdict(list)
        self._turnover = [0, 0]  # picodollars and tokens that ever moved: no sum can be above

    # -- names -------------------------------------------------------------------------------

    def label_code(self, fields: tuple[object, ...]) -> int:
        """Return the number of a label, a new one if need be."""
        code = self._label_codes.get(fields)
        if code is None:
            label = checked_label(fields)
            code = len(self.labels)
            self.labels.append(label)
            self._label_codes[label] = code
        return code

    def payers_code(self, owners: tuple[str, ...]) -> int:
        """Return the number of a set of owners, a new one if need be."""
        code = self._payers_codes.get(owners)
        if code is not None:
            return code
        owners = distinct(owners)
        code = self._payers_codes.setdefault(owners, len(self.payers))
        if code == len(self.payers):
            self.payers.append(owners)
            for owner in owners:
                self._payers_of[check_text(owner, "an owner")].append(code)
        return code

    def account(self, owner: str) -> Account:
        """Return an owner's account, a new one if need be."""
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = Account()
        return account

    # -- steps -------------------------------------------------------------------------------

    def hold(self, held: Held) -> None:
        """Reserve. What could keep the hold from lapsing one day is refused now."""
        entry = held.hold.entry
        self.label_code(label_of(entry))
        if not entry.call_id.isascii():
            check_text(entry.call_id, "call_id")
        self.is_half_done = True
        self.holds[held.hold.entry.call_id] = held
        self._move_reserved(held, 1)
        self.is_half_done = False

    def unhold(self, held: Held) -> None:
        """Give a reservation back."""
        self.is_half_done = True
        del self.holds[held.hold.entry.call_id]
        self._move_reserved(held, -1)
        self.is_half_done = False

    def book(self, facts: Facts, payers: int, held: Held | None, state: int = 0) -> None:
        """Enter a call in the ledger, in place of its hold."""
        entry, timestamp_us, pico, reserved_pico, charge, fields = facts
        self.make_room(charge)
        label = self.label_code(fields)
        freed = NOTHING
        if held is not None:
            timestamp_us, freed = held.timestamp_us, held.charge
        packed = self.entries.pack(entry, timestamp_us, pico, reserved_pico, label, payers, state)
        self.is_half_done = True
        self.entries.append(packed, entry.call_id)
        if held is not None:
            del self.holds[entry.call_id]
        accounts = self.accounts
        for owner in self.payers[payers]:
            account = accounts.get(owner)
            if account is not None and account.kept:
                account.spend(timestamp_us, charge, freed)
        unpriced = charge[2] if pico is None else 0
        self._fresh.append((timestamp_us, label, payers, charge, entry.usage, unpriced))
        self.is_half_done = False
        if len(self._fresh) >= _FRESH:
            self.fold()

    def fold(self) -> None:
        """Add the latest entries to all sums and indexes."""
        if not self._fresh:
            return
        self.is_half_done = True
        totals = self.totals
        charges: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        for timestamp_us, label, payers, charge, usage, unpriced in self._fresh:
            pico, tokens, calls = charge
            sums = charges[(payers, timestamp_us // MINUTE_US)]
            sums[0] += pico
            sums[1] += tokens
            sums[2] += calls
            key = (timestamp_us // DAY_US) << LABEL_BITS | label
            total = totals.get(key)
            if total is None:
                total = totals[key] = [0, 0, 0, 0, 0, 0]
            total[0] += 1
            total[1] += calls
            total[2] += usage.input_tokens
            total[3] += usage.output_tokens
            total[4] += pico
            total[5] += unpriced
        for (payers, minute), (pico, tokens, calls) in charges.items():
            for owner in self.payers[payers]:
                self.account(owner).line.add(minute, pico, tokens, calls)
        self.entries.index()
        self._fresh = []
        self.is_half_done = False

    def rebook(self, row: int, record: Record, facts: Facts) -> None:
        """Put another entry of the same call in its place and move the difference."""
        entry, _, pico, reserved_pico, charge, fields = facts
        self.fold()
        self.make_room(charge)
        label = self.label_code(fields)
        timestamp_us, payers = record.timestamp_us, record.payers
        old_charge, old_counts = self.entries.charge(row, record), self.entries.counts(row, record)
        packed = self.entries.pack(entry, timestamp_us, pico, reserved_pico, label, payers, 0)
        self.is_half_done = True
        self.entries.replace(row, packed)
        self._move_spent(payers, timestamp_us, less(charge, old_charge))
        add_to(self.totals, total_key(timestamp_us, record.label), negative(old_counts))
        add_to(self.totals, total_key(timestamp_us, label), counts_of(entry, pico))
        self.is_half_done = False

    def unbook(self, row: int, record: Record) -> None:
        """Take an entry out of the ledger: nothing was billed after all."""
        self.fold()
        charge, counts = self.entries.charge(row, record), self.entries.counts(row, record)
        self.is_half_done = True
        self.entries.set_flag(row, GONE)
        self._move_spent(record.payers, record.timestamp_us, less(NOTHING, charge))
        add_to(self.totals, total_key(record.timestamp_us, record.label), negative(counts))
        self.is_half_done = False

    # -- balances ----------------------------------------------------------------------------

    def running(self, owner: str, span: Span) -> list[int]:
        """Return spent and reserved in a span, and keep it running unless the span rolls."""
        if span.is_rolling:
            return self.summed(owner, span)
        account = self.account(owner)
        balance = account.kept.get((span.start_us, span.end_us))
        if balance is None:
            balance = self.summed(owner, span)
            account.keep(span.start_us, span.end_us, balance)
        return balance

    def summed(self, owner: str, span: Span) -> list[int]:
        """Return spent and reserved in a span, summed from the calls."""
        self.fold()
        start_us, end_us = span.start_us, CEILING if span.is_rolling else span.end_us
        spent: list[int] = [0, 0, 0]
        account = self.accounts.get(owner)
        if account is not None:
            first, end = start_us // MINUTE_US, -(-end_us // MINUTE_US)
            spent = list(account.line.sum(first, end))
            outside = ((first * MINUTE_US, start_us), (end_us, end * MINUTE_US))
            for charge in (c for edge in outside for c in self._charges(owner, *edge)):
                add_in_place(spent, less(NOTHING, charge))
        reserved = [0, 0, 0]
        for held in self.holds.values():
            if start_us <= held.timestamp_us < end_us and owner in self.payers[held.payers]:
                add_in_place(reserved, held.charge)
        return spent + reserved

    def _charges(self, owner: str, start_us: int, end_us: int) -> Iterable[Charge]:
        if start_us >= end_us:
            return ()
        return (
            self.entries.charge(row, record)
            for row, record in self.entries.between(start_us, end_us)
            if owner in self.payers[record.payers]
        )

    # -- names that go, entries that go ------------------------------------------------------

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner; the entries stay."""
        self.is_half_done = True
        for code in self._payers_of.pop(owner, ()):
            rest = tuple(name for name in self.payers[code] if name != owner)
            self._payers_codes.pop(self.payers[code], None)
            shared = self._payers_codes.setdefault(rest, code)
            self.payers[code] = rest if shared == code else self.payers[shared]
        self.accounts.pop(owner, None)
        self.is_half_done = False

    def rename_user(self, user_id: str, new_user_id: str) -> None:
        """Put another name on a user's labels, holds and charges."""
        owner, new_owner = user_owner(user_id), user_owner(new_user_id)
        self.is_half_done = True
        for code, label in enumerate(self.labels):
            if label.user_id == user_id:
                self._label_codes.pop(label, None)
                self.labels[code] = label._replace(user_id=new_user_id)
                self._label_codes.setdefault(self.labels[code], code)
        for code in self._payers_of.pop(owner, ()):
            renamed = tuple(new_owner if name == owner else name for name in self.payers[code])
            self._payers_codes.pop(self.payers[code], None)
            self.payers[code] = distinct(renamed)
            self._payers_codes.setdefault(self.payers[code], code)
            self._payers_of[new_owner].append(code)
        for call_id, held in self.holds.items():
            self.holds[call_id] = with_user_renamed(held, user_id, new_user_id)
        self._merge_gone(self.accounts.pop(owner, None), new_owner)
        self.mend()

    def _merge_gone(self, account: Account | None, owner: str) -> None:
        if account is not None and account.gone is not None:
            for minute, charge in account.gone:
                self.account(owner).forget(minute * MINUTE_US, charge)

    def drop_oldest(self, rows: int) -> None:
        """Keep only the sums of the oldest entries."""
        self.fold()
        first = self.entries.first_row
        going = list(self.entries.records(first, first + rows - rows % BLOCK))
        self._forget(going)
        self.entries.drop_oldest(rows)

    def drop_before(self, before_us: int) -> int:
        """Keep only the sums of the settled entries authorized before; return how many."""
        kept = EntryColumns()
        kept.first_row = self.entries.end_row  # whoever reads meanwhile sees no row twice
        going = []
        for row, record in self.entries.records(self.entries.first_row, self.entries.end_row):
            if record.timestamp_us < before_us and not record.flags & LAPSED:
                going.append((row, record))
                continue
            entry = self.entries.entry(row, record, self.labels[record.label])
            cost, reserved = self.entries.cost_pico(record), self.entries.reserved_pico(record)
            state, label, payers = record.flags & LAPSED, record.label, record.payers
            packed = kept.pack(entry, record.timestamp_us, cost, reserved, label, payers, state)
            kept.append(packed, entry.call_id)
        kept.index()
        self._forget(going)
        self.entries = kept
        self.forgotten_before_us = max(before_us, self.forgotten_before_us or before_us)
        return len(going)

    def drop_some_before(self, before_us: int, at_most: int) -> int:
        """Do the same for some of them, without looking at all that stay.

        Whole blocks of old rows go at once. What is left of a block goes where there are few
        entries, or waits until all of its block is old.
        """
        entries, old = self.entries, 0
        for _, record in entries.records(entries.first_row, entries.first_row + at_most):
            if record.timestamp_us >= before_us or record.flags & LAPSED:
                break
            old += 1
        if old >= BLOCK:
            self.drop_oldest(old)
            self.forgotten_before_us = max(before_us, self.forgotten_before_us or before_us)
            return old - old % BLOCK
        if len(entries) > _FEW or not any(entries.between(0, before_us)):
            return 0
        return self.drop_before(before_us)

    def _forget(self, going: list[tuple[int, Record]]) -> None:
        for row, record in going:
            charge = self.entries.charge(row, record)
            for owner in self.payers[record.payers]:
                self.account(owner).forget(record.timestamp_us, charge)
            key = total_key(record.timestamp_us, record.label)
            add_to(self.gone_totals, key, self.entries.counts(row, record))

    # -- agreement ---------------------------------------------------------------------------

    def mend(self) -> None:
        """Make all sums anew from the entries and holds."""
        self.entries.reindex()
        for call_id in [one for one in self.holds if self.entries.find(one) is not None]:
            del self.holds[call_id]  # it was settled; only the hold's end was cut off
        lines, self.totals = self.recomputed()
        for owner in lines.keys() | self.accounts.keys():
            account = self.account(owner)
            account.line, account.kept = lines.get(owner, Timeline()), {}
        self._fresh = []
        self.is_half_done = False

    def recomputed(self) -> tuple[dict[str, Timeline], dict[int, list[int]]]:
        """Return the accounts' minutes and the totals as the entries sum to."""
        points: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        totals = {key: list(counts) for key, counts in self.gone_totals.items()}
        for owner, account in self.accounts.items():
            for minute, charge in account.gone or ():
                add_in_place(points[(owner, minute)], charge)
        for row, record in self.entries.records(self.entries.first_row, self.entries.end_row):
            charge = self.entries.charge(row, record)
            for owner in self.payers[record.payers]:
                add_in_place(points[(owner, record.timestamp_us // MINUTE_US)], charge)
            key = total_key(record.timestamp_us, record.label)
            add_to(totals, key, self.entries.counts(row, record))
        lines: defaultdict[str, Timeline] = defaultdict(Timeline)
        for (owner, minute), (pico, tokens, calls) in sorted(points.items()):
            lines[owner].add(minute, pico, tokens, calls)
        return dict(lines), totals

    # -- sums --------------------------------------------------------------------------------

    def total_rows(self, first_day: int, end_day: int) -> list[tuple[int, Label, Counts]]:
        """Return the totals of these days."""
        return [
            (day, self.labels[key & (2**LABEL_BITS - 1)], tuple(counts))
            for key, counts in self.totals.items()
            if first_day <= (day := key >> LABEL_BITS) < end_day
        ]

    def make_room(self, charge: Charge) -> None:
        """Raise `BudgetStoreError` before any sum could pass what 64 bits count to."""
        turnover = self._turnover
        pico, tokens = turnover[0] + abs(charge[0]), turnover[1] + charge[1]
        if pico > _MOST or tokens > _MOST:
            raise BudgetStoreError("the sum of all calls would pass what the store can count to")
        turnover[0], turnover[1] = pico, tokens

    def _move_reserved(self, held: Held, sign: int) -> None:
        reserved = held.charge if sign > 0 else less(NOTHING, held.charge)
        for owner in self.payers[held.payers]:
            account = self.accounts.get(owner)
            if account is not None and account.kept:
                account.reserve(held.timestamp_us, reserved)

    def _move_spent(self, payers: int, timestamp_us: int, spent: Charge) -> None:
        for owner in self.payers[payers]:
            account = self.account(owner)
            account.line.add(timestamp_us // MINUTE_US, *spent)
            account.spend(timestamp_us, spent)

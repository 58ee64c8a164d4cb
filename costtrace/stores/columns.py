"""Entries as packed bytes: millions of them without an object for the garbage collector to visit.

An entry is one record of fixed size and its two ids as text. Whatever does not fit (rare usage
counts, very long ids) is kept beside it as an object.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError
from costtrace.money import Picodollars
from costtrace.stores.rowindex import BLOCK, IdIndex, TimeIndex
from costtrace.stores.rows import (
    NO_RARE_COUNTS,
    Charge,
    Label,
    build_entry,
    check_text,
    common_counts,
    rare_counts,
    usage_of,
)
from costtrace.usage import Usage

LAPSED, GONE = 1, 2  # flags of a record: charged as its worst case; released late
_UNPRICED, _RESERVED, _ANSWERED, _FIVE_MINUTES, _RARE, _HEX = 4, 8, 16, 32, 64, 128
_RECORD = Struct("<qqqd8I4B")
_RECORD_SIZE = _RECORD.size
_TEXTS_AT = 4  # the place of that field in a record
_MOST, _OFTEN = 2**32 - 1, 2**8 - 1
_LONGEST_TEXTS = 2**24
_BEGINNINGS = ("", "chatcmpl-", "resp_", "msg_")  # of most answers' ids: one byte tells which
_MARKS = {text[:4]: (text, len(text), bytes((n,))) for n, text in enumerate(_BEGINNINGS)}
_NO_MARK = ("", 0, b"\0")


class Record(NamedTuple):
    """One record as it is packed."""

    timestamp_us: int
    pico: int
    reserved_pico: int
    duration_s: float
    texts_at: int
    """Where its ids begin among all that were ever kept, without what 32 bits have no room for."""
    label: int
    payers: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    attempts: int
    id_length: int
    response_length: int
    flags: int


@dataclass(frozen=True, slots=True)
class _Rare:
    """What a record has no room for."""

    usage: Usage
    attempts: int
    gateway_cost_usd: Decimal | None
    adjusts: str | None
    id_length: int
    response_length: int


class Packed(NamedTuple):
    """An entry as bytes, and what has no room there."""

    record: bytes
    texts: bytes
    rare: _Rare | None


_packed = Packed._make


class EntryColumns:
    """The entries, by row number; numbers stay the same when old rows are dropped.

    The latest ones are found by their id alone until `index` notes their times too. Not safe from
    several threads: the store's lock is around every call.
    """

    def __init__(self) -> None:
        self.first_row = 0
        self._records = array("B")
        self._fresh: dict[str, int] = {}  # the rows of the latest calls, which no index knows yet
        self._texts = array("B")
        self._texts_dropped = 0
        self._indexed = 0  # rows whose times, and block's texts, are noted
        self._block_texts = array("Q")  # where the texts of each block of rows begin
        self._rare: dict[int, _Rare] = {}
        self._times = TimeIndex()
        self._ids = IdIndex()

    def __len__(self) -> int:
        return len(self._records) // _RECORD.size

    @property
    def end_row(self) -> int:
        """The row that the next entry gets."""
        return self.first_row + len(self)

    @property
    def _texts_end(self) -> int:
        return self._texts_dropped + len(self._texts)

    def append(self, packed: Packed, call_id: str) -> int:
        """Add a packed entry and return its row."""
        record, texts, rare = packed
        row = self.first_row + len(self._records) // _RECORD_SIZE
        self._texts.frombytes(texts)
        if rare is not None:
            self._rare[row] = rare
        self._records.frombytes(record)  # from here on it is an entry
        self._fresh[call_id] = row
        return row

    def index(self) -> None:
        """Note where the latest entries are: many at once, since that takes less time for each."""
        add, end = self._ids.add, len(self)
        for call_id, row in self._fresh.items():
            add(call_id, row)
        self._fresh = {}
        while (start := self._indexed) < end:
            stop = min(end, start - start % BLOCK + BLOCK)
            records = list(self._unpacked(start, stop))
            if len(self._block_texts) <= start // BLOCK:
                at = self._place_of(records[0][_TEXTS_AT])
                self._block_texts.append(self._texts_dropped + at)
            times_us = [record[0] for record in records]
            self._times.note(start, min(times_us))
            self._times.note(start, max(times_us))
            self._indexed = stop

    def replace(self, row: int, packed: Packed) -> None:
        """Put another entry of the same call in a row."""
        self._texts.frombytes(packed.texts)
        if packed.rare is not None:
            self._rare[row] = packed.rare
        at = (row - self.first_row) * _RECORD.size
        self._records[at : at + _RECORD.size] = array("B", packed.record)

    def set_flag(self, row: int, flag: int) -> None:
        """Mark a row: `GONE` rows are no entries any more."""
        at = (row - self.first_row + 1) * _RECORD.size - 1
        self._records[at] |= flag

    def record(self, row: int) -> Record:
        """Return the numbers of a row."""
        at = (row - self.first_row) * _RECORD.size
        return Record._make(_RECORD.unpack_from(self._records, at))

    def records(self, first: int, end: int) -> Iterator[tuple[int, Record]]:
        """Yield the rows of a range that are entries, with their numbers."""
        first, end = max(first, self.first_row), min(end, self.end_row)
        if first >= end:
            return
        base = self.first_row
        for row, numbers in enumerate(self._unpacked(first - base, end - base), first):
            if not numbers[-1] & GONE:
                yield row, Record._make(numbers)

    def _unpacked(self, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        return _RECORD.iter_unpack(self._records[start * _RECORD_SIZE : stop * _RECORD_SIZE])

    def between(self, start_us: int, end_us: int) -> Iterator[tuple[int, Record]]:
        """Yield the entries authorized in a stretch of time."""
        for block in self._times.overlapping(start_us, end_us):
            first = self.first_row + block * BLOCK
            for row, record in self.records(first, first + BLOCK):
                if start_us <= record.timestamp_us < end_us:
                    yield row, record

    def find(self, call_id: str) -> int | None:
        """Return the row of a call."""
        fresh = self._fresh.get(call_id)
        for row in self._ids.candidates(call_id) if fresh is None else (fresh,):
            record = self.record(row)
            if not record.flags & GONE and self.call_id(row, record) == call_id:
                return row
        return None

    def call_id(self, row: int, record: Record) -> str:
        """Return the id of the call in this row."""
        return self._ids_of(row, record)[0]

    def response_id(self, row: int, record: Record) -> str | None:
        """Return the id of the answer in this row."""
        return self._ids_of(row, record)[1]

    def charge(self, row: int, record: Record) -> Charge:
        """Return what the entry took from each of its owners."""
        if not record.flags & _RARE:
            return (record.pico, record.input_tokens + record.output_tokens, 1)
        rare = self._rare[row]
        return (record.pico, rare.usage.total_tokens, int(rare.adjusts is None))

    def counts(self, row: int, record: Record) -> tuple[int, ...]:
        """Return what the entry adds to the total of its group."""
        sent, generated, is_call = record.input_tokens, record.output_tokens, True
        if record.flags & _RARE:
            rare = self._rare[row]
            sent, generated = rare.usage.input_tokens, rare.usage.output_tokens
            is_call = rare.adjusts is None
        unpriced = is_call and bool(record.flags & _UNPRICED)
        return (1, int(is_call), sent, generated, record.pico, int(unpriced))

    def cost_pico(self, record: Record) -> Picodollars | None:
        """Return the cost, None if unknown."""
        return None if record.flags & _UNPRICED else record.pico

    def reserved_pico(self, record: Record) -> Picodollars | None:
        """Return what was reserved for the call, None if nothing was."""
        return record.reserved_pico if record.flags & _RESERVED else None

    def entry(self, row: int, record: Record, label: Label) -> CostEntry:
        """Put the entry of a row together."""
        rare = self._rare[row] if record.flags & _RARE else None
        call_id, response_id = self._ids_of(row, record)
        return build_entry(
            label,
            call_id=call_id,
            timestamp_us=record.timestamp_us,
            cost_pico=self.cost_pico(record),
            usage=self._usage(row, record),
            reserved_pico=self.reserved_pico(record),
            duration_s=None if math.isnan(record.duration_s) else record.duration_s,
            attempts=rare.attempts if rare else record.attempts,
            response_id=response_id,
            gateway_cost_usd=rare.gateway_cost_usd if rare else None,
            adjusts=rare.adjusts if rare else None,
        )

    def drop_oldest(self, rows: int) -> int:
        """Let go of about that many of the oldest rows; return how many it were."""
        rows -= rows % BLOCK
        if rows <= 0:
            return 0
        for row, record in self.records(self.first_row, self.first_row + rows):
            self._ids.remove(self.call_id(row, record), row)
            self._rare.pop(row, None)
        blocks = rows // BLOCK
        kept = self._block_texts[blocks] if rows < len(self) else self._texts_end
        del self._texts[: kept - self._texts_dropped]
        del self._block_texts[:blocks]
        del self._records[: rows * _RECORD.size]
        self._texts_dropped = kept
        self._times.drop(blocks)
        self._indexed -= rows
        self.first_row += rows
        return rows

    def reindex(self) -> None:
        """Find every call's row again, after a step that was broken off."""
        self._times = TimeIndex()
        self._ids = IdIndex()
        self._fresh = {}
        starts = []
        for row in range(self.first_row, self.end_row):
            record = self.record(row)
            self._times.note(row - self.first_row, record.timestamp_us)
            texts_at = self._texts_dropped + self._place_of(record.texts_at)
            if (row - self.first_row) % BLOCK == 0:
                starts.append(texts_at)
            starts[-1] = min(starts[-1], texts_at)
            if not record.flags & GONE:
                self._ids.add(self.call_id(row, record), row)
        self._indexed = len(self)
        # A record that was replaced has its texts at the end: no block begins after its successors.
        self._block_texts = array("Q", reversed(list(accumulate(reversed(starts), min))))

    def pack(
        self,
        entry: CostEntry,
        timestamp_us: int,
        pico: Picodollars | None,
        reserved_pico: Picodollars | None,
        label: int,
        payers: int,
        flags: int,
    ) -> Packed:
        """Return the entry as bytes for the next `append` or `replace`; changes nothing yet.

        Raises `BudgetStoreError` when the ids of all entries take more than 4 GiB.
        """
        if len(self._texts) > _MOST - _LONGEST_TEXTS:
            raise BudgetStoreError("a ledger in memory cannot keep so many entries: give it `keep`")
        texts, id_length, flags = _texts(entry, flags)
        usage = entry.usage
        common, rest = common_counts(usage), rare_counts(usage)
        if rest != NO_RARE_COUNTS:
            is_usual = rest[0] == common[3] and rest[1:] == NO_RARE_COUNTS[1:]
            flags |= _FIVE_MINUTES if is_usual else _RARE
        if entry.gateway_cost_usd is not None or entry.adjusts is not None:
            flags |= _RARE
        if pico is None:
            flags |= _UNPRICED
        if reserved_pico is not None:
            flags |= _RESERVED
        duration_s = entry.duration_s
        numbers = (
            timestamp_us,
            pico or 0,
            reserved_pico or 0,
            math.nan if duration_s is None else duration_s,
            (self._texts_dropped + len(self._texts)) & _MOST,
            label,
            payers,
        )
        sizes = (entry.attempts, id_length, len(texts) - id_length)
        if not flags & _RARE:
            try:
                return _packed((_RECORD.pack(*numbers, *common, *sizes, flags), texts, None))
            except StructError:  # a number that has no room: kept beside the record
                flags |= _RARE
        rare = _Rare(usage, sizes[0], entry.gateway_cost_usd, entry.adjusts, sizes[1], sizes[2])
        most = [min(count, _MOST) for count in common]
        often = [min(size, _OFTEN) for size in sizes]
        return _packed((_RECORD.pack(*numbers, *most, *often, flags), texts, rare))

    def _usage(self, row: int, record: Record) -> Usage:
        if record.flags & _RARE:
            return self._rare[row].usage
        common = record[7:12]
        if record.flags & _FIVE_MINUTES:
            return usage_of(common, {"cache_write_5m_tokens": record.cache_write_tokens})
        return usage_of(common)

    def _ids_of(self, row: int, record: Record) -> tuple[str, str | None]:
        id_length, response_length = record.id_length, record.response_length
        if record.flags & _RARE:
            rare = self._rare[row]
            id_length, response_length = rare.id_length, rare.response_length
        at = self._place_of(record.texts_at)
        text = bytes(self._texts[at : at + id_length + response_length])
        call_id = text[:id_length].hex() if record.flags & _HEX else text[:id_length].decode()
        if not record.flags & _ANSWERED:
            return call_id, None
        return call_id, _BEGINNINGS[text[id_length]] + text[id_length + 1 :].decode()

    def _place_of(self, texts_at: int) -> int:
        """Return where a record's texts begin among those that are kept."""
        return (texts_at - self._texts_dropped) & _MOST


def _texts(entry: CostEntry, flags: int) -> tuple[bytes, int, int]:
    """Return both ids as bytes, the length of the first, and the flags that tell of them."""
    call_id, response_id = entry.call_id, entry.response_id
    texts = b""
    if len(call_id) == 32:  # as hexadecimal digits they take half of their length
        try:
            packed = bytes.fromhex(call_id)
        except ValueError:
            packed = b""
        if packed.hex() == call_id:
            texts, flags = packed, flags | _HEX
    try:
        texts = texts or call_id.encode()
        answer = b"" if response_id is None else _shortened(response_id)
    except (UnicodeEncodeError, AttributeError):
        check_text(call_id, "call_id")
        check_text(response_id, "response_id")
        raise
    if response_id is None:
        return texts, len(texts), flags
    return texts + answer, len(texts), flags | _ANSWERED


def _shortened(response_id: str) -> bytes:
    """Return an answer's id, its beginning as one byte if it is one that most ids have."""
    beginning, size, mark = _MARKS.get(response_id[:4], _NO_MARK)
    if response_id[:size] == beginning:
        return mark + response_id[size:].encode()
    return b"\0" + response_id.encode()

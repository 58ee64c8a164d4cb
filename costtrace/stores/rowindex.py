"""Which rows: by call id and by time, in a few bytes for each row and without pauses to grow."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from struct import Struct

BLOCK = 256
"""Rows whose span of time is noted together."""
_SHARDS = 4096
_KEY = Struct("<I")
_KEY_SIZE, _KEY_MASK = _KEY.size, 2**32 - 1


class IdIndex:
    """Rows by the hash of a call id: 8 bytes a row, where a dict of texts takes 200.

    Rows are spread over shards by hash; a shard is searched like a text. It answers with
    candidates: two ids may share a hash.
    """

    def __init__(self) -> None:
        self._keys: list[bytearray | None] = [None] * _SHARDS
        self._rows: list[array[int] | None] = [None] * _SHARDS

    def add(self, call_id: str, row: int) -> None:
        """Note the row of a call."""
        number = hash(call_id)
        shard = number % _SHARDS
        rows, keys = self._rows[shard], self._keys[shard]
        if rows is None or keys is None:
            rows = self._rows[shard] = array("I")
            keys = self._keys[shard] = bytearray()
        rows.append(row)
        keys += _KEY.pack(number >> 20 & _KEY_MASK)

    def candidates(self, call_id: str) -> Sequence[int]:
        """Return the rows that may be this call's."""
        number = hash(call_id)
        shard = number % _SHARDS
        keys, rows = self._keys[shard], self._rows[shard]
        if keys is None or rows is None:
            return ()
        key = _KEY.pack(number >> 20 & _KEY_MASK)
        at = keys.find(key)
        found = []
        while at >= 0:
            if at % _KEY_SIZE == 0:
                found.append(rows[at // _KEY_SIZE])
            at = keys.find(key, at + 1)
        return found

    def remove(self, call_id: str, row: int) -> None:
        """Forget the row of a call."""
        shard = hash(call_id) % _SHARDS
        keys, rows = self._keys[shard], self._rows[shard]
        if keys is None or rows is None or row not in rows:
            return
        at = rows.index(row)
        del keys[at * _KEY_SIZE : (at + 1) * _KEY_SIZE]
        del rows[at]


class TimeIndex:
    """The first and last instant in each block of rows, and in each block of blocks."""

    def __init__(self) -> None:
        self._blocks = _Extremes()
        self._groups = _Extremes()

    def note(self, position: int, timestamp_us: int) -> None:
        """Note the time of the row in this position."""
        self._blocks.note(position // BLOCK, timestamp_us)
        self._groups.note(position // BLOCK**2, timestamp_us)

    def overlapping(self, start_us: int, end_us: int) -> Iterator[int]:
        """Yield the blocks that may hold rows of this stretch, in order."""
        for group in self._groups.overlapping(0, len(self._groups), start_us, end_us):
            first = group * BLOCK
            last = min(first + BLOCK, len(self._blocks))
            yield from self._blocks.overlapping(first, last, start_us, end_us)

    def drop(self, blocks: int) -> None:
        """Forget the oldest blocks."""
        self._blocks.drop(blocks)
        self._groups = _Extremes()
        for block, (first_us, last_us) in enumerate(self._blocks):
            self._groups.note(block // BLOCK, first_us)
            self._groups.note(block // BLOCK, last_us)


class _Extremes:
    """The least and the greatest of numbers that are noted under a running position."""

    def __init__(self) -> None:
        self._least = array("q")
        self._greatest = array("q")

    def __len__(self) -> int:
        return len(self._least)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._least, self._greatest, strict=True)

    def note(self, position: int, number: int) -> None:
        try:
            if number > self._greatest[position]:
                self._greatest[position] = number
            elif number < self._least[position]:
                self._least[position] = number
        except IndexError:
            self._least.append(number)
            self._greatest.append(number)

    def overlapping(self, first: int, end: int, start: int, stop: int) -> Iterator[int]:
        for position in range(first, end):
            if self._least[position] < stop and self._greatest[position] >= start:
                yield position

    def drop(self, count: int) -> None:
        del self._least[:count]
        del self._greatest[:count]

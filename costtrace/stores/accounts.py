"""What one owner has spent: minute by minute, and as running balances for the spans in use."""

from __future__ import annotations

from collections.abc import Iterator
from operator import add
from struct import Struct
from struct import error as StructError  # noqa: N812

from costtrace.stores.rows import MINUTE_US, NOTHING, Charge

KEPT_SPANS = 16
"""Running balances of one owner; the span that ended first makes room."""
_POINT = Struct("<IqIH")


class Timeline:
    """Charges by the minute, packed in the order of time; a minute without any takes no room."""

    def __init__(self) -> None:
        self._points = bytearray()
        self._more: dict[int, Charge] = {}  # what has no room in a minute's point
        self._minute = -(2**62)  # the latest; its charge is packed when a later one comes
        self._pico = self._tokens = self._calls = 0

    def __iter__(self) -> Iterator[tuple[int, Charge]]:
        self._pack_latest()
        packed = {minute: charge for minute, *charge in _POINT.iter_unpack(bytes(self._points))}
        for minute in sorted(packed.keys() | self._more.keys()):
            pico, tokens, calls = map(add, packed.get(minute, NOTHING), self._extra(minute))
            if pico or tokens or calls:
                yield minute, (pico, tokens, calls)

    def add(self, minute: int, pico: int, tokens: int, calls: int) -> None:
        """Add to what was charged in a minute."""
        if minute > self._minute:
            self._pack_latest()
            self._minute = minute
        if minute == self._minute:
            self._pico += pico
            self._tokens += tokens
            self._calls += calls
        else:
            self._merge(minute, pico, tokens, calls)

    def sum(self, first: int, end: int) -> Charge:
        """Return what was charged from the first minute on, before the end."""
        self._pack_latest()
        start, stop = self._position(first), self._position(end)
        pico = tokens = calls = 0
        for _, more_pico, more_tokens, more_calls in _POINT.iter_unpack(self._points[start:stop]):
            pico += more_pico
            tokens += more_tokens
            calls += more_calls
        for minute in self._more:
            if first <= minute < end:
                more = self._more[minute]
                pico, tokens, calls = pico + more[0], tokens + more[1], calls + more[2]
        return (pico, tokens, calls)

    def _pack_latest(self) -> None:
        pico, tokens, calls = self._pico, self._tokens, self._calls
        if pico or tokens or calls:
            self._pico = self._tokens = self._calls = 0
            self._merge(self._minute, pico, tokens, calls)

    def _merge(self, minute: int, pico: int, tokens: int, calls: int) -> None:
        """Add to the packed point of a minute, or put one in its place."""
        points, at, end = self._points, self._position(minute), 0
        sums = (pico, tokens, calls)
        if at < len(points):
            found, *old = _POINT.unpack_from(points, at)
            if found == minute:
                sums, end = (old[0] + pico, old[1] + tokens, old[2] + calls), at + _POINT.size
        try:
            points[at : end or at] = _POINT.pack(minute, *sums)
        except StructError:
            more = self._extra(minute)
            self._more[minute] = (more[0] + pico, more[1] + tokens, more[2] + calls)

    def _extra(self, minute: int) -> Charge:
        return self._more.get(minute, NOTHING)

    def _position(self, minute: int) -> int:
        """Return where the first point at or after the minute begins."""
        points, low, high = self._points, 0, len(self._points) // _POINT.size
        if high and _POINT.unpack_from(points, (high - 1) * _POINT.size)[0] < minute:
            return len(points)  # as nearly always
        while low < high:
            middle = (low + high) // 2
            if _POINT.unpack_from(points, middle * _POINT.size)[0] < minute:
                low = middle + 1
            else:
                high = middle
        return low * _POINT.size


class Account:
    """One owner's charges."""

    __slots__ = ("gone", "kept", "line")

    def __init__(self) -> None:
        self.line = Timeline()
        """All that was ever spent, but for the latest entries."""
        self.gone: Timeline | None = None
        """The part of it whose entries are no longer kept."""
        self.kept: dict[tuple[int, int], list[int]] = {}
        """Running balances: spent and reserved picodollars, tokens, calls."""

    def spend(self, timestamp_us: int, spent: Charge, freed: Charge = NOTHING) -> None:
        """Add to the running balances of a time, and take off what was reserved for it."""
        pico, tokens, calls = spent
        for (start_us, end_us), balance in self.kept.items():
            if start_us <= timestamp_us < end_us:
                balance[0] += pico
                balance[1] += tokens
                balance[2] += calls
                if freed is not NOTHING:
                    balance[3] -= freed[0]
                    balance[4] -= freed[1]
                    balance[5] -= freed[2]

    def reserve(self, timestamp_us: int, reserved: Charge) -> None:
        """Add to what their running balances have reserved; it may be negative."""
        pico, tokens, calls = reserved
        for (start_us, end_us), balance in self.kept.items():
            if start_us <= timestamp_us < end_us:
                balance[3] += pico
                balance[4] += tokens
                balance[5] += calls

    def keep(self, start_us: int, end_us: int, balance: list[int]) -> None:
        """Keep a running balance from now on."""
        if len(self.kept) >= KEPT_SPANS:
            del self.kept[min(self.kept, key=lambda span: (span[1], span[0]))]
        self.kept[(start_us, end_us)] = balance

    def forget(self, timestamp_us: int, charge: Charge) -> None:
        """Note that the entry of a charge is no longer kept; what was spent stays."""
        if self.gone is None:
            self.gone = Timeline()
        self.gone.add(timestamp_us // MINUTE_US, *charge)

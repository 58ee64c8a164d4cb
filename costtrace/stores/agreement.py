"""Whether the books of a MemoryStore agree with themselves."""

from __future__ import annotations

from costtrace.stores.accounts import Account, Timeline
from costtrace.stores.adding import LABEL_BITS
from costtrace.stores.base import Span
from costtrace.stores.books import Books


def differences(books: Books) -> list[str]:
    """Return what does not agree with the entries and holds."""
    lines, totals = books.recomputed()
    found = []
    for owner in sorted(lines.keys() | books.accounts.keys()):
        account = books.accounts.get(owner) or Account()
        if sorted(account.line) != sorted(lines.get(owner, Timeline())):
            found.append(f"{owner}: the minutes do not add up to the entries")
        for (start_us, end_us), balance in account.kept.items():
            summed = books.summed(owner, Span(start_us, end_us))
            if summed != balance:
                found.append(f"{owner}: balance {balance}, but its calls sum to {summed}")
    for key in sorted(totals.keys() | books.totals.keys()):
        kept, summed = books.totals.get(key, [0] * 6), totals.get(key, [0] * 6)
        if kept != summed:
            label = books.labels[key & (2**LABEL_BITS - 1)]
            found.append(f"total of {label}: {kept}, but its entries sum to {summed}")
    return found

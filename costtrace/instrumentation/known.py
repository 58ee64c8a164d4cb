"""Calls whose usage may still be read later, by the id of their response or run.

A background response, a run, a stream that was left early: each is entered at what it may cost, and
made exact, once, when somebody retrieves it: in this process, or in any that shares its ledger.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from costtrace.accounting.charges import Charges
from costtrace.accounting.ledger import CostLedger
from costtrace.entry import CostEntry
from costtrace.forklock import ForkLock
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.valuing import corrected
from costtrace.providers import Reading
from costtrace.stores.base import Query

MOST_KNOWN = 10_000
RETRIEVABLE = ("responses", "runs")
"""Operations whose answers the provider keeps."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry that is not exact, who was charged for it, and its call while that lives."""

    entry: CostEntry
    charges: Charges
    call: weakref.ref[Call]


_known: OrderedDict[str, _Known] = OrderedDict()
_lock = ForkLock()


def remember(call: Call) -> None:
    """Note a call that was entered without its usage, if that may be read later."""
    entry = call.entered
    if entry is None or entry.response_id is None or entry.operation not in RETRIEVABLE:
        return
    if entry.grade == "reported":
        return
    with _lock.now:
        _known[entry.response_id] = _Known(entry, call.charges, weakref.ref(call))
        if len(_known) > MOST_KNOWN:
            _known.popitem(last=False)


def is_known(response_id: str) -> bool:
    """Tell whether this process has entered such a call and waits for its usage."""
    with _lock.now:
        return response_id in _known


def is_waiting(response_id: str, ledger: CostLedger) -> bool:
    """Tell whether a ledger holds such a call, whichever process has entered it."""
    return next(_inexact(response_id, ledger), None) is not None


def make_exact(response_id: str, reading: Reading, charges: Charges) -> None:
    """Correct the entry of a call by what was read of it; a call that is exact stays as it is.

    `charges` are those of the reader, in whose ledgers a call of another process is looked for.
    """
    if reading.usage is None:
        return
    with _lock.now:
        known = _known.pop(response_id, None)
    if known is None:
        _correct_stored(response_id, reading, charges)
        return
    if (call := known.call()) is not None:
        call.end()
    known.charges.enter(corrected(known.charges.home.prices, known.entry, reading), amend=True)


def _correct_stored(response_id: str, reading: Reading, charges: Charges) -> None:
    for ledger, _ in charges.groups:
        for entry in list(_inexact(response_id, ledger)):
            owners = ledger.postings.limits.owners(entry.user_id, ())
            ledger.enter(corrected(ledger.prices, entry, reading), owners, amend=True)


def _inexact(response_id: str, ledger: CostLedger) -> Iterator[CostEntry]:
    for entry in ledger.store.entries(Query(response_id=response_id)):
        if entry.adjusts is None and entry.grade in ("assumed", "estimated"):
            yield entry

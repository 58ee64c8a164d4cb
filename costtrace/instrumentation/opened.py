"""What is still being read when a scope is left: entered then as far as it is known."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

from costtrace.accounting.ledger import CostLedger
from costtrace.forklock import ForkLock
from costtrace.scopes import Scope


class OpenWatch(Protocol):
    """Something that is still being read, which its scope may be left before."""

    @property
    def ledger(self) -> CostLedger:
        """Where it will be entered."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be entered."""

    def flush(self) -> None:
        """Enter what is known by now; never raises."""


_open: WeakKeyDictionary[Scope, set[OpenWatch]] = WeakKeyDictionary()
_lock = ForkLock()


def open_watch(scope: Scope | None, watch: OpenWatch) -> None:
    """See to it that something is entered no later than its scope, or one around it, is left."""
    with _lock.now:
        while scope is not None:
            _open.setdefault(scope, set()).add(watch)
            scope = scope.parent


def close_watch(scope: Scope | None, watch: OpenWatch) -> None:
    """Undo `open_watch`: it has been read to its end."""
    with _lock.now:
        while scope is not None:
            if (watches := _open.get(scope)) is not None:
                watches.discard(watch)
            scope = scope.parent


def flush(scope: Scope) -> None:
    """Enter all that was opened in a scope which is being left."""
    if not _open:  # as where nothing is streamed
        return
    with _lock.now:
        watches = list(_open.get(scope, ()))
    for watch in watches:
        watch.ledger.postings.collect()
        if not watch.is_over:
            watch.flush()

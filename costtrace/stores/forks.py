"""Stores and forks: no store is in the middle of a step when its process forks.

A forked child gets a copy of every lock as it was. The locks are therefore taken before the fork,
and the child starts with new ones.
"""

from __future__ import annotations

import os
from threading import RLock
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What is told of forks."""

    def before_fork(self) -> None:
        """Finish what is being done."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Start again with locks, files and connections of your own."""


_stores: WeakSet[Forked] = WeakSet()
_stores_lock = RLock()
_forking: list[Forked] = []  # those that were told of the fork that is going on


def survive_forks(store: Forked) -> None:
    """Tell the store of every fork for as long as it lives."""
    with _stores_lock:
        _stores.add(store)


def _before() -> None:
    _stores_lock.acquire()
    _forking.extend(_stores)
    for store in _forking:
        store.before_fork()


def _after_in_parent() -> None:
    for store in reversed(_forking):
        store.after_fork_in_parent()
    _forking.clear()
    _stores_lock.release()


def _after_in_child() -> None:
    for store in reversed(_forking):
        store.after_fork_in_child()
    _forking.clear()
    _stores_lock.release()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)

"""When scopes exist: the first one opens what must be patched, the last one closes it.

A process is open while a scope is entered anywhere, or unfinished work (a task, a queued work
item) still carries one. Whoever needs to know registers a pair of functions with `register()`.
Sets of ids are changed without the lock (a single step each); the lock guards only the passage
between open and closed, and finalizers, which may run inside it, never wait for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple


class Watcher(NamedTuple):
    """Functions called, one at a time, when scopes come into existence and when they are gone."""

    opened: Callable[[], None]
    closed: Callable[[], None]


class _State:
    """The few values that change at run time."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.is_open = False  # the hooks that carry scopes are installed
        self.is_told = False  # the watchers were told that scopes exist (or are pinned)
        self.is_pinned = False
        self.modules_seen = -1

    @property
    def is_mine(self) -> bool:
        """Whether this very thread has the lock: a finalizer, or a hook, runs inside of it."""
        return bool(self.lock._is_owned())


entered: Final[set[int]] = set()  # ids of visits that were not left
items: Final[set[int]] = set()  # ids of work items that still carry a scope
carrying: Final[set[int]] = set()  # ids of Carried objects alive: a task may still have one

_watchers: list[Watcher] = []
_state = _State()

# Set by the carriers: install hooks for what is imported by now; take all of them off; is there
# an unfinished task that carries a scope?
follow: Callable[[], None] = lambda: None  # noqa: E731
unfollow: Callable[[], None] = lambda: None  # noqa: E731
has_carrying_tasks: Callable[[], bool] = lambda: False  # noqa: E731


def register(opened: Callable[[], None], closed: Callable[[], None]) -> None:
    """Have `opened` called when the first scope opens, and `closed` when the last one is gone.

    Called under a lock, so they must not open scopes themselves. When scopes exist (or are
    pinned) already, `opened` is called at once. An error in one of them is logged.
    """
    watcher = Watcher(opened, closed)
    with _state.lock:
        _watchers.append(watcher)
        if _state.is_told:
            guarded(opened)
    close_if_gone()


def unregister(opened: Callable[[], None], closed: Callable[[], None]) -> None:
    """Undo `register()` with the same two functions; `closed` is called if scopes exist."""
    with _state.lock:
        _watchers.remove(Watcher(opened, closed))
        if _state.is_told:
            guarded(closed)
    close_if_gone()


def active() -> bool:
    """Whether anything is watched: a scope exists, work carries one, or `pin()` holds it open."""
    close_if_gone()
    return _state.is_told


def pin() -> None:
    """Keep the watchers open without a scope, until `unpin()`; twice is the same as once."""
    with _state.lock:
        _state.is_pinned = True
        _tell()
    close_if_gone()


def unpin() -> None:
    """Undo `pin()`; harmless without one."""
    with _state.lock:
        _state.is_pinned = False
        if not _state.is_open:
            _untell()
    close_if_gone()


def hold(identity: int) -> None:
    """Note that the visit with this id was entered; the first one opens everything."""
    entered.add(identity)
    if not _state.is_open or len(sys.modules) != _state.modules_seen:
        _open()


def let_go(identity: int) -> None:
    """Note that the visit with this id was left or lost; the last one closes everything."""
    entered.discard(identity)
    if not entered and _state.is_open:
        close_if_gone()


def let_go_item(identity: int) -> None:
    """Note that a work item has run, or never will."""
    items.discard(identity)
    if not entered and _state.is_open:
        close_if_gone()


def let_go_carried(identity: int) -> None:
    """Note that no task can have this Carried any more."""
    carrying.discard(identity)
    if not entered and _state.is_open:
        close_if_gone()


def change(function: Callable[[], None]) -> None:
    """Call `function`, which installs something, while nobody opens or closes.

    Does nothing where this very thread is about to open or close.
    """
    if _state.is_mine:
        return
    with _state.lock:
        if _state.is_open:
            guarded(function)
    close_if_gone()


def close_if_gone() -> None:
    """Close when no scope is entered and no unfinished work carries one; never waits.

    Where the lock is taken, its owner (maybe this very thread, if a finalizer runs here) looks
    again after giving it back.
    """
    while _state.is_open and not _is_needed():
        if _state.is_mine or not _state.lock.acquire(blocking=False):
            return
        try:
            _close()
        finally:
            _state.lock.release()


def before_fork() -> None:
    """Wait until nobody opens or closes, so that the child is not born half open."""
    _state.lock.acquire()


def after_fork_in_parent() -> None:
    """Let others open and close again."""
    _state.lock.release()


def after_fork_in_child(visits: set[int], work: set[int]) -> None:
    """Start anew in a forked child, where only these visits and this work go on.

    What is patched stays so until the next scope is left: other layers are not ready to be told
    while the fork is under way.
    """
    _state.lock = threading.RLock()
    for known in (entered, items, carrying):
        known.clear()
    entered.update(visits)
    items.update(work)


def _is_needed() -> bool:
    if entered or items:
        return True
    return bool(carrying) and has_carrying_tasks()


def _open() -> None:
    if _state.is_mine:
        return  # a generator that is collected while this thread opens or closes enters its scope
    with _state.lock:
        _state.modules_seen = len(sys.modules)
        guarded(follow)
        _tell()
        _state.is_open = True  # last: from here on others pass without the lock


def _close() -> None:
    if not _state.is_open:
        return  # somebody else was faster
    # Closed first, then looked again: whoever enters meanwhile sees it and waits for the lock.
    _state.is_open = False
    if _is_needed():
        _state.is_open = True
        return
    if not _state.is_pinned:
        _untell()
    guarded(unfollow)
    _state.modules_seen = -1


def _tell() -> None:
    if not _state.is_told:
        _state.is_told = True
        for watcher in _watchers:
            guarded(watcher.opened)


def _untell() -> None:
    if _state.is_told:
        _state.is_told = False
        for watcher in reversed(_watchers):
            guarded(watcher.closed)


def guarded(function: Callable[[], None]) -> None:
    """Call `function`; a fault in it is logged, and harms nobody's program."""
    try:
        function()
    except Exception:
        import logging  # rarely needed, and a third of the time it takes to import this package

        logging.getLogger("costtrace.scopes").exception(
            "costtrace could not follow the opening or closing of scopes"
        )

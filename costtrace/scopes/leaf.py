"""Where a piece of work stands: the leaf of each thread, asyncio task, trio task and greenlet.

A leaf is one pointer, and inheriting is copying it. It lies on the asyncio task itself, in a weak
table for tasks that take no attributes (trio), and in a `threading.local` for everything else
(under gevent's patches that is one for each greenlet). Nothing is ever popped: a scope is left by
marking its visit, so that exits may come in any order and from any thread.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any, Final, TypeAlias

from costtrace.scopes import lifecycle
from costtrace.scopes.scope import Scope

LEAF: Final = "_costtrace_leaf"  # the attribute of tasks, and of threads that were not yet asked


class Carried:
    """A scope that unfinished work took along for its whole life; shared by all who took it."""

    __slots__ = ("__weakref__", "is_open", "scope")
    left: Final = False
    outer: Final = None

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.is_open = True  # the visit it came from was not left yet
        lifecycle.carrying.add(id(self))

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_ending():
            lifecycle.let_go_carried(id(self))


class Visit:
    """One stay in a scope, from `enter()` to `leave()`; also the token that `leave()` takes."""

    __slots__ = ("__weakref__", "carried", "is_followed", "is_item", "left", "outer", "scope")

    def __init__(self, scope: Scope, outer: Leaf | None = None) -> None:
        self.scope = scope
        self.outer = outer
        self.left = False
        self.carried: Carried | None = None  # made when the first child asks for it
        self.is_item = False  # a work item runs: its thread stands here only for that long
        self.is_followed = False  # since it was entered, each new asyncio task was given a leaf

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not self.left and not self.is_item and not is_ending():
            end(self)


class Borrowed:
    """The leaf of whoever started a thread, lent until that scope is left.

    The thread may be some pool's worker, so it must not keep it for life. `work` is the task or
    greenlet that started the thread: what that carries, it lends until it is finished.
    """

    __slots__ = ("__weakref__", "source", "work")
    left: Final = True
    scope: Final = None

    def __init__(self, source: Leaf, work: object | None) -> None:
        self.source: Leaf | None = source
        self.work = None if work is None else weakref.ref(work)

    @property
    def outer(self) -> Leaf | None:
        """What is still open of the starter's chain."""
        found = nearest(self.source)
        if type(found) is Carried:
            if found.is_open or not is_finished(self.work):
                return found
            found = None
        self.source = found  # what was left stays left: keep it no longer
        return found


Leaf: TypeAlias = "Visit | Carried | Borrowed"
Found: TypeAlias = "Visit | Carried"


def is_finished(work: weakref.ref[Any] | None) -> bool:
    """Whether a task or greenlet is done, or gone."""
    it = None if work is None else work()
    if it is None:
        return True
    is_done = getattr(it, "done", None) or getattr(it, "ready", None)
    return bool(is_done()) if is_done is not None else False


def nearest(leaf: Leaf | None) -> Found | None:
    """The first on the way out that still counts."""
    while leaf is not None and leaf.left:
        leaf = leaf.outer
    return leaf  # type: ignore[return-value]  # a Borrowed always counts as left


def inherited() -> Leaf | None:
    """What the starter of this thread or greenlet left for it; asked once, by its first look."""
    thread = getattr(threading, "_active", {}).get(threading.get_ident())
    heir = thread if thread is not None else _greenlet()
    leaf: Leaf | None = getattr(heir, LEAF, None)
    if leaf is not None:
        delattr(heir, LEAF)
    return leaf


def _greenlet() -> object | None:
    gevent = sys.modules.get("gevent")
    return None if gevent is None else gevent.getcurrent()


class _Standing:
    """What a thread knows of itself; each thread gets its own when it first looks."""

    def __init__(self) -> None:
        self.leaf: Leaf | None = inherited()
        self.newborn: Leaf | None = None  # for a task that runs before anyone can mark it
        self.is_pooling = False  # threads and processes started now are a pool's workers
        self.is_starting = False  # a thread is being started, which under gevent is a greenlet


def _new_standing() -> Any:
    # Made when needed: gevent may replace threading.local after we were imported.
    return type("Standing", (_Standing, threading.local), {})()


standing: Any = _new_standing()
_local: Any = threading.local

_unmarkable: Final[weakref.WeakKeyDictionary[object, Leaf]] = weakref.WeakKeyDictionary()


def _nothing(*_: object) -> None:
    return None


# How to find out what runs here; set as asyncio and trio get imported by the program.
running_loop: Callable[[], Any] = _nothing
current_task: Callable[[Any], Any] = _nothing
trio_task: Callable[[], Any] = _nothing
trio_thread: Any = None  # sniffio's thread-local, whose `name` tells quickly where trio runs
# Set by the carriers: a scope is entered on this asyncio loop, or in a trio task.
on_loop: Callable[[Any], None] = _nothing
on_trio: Callable[[], None] = _nothing
# Does each new task of this class of loops get a leaf? None while no class is followed.
is_followed_loop: Callable[[type], bool] | None = None


def look_around() -> None:
    """Learn how to ask asyncio and trio, if the program imported them since the last time."""
    global running_loop, current_task, trio_task, trio_thread, standing, _local
    tasks, trio = sys.modules.get("asyncio.tasks"), sys.modules.get("trio.lowlevel")
    if tasks is not None and running_loop is _nothing and hasattr(tasks, "current_task"):
        known: Any = getattr(tasks, "_current_tasks", None)
        # current_task() is slow Python until 3.12, over a dict that is public in all but name.
        is_slow = sys.version_info < (3, 12) and known is not None
        current_task = known.get if is_slow else tasks.current_task
        running_loop = sys.modules["asyncio.events"]._get_running_loop
    if trio is not None and trio_thread is None and hasattr(trio, "in_trio_task"):
        trio_task = _trio_asker(trio.in_trio_task, trio.current_task)
        sniffio = sys.modules.get("sniffio")
        trio_thread = SimpleNamespace(name="trio") if sniffio is None else sniffio.thread_local
    if threading.local is not _local:
        _local = threading.local
        standing = _new_standing()


def _trio_asker(is_in_task: Callable[[], bool], ask: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: ask() if is_in_task() else None


def task_here() -> Any:
    """The asyncio or trio task that runs now, or None."""
    loop = running_loop()
    if loop is not None and (task := current_task(loop)) is not None:
        return task
    if trio_thread is not None and trio_thread.name == "trio":
        return trio_task()
    return None


def leaf_of(task: object) -> Leaf | None:
    """The leaf that was given to a task, or set by it."""
    leaf: Leaf | None = getattr(task, LEAF, None)
    if leaf is None and _unmarkable:
        leaf = _unmarkable.get(task)
    return leaf


def mark(task: object, leaf: Leaf | None) -> None:
    """Give a task its leaf, or take it."""
    try:
        if leaf is not None:
            setattr(task, LEAF, leaf)
        elif hasattr(task, LEAF):
            delattr(task, LEAF)
        elif _unmarkable:
            _unmarkable.pop(task, None)
    except AttributeError:
        _unmarkable[task] = leaf  # type: ignore[assignment]  # None is deleted above


def here() -> Leaf | None:
    """The leaf of the work that runs now."""
    loop = running_loop()
    if loop is not None and (task := current_task(loop)) is not None:
        leaf = getattr(task, LEAF, None)
        return leaf if leaf is not None else _unmarked(task, loop)
    if trio_thread is not None and trio_thread.name == "trio" and (task := trio_task()) is not None:
        leaf = _unmarkable.get(task)
        return leaf if leaf is not None else standing.leaf
    return standing.leaf  # type: ignore[no-any-return]


def _unmarked(task: object, loop: object) -> Leaf | None:
    """The leaf of a task that was given none."""
    leaf: Leaf | None = _unmarkable.get(task) if _unmarkable else None
    if leaf is not None:
        return leaf
    if standing.newborn is not None:  # an eager task, in the middle of being created
        return standing.newborn  # type: ignore[no-any-return]
    leaf = nearest(standing.leaf)  # such as `with scope: asyncio.run(main())`
    # Where each task made since was marked, this one is older and belongs to nobody here.
    if type(leaf) is Visit and leaf.is_followed and is_followed_loop is not None:
        return None if is_followed_loop(type(loop)) else leaf
    return leaf


def current() -> Scope | None:
    """The scope in which the calling piece of work stands, or None; from any thread or task."""
    leaf = here()
    while leaf is not None and leaf.left:
        leaf = leaf.outer
    return None if leaf is None else leaf.scope


def stand(leaf: Leaf | None) -> Any:
    """Make `leaf` that of the work that runs now; returns the task it was given to, if any."""
    task = task_here()
    if task is None:
        standing.leaf = leaf
    else:
        mark(task, leaf)
    return task


def enter(scope: Scope) -> Visit:
    """Stand in `scope` until `leave()` gets what is returned; the first one opens the process."""
    visit = Visit(scope)
    lifecycle.hold(id(visit))
    outer = here()
    visit.outer = outer = _shortened(outer)
    loop = running_loop()
    if loop is not None:
        on_loop(loop)
    visit.is_followed = is_followed_loop is not None
    if stand(visit) is not None:
        on_trio()
    return visit


def _shortened(leaf: Leaf | None) -> Leaf | None:
    """Skip visits that were left, so that overlapping ones do not pile up."""
    while type(leaf) is Visit and leaf.left:
        leaf = leaf.outer
    if type(leaf) is Visit:
        while type(outer := leaf.outer) is Visit and outer.left:
            leaf.outer = outer.outer
    return leaf


def leave(visit: Visit) -> None:
    """End a visit: in any order, from any thread or task; a second time does nothing."""
    if visit.left:
        return
    task = task_here()
    standing_here = standing.leaf if task is None else leaf_of(task)
    if standing_here is visit:
        outer = _shortened(visit.outer)
        if task is None:
            standing.leaf = outer
        else:
            mark(task, outer)
    end(visit)


def end(visit: Visit) -> None:
    """Mark a visit as left, wherever it is still referred to."""
    visit.left = True
    if visit.carried is not None:
        visit.carried.is_open = False
        visit.carried = None
    lifecycle.let_go(id(visit))


def to_carry() -> Carried | None:
    """What new work takes along from here for its whole life, or None."""
    return carried_of(here())


def carried_of(leaf: Leaf | None) -> Carried | None:
    """What work takes along for its whole life if it starts from `leaf`."""
    found = nearest(leaf)
    if type(found) is not Visit:
        return found  # type: ignore[return-value]
    carried = found.carried
    if carried is None:
        carried = found.carried = Carried(found.scope)
        carried.is_open = not found.left  # another thread may have left it this moment
    return carried


def to_lend() -> Borrowed | None:
    """What a thread that is started here may use until the scope is left, or None."""
    leaf = _shortened(here())
    if nearest(leaf) is None:
        return None
    return Borrowed(leaf, task_here() or _greenlet())  # type: ignore[arg-type]


class Stay:
    """`with Stay(scope):` stands in `scope` for the body; reusable, one body at a time."""

    __slots__ = ("_visit", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._visit: Visit | None = None

    def __enter__(self) -> Scope:
        self._visit = enter(self.scope)
        return self.scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visit is not None:
            leave(self._visit)


_forking: list[Leaf | None] = []


def _before_fork() -> None:
    lifecycle.before_fork()
    # In the child no loop runs any more, so what its task had must become the thread's.
    _forking[:] = [None if standing.is_pooling else here()]


def _after_fork_in_child() -> None:
    leaf = standing.leaf = _forking.pop()
    standing.newborn, standing.is_pooling = None, False
    visits: set[int] = set()
    items: set[int] = set()
    while leaf is not None:
        if not leaf.left:
            is_entered = type(leaf) is Visit and not leaf.is_item
            (visits if is_entered else items).add(id(leaf))
        leaf = leaf.outer
    lifecycle.after_fork_in_child(visits, items)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lifecycle.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

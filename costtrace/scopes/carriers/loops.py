"""Into asyncio: tasks, eager tasks, callbacks, and what other threads hand to a loop.

No task factory is set or wrapped. Every task that does not start eagerly has its first step
scheduled through `call_soon` while its creator is the current task: there it gets its leaf,
whoever constructed it. Eager tasks (3.12+) need a factory: asyncio's own is hooked inside, and
`create_task` as soon as any factory is seen on a loop.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import BuiltinMethodType, ModuleType
from typing import Any, Final

from costtrace.scopes import leaf as leaves
from costtrace.scopes import lifecycle
from costtrace.scopes.binding import BoundOnce, Clean
from costtrace.scopes.hook import CellHook, Hook
from costtrace.scopes.leaf import LEAF, Carried, Visit, mark, nearest

HAS_EAGER_TASKS: Final = sys.version_info >= (3, 12)
WATCHED: Final = "_costtrace_watched"


class _Known:
    """What was seen while scopes are open; forgotten when they are gone."""

    def __init__(self) -> None:
        self.loops: weakref.WeakSet[Any] = weakref.WeakSet()  # tasks on them may carry a scope
        self.last: Callable[[], Any] = lambda: None  # the loop met last, mostly the only one
        self.hooked: list[type] = []
        self.is_followed: dict[type, bool] = {}
        self.late: list[Hook] = []  # hooks that only some programs need
        self.has_eager = False


_known = _Known()
# What BaseEventLoop._call_soon() touches, as long as it is the one we know.
_STOCK_NAMES: Final = ("events", "Handle", "_source_traceback", "_ready", "append")
_ABSENT: Final = object()


class _Kinds:
    """Types of callbacks that asyncio's own tasks and futures schedule."""

    step: type | None = None  # a C task's step, once one was seen
    silent: Final[set[type]] = set()  # methods written in C: they run nobody's code


_kinds = _Kinds()


def hooks(base_events: ModuleType) -> Iterator[Hook]:
    """asyncio's own loops, and whatever is derived from them."""
    leaves.is_followed_loop = is_followed_loop
    leaves.on_loop = meet
    lifecycle.has_carrying_tasks = has_carrying_tasks
    loop_class = base_events.BaseEventLoop
    _known.hooked.append(loop_class)
    # call_soon() passes through _call_soon(), which is cheaper to hook: each step goes that way.
    yield Hook(loop_class, "_call_soon", _make_inner_call_soon)
    yield Hook(loop_class, "call_at", _make_call_later)  # call_later() ends there too
    yield from _rare_hooks(loop_class)


def uvloop_hooks(uvloop: ModuleType) -> Iterator[Hook]:
    """uvloop's loop is written in C, but the class that everyone uses is not."""
    _known.hooked.append(uvloop.Loop)
    yield Hook(uvloop.Loop, "call_soon", _make_call_soon)
    yield Hook(uvloop.Loop, "call_later", _make_call_later)
    yield Hook(uvloop.Loop, "call_at", _make_call_later)
    yield from _rare_hooks(uvloop.Loop)


def task_hooks(tasks: ModuleType) -> Iterator[CellHook]:
    """asyncio's own eager factory, which libraries also call without setting it on their loop.

    It is told by its identity, so it stays; what it constructs tasks with is replaced inside it.
    """
    if HAS_EAGER_TASKS:
        yield CellHook(tasks.eager_task_factory, _make_constructor)


def _rare_hooks(loop_class: type) -> Iterator[Hook]:
    yield Hook(loop_class, "call_soon_threadsafe", _make_call_soon_threadsafe)
    if HAS_EAGER_TASKS:
        yield Hook(loop_class, "set_task_factory", _make_set_task_factory)


def unfollow() -> None:
    """Take off what was hooked late, and forget the loops."""
    global _known
    for hook in reversed(_known.late):
        hook.remove()
    _known = _Known()
    leaves.is_followed_loop = None


def is_followed_loop(loop_class: type) -> bool:
    """Whether every task that is created on such a loop gets a leaf, if there is one to get."""
    known = _known.is_followed.get(loop_class)
    if known is None:
        known = _known.is_followed[loop_class] = _scheduler(loop_class) in _known.hooked
    return known


def _scheduler(loop_class: type) -> type | None:
    """The class that schedules the steps of this loop's tasks."""
    return next((c for c in loop_class.__mro__ if "call_soon" in vars(c)), None)


def meet(loop: Any) -> None:
    """A scope is entered on this loop, or a task on it takes one along."""
    if loop is not _known.last():
        lifecycle.change(lambda: _meet(loop))


def _meet(loop: Any) -> None:
    _known.loops.add(loop)
    _known.last = weakref.ref(loop)
    if not is_followed_loop(type(loop)):
        _follow_strange(type(loop))
    if HAS_EAGER_TASKS and loop.get_task_factory() is not None:
        _expect_eager_tasks()


def _follow_strange(loop_class: type) -> None:
    """Hook a loop class of somebody else's, which schedules in its own way."""
    owner = _scheduler(loop_class)
    with suppress(TypeError):  # a class written in C takes no hooks
        if owner is not None and (hook := Hook(owner, "call_soon", _make_call_soon)).install():
            _known.late.append(hook)
            _known.hooked.append(owner)
    _known.is_followed.clear()


def _expect_eager_tasks() -> None:
    if not _known.has_eager:
        _known.has_eager = True
        for loop_class in _known.hooked:
            hook = Hook(loop_class, "create_task", _make_create_task)
            if hook.install():
                _known.late.append(hook)


def _make_set_task_factory(original: Callable[..., Any]) -> Callable[..., Any]:
    def set_task_factory(self: Any, factory: Any) -> Any:
        if factory is not None:
            lifecycle.change(_expect_eager_tasks)
        return original(self, factory)

    return set_task_factory


def _make_create_task(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:
        return _born(self, partial(original, self, coro, **kwargs))

    return create_task


def _make_constructor(original: Callable[..., Any]) -> Callable[..., Any]:
    def construct(coro: Any, **kwargs: Any) -> Any:
        return _born(kwargs["loop"], partial(original, coro, **kwargs))

    return construct


def _born(loop: Any, make: Callable[[], Any]) -> Any:
    """Return a task that may run its first step as it is made: it stands where its maker does."""
    carried, standing = leaves.to_carry(), leaves.standing
    before, standing.newborn = standing.newborn, carried
    try:
        task = make()
    finally:
        standing.newborn = before
    if carried is not None and leaves.leaf_of(task) is None:
        with suppress(TypeError):  # a factory may return anything
            mark(task, carried)
        meet(loop)
    return task


def _make_inner_call_soon(original: Callable[..., Any]) -> Callable[..., Any]:
    # On the way of each step of each task, so every nanosecond counts: what asyncio does itself
    # is done here as well, which saves a call.
    if getattr(getattr(original, "__code__", None), "co_names", None) != _STOCK_NAMES:
        return _make_wrapped_call_soon(original)
    new_handle = sys.modules["asyncio.events"].Handle
    current_task, attribute, none = leaves.current_task, getattr, None
    wake_up, step = BuiltinMethodType, _kinds.step

    def _call_soon(self: Any, callback: Any, args: Any, context: Any) -> Any:
        nonlocal step
        kind = type(callback)
        if kind is step:
            task, creator = callback.__self__, current_task(self)
            if task is not creator:  # its first step; the others it schedules itself
                leaf = attribute(creator, LEAF, none)
                if type(leaf) is Visit and not leaf.left:
                    leaf = leaf.carried
                if type(leaf) is Carried:
                    task._costtrace_leaf = leaf
                else:
                    _give(self, task)
        elif kind is not wake_up and kind not in _kinds.silent:
            callback = _for_later(self, callback, args)
            step = _kinds.step
        handle = new_handle(callback, args, self, context)
        if handle._source_traceback:
            del handle._source_traceback[-1]
        self._ready.append(handle)
        return handle

    return _call_soon


def _make_wrapped_call_soon(original: Callable[..., Any]) -> Callable[..., Any]:
    def _call_soon(self: Any, callback: Any, args: Any, context: Any) -> Any:
        if type(callback) is not BuiltinMethodType:
            callback = _for_later(self, callback, args)
        return original(self, callback, args, context)

    return _call_soon


def _make_call_soon(original: Callable[..., Any]) -> Callable[..., Any]:
    def call_soon(
        self: Any, callback: Any, arg: Any = _ABSENT, *args: Any, context: Any = None
    ) -> Any:
        kind = type(callback)
        if kind is _kinds.step:
            if getattr(callback.__self__, LEAF, None) is None:
                _give(self, callback.__self__)
            return original(self, callback, context=context)
        if kind is not BuiltinMethodType and kind not in _kinds.silent:
            callback = _for_later(self, callback, () if arg is _ABSENT else (arg, *args))
        # Spelled out, because passing *args on takes longer than all of the rest.
        if args:
            return original(self, callback, arg, *args, context=context)
        if arg is _ABSENT:
            return original(self, callback, context=context)
        return original(self, callback, arg, context=context)

    return call_soon


def _make_call_later(original: Callable[..., Any]) -> Callable[..., Any]:
    def call_later(self: Any, when: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        if type(callback) is not BuiltinMethodType:
            callback = _for_later(self, callback, args)
        return original(self, when, callback, *args, context=context)

    return call_later


def _make_call_soon_threadsafe(original: Callable[..., Any]) -> Callable[..., Any]:
    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        module = getattr(callback, "__module__", None) or ""
        is_internal = module == "asyncio.futures" or module.startswith("trio.")
        if not is_internal and not isinstance(callback, (Clean, BuiltinMethodType)):
            carried = leaves.to_carry()
            if carried is not None and callable(callback):
                callback = BoundOnce(callback, carried)
                meet(self)
        return original(self, callback, *args, context=context)

    return call_soon_threadsafe


def _give(loop: Any, task: Any) -> None:
    """Give a new task the leaf of its creator."""
    carried = leaves.to_carry()
    if carried is not None:
        mark(task, carried)
        meet(loop)


def _for_later(loop: Any, callback: Any, args: tuple[Any, ...]) -> Any:
    """Bind a callback of the program's; those of the loops themselves run nobody's code."""
    kind = type(callback)
    if isinstance(callback, BuiltinMethodType):
        _kinds.silent.add(kind)
    elif kind is _kinds.step or kind.__name__ == "TaskStepMethWrapper":
        _kinds.step = kind
        if leaves.leaf_of(callback.__self__) is None:
            _give(loop, callback.__self__)
    elif _is_python_step(callback):
        if leaves.leaf_of(callback.__self__) is None:
            _give(loop, callback.__self__)
    elif callable(callback) and not isinstance(callback, Clean):
        module = getattr(callback, "__module__", None) or ""
        if not module.startswith(("asyncio.", "trio.", "costtrace.")):
            carried = _of_callback(args)
            return callback if carried is None else BoundOnce(callback, carried)
    return callback


def _is_python_step(callback: Any) -> bool:
    """Whether this is a step of a task that is not written in C."""
    name = getattr(callback, "__name__", "")
    return name == "__step" and hasattr(callback.__self__, "_asyncio_future_blocking")


def _of_callback(args: tuple[Any, ...]) -> Carried | None:
    future: Any = args[0] if len(args) == 1 else None
    if hasattr(future, "_asyncio_future_blocking") and future.done():
        # Scheduled by whoever completed the future, which may be another user: the task's own
        # leaf is the best that is known of those who wait for it.
        children = getattr(future, "_children", None) or (future,)
        return leaves.carried_of(leaves.leaf_of(children[0]))
    found = nearest(leaves.here())
    if type(found) is Visit and found.is_item and found.carried and not found.carried.is_open:
        return None  # a timer that sets itself again must not keep a left scope for ever
    return leaves.carried_of(found)


def has_carrying_tasks() -> bool:
    """Whether an unfinished task carries a scope; if so, its end will be noticed."""
    asyncio = sys.modules["asyncio"]
    for loop in list(_known.loops):
        if loop.is_closed():
            continue
        for task in asyncio.all_tasks(loop):
            if type(nearest(leaves.leaf_of(task))) is Carried:
                _watch(loop, task)
                return True
    return False


def _watch(loop: Any, task: Any) -> None:
    if getattr(task, WATCHED, False):
        return
    with suppress(AttributeError, RuntimeError):  # no attributes; or closed this moment
        setattr(task, WATCHED, True)
        if leaves.running_loop() is loop or not loop.is_running():
            task.add_done_callback(_look_again)
        else:
            loop.call_soon_threadsafe(task.add_done_callback, _look_again)


def _look_again(_: Any) -> None:
    lifecycle.close_if_gone()

"""How scopes get into child tasks, threads and executors: one file for each family of carriers.

Hooks are installed with the first scope, for what the program imported by then, and again
whenever a scope is entered after something more was imported; the last scope takes them off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Final

from costtrace.scopes import leaf
from costtrace.scopes.carriers import executors, greenlets, loops, threads, trio_tasks
from costtrace.scopes.hook import CellHook, Hook
from costtrace.scopes.lifecycle import guarded

_FAMILIES: Final[dict[str, Callable[[ModuleType], Iterable[Hook | CellHook]]]] = {
    "threading": threads.hooks,
    "multiprocessing.pool": threads.pool_hooks,
    "concurrent.futures._base": executors.future_hooks,
    "concurrent.futures.thread": executors.hooks,
    "concurrent.futures.process": executors.process_hooks,
    "asyncio.base_events": loops.hooks,
    "asyncio.tasks": loops.task_hooks,
    "uvloop": loops.uvloop_hooks,
    "anyio._backends._asyncio": threads.anyio_hooks,
    "trio": trio_tasks.hooks,
    "gevent.greenlet": greenlets.hooks,
    "gevent.threadpool": greenlets.pool_hooks,
}

_installed: Final[dict[str, list[Hook | CellHook]]] = {}


def follow() -> None:
    """Install the hooks for everything that is imported and was not hooked yet."""
    leaf.look_around()
    for name in _FAMILIES:
        module = sys.modules.get(name)
        if module is not None and name not in _installed and not _is_half_imported(module):
            guarded(partial(_install, name, module))


def _install(name: str, module: ModuleType) -> None:
    hooks = _installed[name] = []
    for hook in _FAMILIES[name](module):
        if hook.install():
            hooks.append(hook)


def unfollow() -> None:
    """Restore everything exactly as it was found."""
    for hooks in reversed(_installed.values()):
        for hook in reversed(hooks):
            hook.remove()
    _installed.clear()
    loops.unfollow()
    trio_tasks.unfollow()
    greenlets.unfollow()


def _is_half_imported(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))

"""Into gevent's greenlets, and the items of its pool of native threads."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from costtrace.scopes import leaf as leaves
from costtrace.scopes import lifecycle
from costtrace.scopes.binding import bound_item
from costtrace.scopes.carriers.threads import binding_first
from costtrace.scopes.hook import Hook

_greenlet_class: Any = None


def hooks(greenlet: ModuleType) -> Iterator[Hook]:
    """A greenlet that is spawned inside a scope keeps it, like a task."""
    global _greenlet_class
    _greenlet_class = greenlet.Greenlet
    _greenlet_class.add_spawn_callback(_spawned)
    return iter(())


def pool_hooks(threadpool: ModuleType) -> Iterator[Hook]:
    """What is given to gevent's native threads is bound."""
    yield Hook(threadpool.ThreadPool, "spawn", binding_first(bound_item))


def unfollow() -> None:
    """Stop hearing of new greenlets."""
    if _greenlet_class is not None:
        _greenlet_class.remove_spawn_callback(_spawned)


def _spawned(greenlet: Any) -> None:
    standing = leaves.standing
    if standing.is_pooling or standing.is_starting:
        return  # a thread under gevent's patches: it borrows, or is a pool's worker
    carried = leaves.to_carry()
    if carried is not None:
        lifecycle.items.add(id(greenlet))
        setattr(greenlet, leaves.LEAF, carried)
        greenlet.rawlink(_finished)


def _finished(greenlet: Any) -> None:
    lifecycle.let_go_item(id(greenlet))

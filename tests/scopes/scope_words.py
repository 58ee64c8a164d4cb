"""How tests of scopes open one and ask for it."""

from __future__ import annotations

from functools import partial

from costtrace.scopes import Scope, Stay, Step, current


def as_user(user_id: str) -> Stay:
    """Stand in a new scope of this user, below the present one."""
    return Stay(Scope(current(), user_id=user_id))


def in_function(name: str) -> Stay:
    """Stand in a tracked function of this name, below the present scope."""
    return Stay(Scope(current(), function_name=name))


def step_of(name: str) -> Step:
    """The steps of a tracked generator function of this name."""
    return Step(partial(Scope, function_name=name))


def who() -> str | None:
    """The user of the present scope; None where there is no scope."""
    scope = current()
    return None if scope is None else scope.user_id


def path() -> tuple[str, ...]:
    """The tracked functions around the present place."""
    scope = current()
    return () if scope is None else scope.call_path

"""`tracked`: the function that a call is made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.terms import checked_id, checked_tags
from costtrace.api.opening import check_function, scoped
from costtrace.instrumentation import flush
from costtrace.scopes import Scope

F = TypeVar("F", bound=Callable[..., Any])


@overload
def tracked(function: F, /) -> F: ...


@overload
def tracked(
    *,
    function_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    ledger: CostLedger | None = None,
) -> Callable[[F], F]: ...


def tracked(
    function: Any = None,
    /,
    *,
    function_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    ledger: CostLedger | None = None,
) -> Any:
    """Attribute the SDK calls that a function makes to it, and to whoever calls it.

    Works on functions, coroutine functions, generators, async generators, methods, static and
    class methods; with or without parentheses. The default name is `module.qualname`, and the bare
    qualname for what is defined in `__main__`. Its calls are entered in `ledger`, else in the
    ledger of the nearest scope around it that names one, else in `costtrace.ledger`.

    >>> @tracked(function_name="answer", tags={"team": "search"})
    ... def answer(question): ...
    """
    name = None if function_name is None else checked_id("function_name", function_name)
    facts = (name, checked_tags(tags), checked_ledger(ledger))
    if function is None:
        return lambda function: _tracked(function, _Tracked(*facts))
    return _tracked(function, _Tracked(*facts))


def checked_ledger(ledger: CostLedger | None) -> CostLedger | None:
    """Return a ledger that somebody named, if it is one."""
    if ledger is not None and not isinstance(ledger, CostLedger):
        raise TypeError(f"ledger must be a CostLedger, not {type(ledger).__name__}")
    return ledger


def _tracked(function: Any, opener: _Tracked) -> Any:
    if isinstance(function, str):
        raise TypeError(f"name a function with tracked(function_name={function!r})")
    check_function(function, "tracked")
    return scoped(function, opener)


class _Tracked:
    """Opens the scopes of one tracked function."""

    def __init__(
        self, name: str | None, tags: Mapping[str, str], ledger: CostLedger | None
    ) -> None:
        self._name = name
        self._tags = tags
        self._ledger = ledger

    def scope(self, parent: Scope | None, function: Callable[..., Any]) -> Scope:
        if self._name is None:
            self._name = default_name(function)
        return Scope(parent, function_name=self._name, tags=self._tags, ledger=self._ledger)

    def closing(self, scope: Scope) -> None:
        flush(scope)


def default_name(function: Callable[..., Any]) -> str:
    """Return the name that a function has in reports when it was given none."""
    function = getattr(function, "func", function)  # of a functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return name if module in (None, "__main__") else f"{module}.{name}"

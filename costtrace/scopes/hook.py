"""One attribute of somebody else's class or module, replaced while scopes are open."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any, Final

_ABSENT: Final = object()  # the attribute was inherited: restoring is deleting

# What each of our wrappers replaced, also after it was left below another tool's wrapper.
_replaced: Final[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()


class Hook:
    """Puts `make(original)` in the place of `owner.name`; takes off itself, and only itself.

    Where another tool wrapped ours meanwhile, it stays below as a pass-through: it acts only
    where a scope is open. One that comes to light again later is replaced, not wrapped.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        self._owner = owner
        self._name = name
        self._make = make
        self._put: Any = _ABSENT
        self._before: Any = _ABSENT

    def install(self) -> bool:
        """Put the wrapper in place; False where the owner has no such attribute (yet)."""
        before = vars(self._owner).get(self._name, _ABSENT)
        while before is not _ABSENT and _function(before) in _replaced:
            before = _replaced[_function(before)]
        raw = getattr(self._owner, self._name, None) if before is _ABSENT else before
        if raw is None:
            return False
        wrapper = _made_for(_function(raw), self._make)
        self._before = before
        self._put = classmethod(wrapper) if isinstance(before, classmethod) else wrapper
        if wrapper not in _replaced or _replaced[wrapper] is not before:
            _replaced[wrapper] = before
        setattr(self._owner, self._name, self._put)
        return True

    def remove(self) -> None:
        """Restore what was there, unless somebody wrapped ours: that is not ours to take off."""
        if vars(self._owner).get(self._name) is not self._put:
            return
        if self._before is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)


class CellHook:
    """The same for the one variable that a function was made with; the function stays itself."""

    def __init__(self, function: Any, make: Callable[[Any], Callable[..., Any]]) -> None:
        self._cells: tuple[CellType, ...] = getattr(function, "__closure__", None) or ()
        self._make = make
        self._put: Any = _ABSENT
        self._before: Any = _ABSENT

    def install(self) -> bool:
        """Put the wrapper in place; False for a function that is made otherwise."""
        if len(self._cells) != 1:
            return False
        self._before = self._cells[0].cell_contents
        self._put = self._cells[0].cell_contents = self._make(self._before)
        return True

    def remove(self) -> None:
        """Restore what was there, unless somebody replaced ours."""
        for cell in self._cells:
            if cell.cell_contents is self._put:
                cell.cell_contents = self._before


_wrappers: Final[dict[tuple[int, int], tuple[Any, Any, Any]]] = {}
_MOST_WRAPPERS: Final = 128


def _made_for(original: Any, make: Callable[[Any], Callable[..., Any]]) -> Any:
    """The wrapper of a function: the same one each time, as scopes open and close all the time."""
    key = (id(original), id(make))
    known = _wrappers.get(key)
    if known is not None:  # it keeps both, and so their ids
        return known[2]
    wrapper = functools.wraps(original)(make(original))
    if len(_wrappers) >= _MOST_WRAPPERS:
        _wrappers.clear()
    _wrappers[key] = (original, make, wrapper)
    return wrapper


def _function(raw: Any) -> Any:
    inner = getattr(raw, "__func__", raw) if isinstance(raw, classmethod) else raw
    return inner if isinstance(inner, FunctionType) or callable(inner) else raw

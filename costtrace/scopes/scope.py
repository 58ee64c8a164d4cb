"""Who pays: one node of the chain of tracked functions and budgets around a piece of work."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

UNKNOWN_FUNCTION: Final = "unknown"
ANONYMOUS: Final = "anon"
NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})


class Scope:
    """An immutable node: what its parent says, and what one more function or budget adds.

    Everything a call needs is flattened when the node is made, so that reading is one attribute:
    `call_path` holds the names of all tracked functions from the outside in, `function_name` the
    last of them ("unknown" without one), `budgets` all budgets from the outside in (this layer
    never looks into them), `user_id` the innermost named user ("anon" without one), `tags` those
    of all nodes, where the inner ones win, and `ledger` the nearest one that was named, or None.
    """

    __slots__ = (
        "__weakref__",
        "budgets",
        "call_path",
        "function_name",
        "ledger",
        "names",
        "parent",
        "tags",
        "user_id",
    )

    parent: Scope | None
    call_path: tuple[str, ...]
    function_name: str
    budgets: tuple[object, ...]
    user_id: str
    tags: Mapping[str, str]
    ledger: Any
    names: tuple[Any, ...]  # what this node adds, as it was given

    def __init__(
        self,
        parent: Scope | None = None,
        *,
        function_name: str | None = None,
        budget: object | None = None,
        user_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        ledger: object | None = None,
    ) -> None:
        _parent(self, parent)
        _names(self, (function_name, budget, user_id, tags, ledger))
        path, budgets, user, outer_tags, outer_ledger = (
            ((), (), ANONYMOUS, NO_TAGS, None)
            if parent is None
            else (parent.call_path, parent.budgets, parent.user_id, parent.tags, parent.ledger)
        )
        if function_name is not None:
            path = (*path, function_name)
        _call_path(self, path)
        _function_name(self, path[-1] if path else UNKNOWN_FUNCTION)
        _budgets(self, budgets if budget is None else (*budgets, budget))
        _user_id(self, user if user_id is None else user_id)
        _tags(self, MappingProxyType({**outer_tags, **tags}) if tags else outer_tags)
        _ledger(self, outer_ledger if ledger is None else ledger)

    def under(self, parent: Scope | None) -> Scope:
        """The same function or budget below another parent."""
        function_name, budget, user_id, tags, ledger = self.names
        return Scope(
            parent,
            function_name=function_name,
            budget=budget,
            user_id=user_id,
            tags=tags,
            ledger=ledger,
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Scope never changes: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Scope never changes: cannot delete {name!r}")

    def __repr__(self) -> str:
        path = " > ".join(self.call_path) or UNKNOWN_FUNCTION
        return f"<Scope {self.user_id!r} {path}>"


# The slots themselves write what __setattr__ forbids; looked up once, for speed.
_names: Any = vars(Scope)["names"].__set__
_parent: Any = vars(Scope)["parent"].__set__
_call_path: Any = vars(Scope)["call_path"].__set__
_function_name: Any = vars(Scope)["function_name"].__set__
_budgets: Any = vars(Scope)["budgets"].__set__
_user_id: Any = vars(Scope)["user_id"].__set__
_tags: Any = vars(Scope)["tags"].__set__
_ledger: Any = vars(Scope)["ledger"].__set__

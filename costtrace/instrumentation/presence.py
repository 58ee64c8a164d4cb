"""Whether calls outside any scope are seen too."""

from __future__ import annotations

from costtrace.scopes import Scope


class Presence:
    """Set by `instrument()`, unset by `uninstrument()`."""

    sees_unscoped = False


def is_seen(scope: Scope | None) -> bool:
    """Tell whether a call in this scope, or in none, is ours to see."""
    return scope is not None or Presence.sees_unscoped

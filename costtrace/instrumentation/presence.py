"""When SDK calls are seen: while a scope is open, or always after `instrument()`.

What takes part in calls is loaded with the first of both: a process that opens no scope needs none
of it.
"""

from __future__ import annotations

import os

from costtrace.scopes import Scope, active, pin, register, unpin


class Presence:
    """Whether calls outside any scope are seen too."""

    sees_unscoped = False


def is_seen(scope: Scope | None) -> bool:
    """Tell whether a call in this scope, or in none, is ours to see."""
    return scope is not None or Presence.sees_unscoped


def instrument() -> None:
    """See all calls from now on, also those outside any scope, until `uninstrument()`.

    They are entered under the function "unknown" and the user "anon".
    """
    if not is_disabled():
        Presence.sees_unscoped = True
        pin()


def uninstrument() -> None:
    """Undo `instrument()`: without an open scope, the SDKs are restored."""
    Presence.sees_unscoped = False
    unpin()


def is_active() -> bool:
    """Return whether calls are seen now: a scope is open, or `instrument()` holds."""
    return active() and not is_disabled()


def is_disabled() -> bool:
    """Return whether `COSTTRACE_DISABLED` turns all instrumentation off."""
    return os.environ.get("COSTTRACE_DISABLED", "").strip().lower() in ("1", "true", "yes", "on")


def _apply() -> None:
    if not is_disabled():
        from costtrace.instrumentation.seams import PATCHED

        for module in PATCHED:
            module.apply()


def _remove() -> None:
    from costtrace.instrumentation.seams import PATCHED

    for module in PATCHED:
        module.remove()


register(_apply, _remove)

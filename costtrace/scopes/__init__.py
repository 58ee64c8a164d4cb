"""Who pays: scopes, where a piece of work stands among them, and how they follow the work.

`enter()` and `leave()` stand in a `Scope`; `current()` tells which, from any thread or task.
What takes a scope elsewhere (`carry`, `Step`, `encode`, ...) is loaded when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from costtrace.lazy import lazily
from costtrace.scopes import lifecycle
from costtrace.scopes.leaf import Stay, Visit, current, enter, leave
from costtrace.scopes.lifecycle import active, pin, register, unpin, unregister
from costtrace.scopes.scope import Scope

if TYPE_CHECKING:
    from costtrace.scopes.binding import carry
    from costtrace.scopes.handoff import Handoff, decode, encode
    from costtrace.scopes.steps import Step, drive, drive_async

__all__ = [
    "Handoff",
    "Scope",
    "Stay",
    "Step",
    "Visit",
    "active",
    "carry",
    "current",
    "decode",
    "drive",
    "drive_async",
    "encode",
    "enter",
    "leave",
    "pin",
    "register",
    "unpin",
    "unregister",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Handoff": "handoff",
        "Step": "steps",
        "carry": "binding",
        "decode": "handoff",
        "drive": "steps",
        "drive_async": "steps",
        "encode": "handoff",
    },
)


def _follow() -> None:
    import_module(f"{__name__}.carriers").follow()


def _unfollow() -> None:
    import_module(f"{__name__}.carriers").unfollow()


lifecycle.follow, lifecycle.unfollow = _follow, _unfollow

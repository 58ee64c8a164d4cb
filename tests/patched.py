"""What stands in the SDK classes that are patched while a scope is open."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

TARGETS = ("request", "_process_response")
CLASSES = ("SyncAPIClient", "AsyncAPIClient")


def sdk_methods() -> dict[tuple[str, str, str], Callable[..., Any]]:
    """Return what stands in the classes that are patched, for the SDKs imported by now."""
    found = {}
    for sdk in ("openai", "anthropic"):
        module = sys.modules.get(f"{sdk}._base_client")
        if module is not None:
            for kind in CLASSES:
                for name in TARGETS:
                    found[sdk, kind, name] = vars(getattr(module, kind))[name]
    return found

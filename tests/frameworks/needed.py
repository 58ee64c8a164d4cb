"""A framework that is not installed skips the file that needs it, and says how to get it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

FRAMEWORKS_ARE_REQUIRED = "COSTTRACE_TESTS_FRAMEWORKS"
"""Set to 1 where the files that are run must not be skipped: in an environment made for them."""


def needed(module: str, extra: str) -> Any:
    """Return a module; without it, skip the test file that asks for it as it is collected."""
    if os.environ.get(FRAMEWORKS_ARE_REQUIRED) == "1":
        return import_module(module)
    reason = f"{module.partition('.')[0]} is not installed: pip install -e '.[{extra}]'"
    return pytest.importorskip(module, reason=reason, exc_type=ImportError)

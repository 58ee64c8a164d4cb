"""A plugin of pytest: what an older SDK does not have is skipped, not failed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None  # type: ignore[attr-defined]
    if isinstance(error, AttributeError) and _is_of_an_sdk(error.obj):
        name = f"{type(error.obj).__name__}.{error.name}"
        outcome.force_exception(pytest.skip.Exception(f"no {name}"))  # type: ignore[attr-defined]


def _is_of_an_sdk(owner: object) -> bool:
    module = getattr(owner, "__name__", "") or type(owner).__module__
    return module.split(".")[0] in ("openai", "anthropic")

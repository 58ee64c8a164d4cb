"""What every test of the stores may rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workers import kill_what_is_left


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test() -> Iterator[None]:
    yield
    kill_what_is_left()

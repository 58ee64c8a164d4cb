"""MemoryStore keeps the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from store_contract import StoreContract

from costtrace.stores import MemoryStore
from costtrace.stores.base import Store


class TestMemoryStore(StoreContract):
    """All that every store must do."""

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """Return what opens a store."""
        return MemoryStore

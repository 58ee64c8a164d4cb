"""SQLiteStore keeps the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from store_contract import StoreContract

from costtrace.stores import SQLiteStore
from costtrace.stores.base import Store


class TestSQLiteStore(StoreContract):
    """All that every store must do."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], Store]:
        """Return what opens a store."""
        return lambda: SQLiteStore(tmp_path / "ledger.db", synchronous="NORMAL")

"""What every store must do. A store's test module inherits from `StoreContract`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from contract_budgets import BudgetContract
from contract_names import NameContract
from contract_queries import QueryContract
from contract_states import StateContract
from store_calls import Clock

from costtrace.stores.base import Store


class StoreContract(StateContract, BudgetContract, QueryContract, NameContract):
    """Override `open_store` with a fixture that returns a function: a new, empty store."""

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """Return what opens a store."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        """Time that moves by hand."""
        return Clock()

    @pytest.fixture
    def store(self, open_store: Callable[[], Store], clock: Clock) -> Iterator[Store]:
        """An empty store; whatever a test does to it, its balances agree with its calls."""
        store = open_store()
        store.use_clock(clock)
        yield store
        assert store.verify() == []
        store.close()
        store.close()

    def test_store_is_one(self, store: Store) -> None:
        """It has all that the protocol asks for."""
        assert isinstance(store, Store)
        assert isinstance(store.is_blocking, bool)
        store.flush()

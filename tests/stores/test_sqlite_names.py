"""Numbers that a SQLite store remembers for names, while others rename, drop and fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_calls import ALICE, entry

from costtrace.exceptions import BudgetStoreError
from costtrace.money import to_usd
from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS, Query
from costtrace.stores.rows import CEILING


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "costs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    assert store.verify() == []
    store.close()


def users(store: SQLiteStore) -> list[str]:
    return [one.user_id for one in store.entries()]


@pytest.mark.parametrize("is_another", [False, True], ids=["this store", "another process's"])
def test_a_renamed_user_is_not_the_one_who_comes_after(
    store: SQLiteStore, path: Path, is_another: bool
) -> None:
    """Alice is renamed; the next Alice is somebody else, in entries and in balances."""
    store.settle(entry(700), ALICE)
    renaming = SQLiteStore(path) if is_another else store
    renaming.rename_user("alice", "bob")
    if is_another:
        renaming.close()
    store.settle(entry(300), ALICE)

    assert users(store) == ["bob", "alice"]
    assert store.balance("user:bob", ALWAYS).spent_pico == 700
    assert store.balance("user:alice", ALWAYS).spent_pico == 300
    assert store.sums(Query(user_id="alice")).cost_usd == to_usd(300)


def test_a_dropped_owner_is_charged_anew(store: SQLiteStore) -> None:
    """What is charged to a block after its end is charged to a new owner of that name."""
    owners = (*ALICE, "block:1")
    store.settle(entry(700), owners)
    store.drop("block:1")
    store.settle(entry(300), owners)

    assert store.balance("block:1", ALWAYS).spent_pico == 300
    assert store.balance("user:alice", ALWAYS).spent_pico == 1000


def test_names_of_a_step_that_was_undone_are_given_again(store: SQLiteStore) -> None:
    """A step that fails after it has numbered a label and owners leaves no number behind."""
    owners = ("ledger", "user:new")
    store.settle(entry(CEILING), ("ledger",))
    store.settle(entry(CEILING - 1), ("ledger",))
    with pytest.raises(BudgetStoreError):
        store.settle(entry(CEILING, user_id="new", function_name="new"), owners)
    store.settle(entry(0, user_id="new", function_name="new"), owners)
    store.settle(entry(0, user_id="other", function_name="other"), ("user:other",))

    assert users(store)[2:] == ["new", "other"]
    assert store.balance("user:new", ALWAYS).spent_calls == 1
    assert store.balance("user:other", ALWAYS).spent_calls == 1

"""Schemas only move forward: an older ledger is brought up to date, a newer one is left alone."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from homes import empty_home
from servers import started_postgres, started_redis
from store_calls import ALICE, entry, hold, limit

from costtrace.exceptions import BudgetStoreError
from costtrace.stores import SQLiteStore, database, dbapi_link, redis_link
from costtrace.stores.base import ALWAYS, Balance

NEXT = "CREATE TABLE next_version (number bigint)"


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each home that has tables."""
    return str(request.param)


def upgrade(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    """Be the version that comes after this one."""
    script = ";\n".join(statements) + ";\n"
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, script))
    monkeypatch.setattr(dbapi_link, "MIGRATIONS", (*dbapi_link.MIGRATIONS, tuple(statements)))


def test_older_ledger_is_brought_up_to_date_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By many who open it at once; all that was in it stays."""
    open_store = empty_home(kind, "schemas", tmp_path)
    store = open_store()
    store.settle(entry(700), ALICE)
    store.close()
    upgrade(monkeypatch, NEXT, "INSERT INTO next_version VALUES (2)")
    stores: list[Any] = []

    threads = [threading.Thread(target=lambda: stores.append(open_store())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stores) == 4
    for store in stores:
        assert store.balance("user:alice", ALWAYS).spent_pico == 700
        assert store.verify() == []
        store.close()
    if kind == "sqlite":
        file = sqlite3.connect(tmp_path / "schemas.db")
        assert file.execute("SELECT number FROM next_version").fetchall() == [(2,)]
        file.close()
    else:
        rows = started_postgres().execute("SELECT number FROM schemas.next_version")
        assert rows == [(2,)]


def test_migration_that_fails_changes_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a migration is none: the ledger opens with the version that it had."""
    open_store = empty_home(kind, "schemas", tmp_path)
    store = open_store()
    store.settle(entry(700), ALICE)
    store.close()
    with monkeypatch.context() as patch:
        upgrade(patch, NEXT, "INSERT INTO no_such_table VALUES (1)")
        with pytest.raises(BudgetStoreError):
            open_store()

    store = open_store()
    assert store.balance("user:alice", ALWAYS).spent_pico == 700
    store.close()


def test_older_version_leaves_a_newer_ledger_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which version the ledger has, and what to do; nothing in it changes."""
    open_store = empty_home(kind, "schemas", tmp_path)
    with monkeypatch.context() as patch:
        upgrade(patch, NEXT)
        store = open_store()
        store.settle(entry(700), ALICE)
        store.close()

    with pytest.raises(BudgetStoreError, match=r"newer costtrace \(schema [23], known here up to"):
        open_store()


def test_older_functions_in_postgres_are_replaced(tmp_path: Path) -> None:
    """A ledger of the first schema gets the steps of today; what is held and spent goes on."""
    open_store = empty_home("postgres", "schemas", tmp_path)
    store, call = open_store(), entry(500)
    store.settle(entry(700), ALICE)
    store.reserve(hold(call, limit(10_000)))
    store.close()
    started_postgres().execute(
        "SET search_path TO schemas",
        "UPDATE meta SET value = '1' WHERE name = 'schema_version'",
        "ALTER TYPE spans DROP ATTRIBUTE to_sum",
        "DROP FUNCTION known_spans_of",
        "CREATE OR REPLACE FUNCTION settle(p_text text) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    )

    store = open_store()
    store.settle(call, ALICE)
    assert store.reserve(hold(entry(9_000), limit(10_000))) is not None
    assert store.reserve(hold(entry(8_000), limit(10_000))) is None

    assert store.balance("user:alice", ALWAYS) == Balance(1_200, 8_000, 30, 15, 2, 1)
    assert store.verify() == []
    store.close()


def test_older_version_leaves_a_newer_ledger_in_redis_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise."""
    open_store = empty_home("redis", "schemas", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(redis_link, "SCHEMA", redis_link.SCHEMA + 1)
        open_store().close()
    with started_redis().client() as client:
        before = {key: client.execute_command("DUMP", key) for key in client.keys("*schemas*")}

        with pytest.raises(BudgetStoreError, match=r"newer costtrace \(schema 2, known here up to"):
            open_store()
        after = {key: client.execute_command("DUMP", key) for key in client.keys("*schemas*")}

    assert before == after


def test_new_file_survives_a_version_that_was_never_finished(tmp_path: Path) -> None:
    """A process that died before its first commit leaves an empty file: it becomes a ledger."""
    path = tmp_path / "half.db"
    half = sqlite3.connect(path)
    half.execute("PRAGMA journal_mode=WAL")
    half.close()

    store = SQLiteStore(path)
    assert store.verify() == []
    store.close()

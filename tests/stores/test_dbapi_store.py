"""DBAPIStore keeps the contract on PostgreSQL, whatever the driver and its settings."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import PostgresServer, check_package, postgres  # noqa: F401
from store_calls import ALICE, entry, hold, limit
from store_contract import StoreContract
from waiting import wait_until

from costtrace.exceptions import BudgetStoreError
from costtrace.stores import DBAPIStore
from costtrace.stores.base import ALWAYS, Balance, Store


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:  # noqa: F811
    """The server, with an empty ledger."""
    postgres.empty("costtrace")
    return postgres


class TestDBAPIStore(StoreContract):
    """All that every store must do."""

    @pytest.fixture
    def open_store(self, server: PostgresServer) -> Callable[[], Store]:
        """Return what opens a store."""
        return lambda: DBAPIStore(server.connect, timeout_s=30)


def does_its_work(store: Any) -> None:
    """Hold, refuse, settle, ask: a name with a NUL, a sum above 2**53, a float."""
    call = entry(2**60 + 7, user_id="a\0b\1c", duration_s=0.1, call_id="x%s?:y\0")
    assert store.reserve(hold(call, limit(2**60 + 7))) is None
    assert store.reserve(hold(entry(1), limit(2**60 + 7))) is not None
    store.settle(call, ALICE)
    assert list(store.entries()) == [call]
    assert store.sums().cost_usd == call.cost_usd
    assert store.balance("user:alice", ALWAYS) == Balance(2**60 + 7, 0, 15, 0, 1, 0)
    assert store.verify() == []
    store.close()


# -- drivers and their settings ------------------------------------------------------------------


@pytest.mark.parametrize("style", ["qmark", "numeric", "named", "format", "pyformat"])
def test_each_paramstyle_is_spoken(
    server: PostgresServer, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's module says how its parameters are written."""
    check_package("pg8000")
    import pg8000.dbapi

    monkeypatch.setattr(pg8000.dbapi, "paramstyle", style)
    does_its_work(
        DBAPIStore(
            lambda: pg8000.dbapi.connect(
                "costtrace", host="127.0.0.1", port=server.port, database="postgres"
            )
        )
    )


def test_paramstyle_can_be_said(server: PostgresServer) -> None:
    """A driver that does not say, or says something else, is told."""
    does_its_work(DBAPIStore(server.connect, paramstyle="format"))


class Plain:
    """A connection with no more than PEP 249 asks for, around a real one."""

    def __init__(self, connection: Any) -> None:
        self.cursor, self.commit = connection.cursor, connection.commit
        self.rollback, self.close = connection.rollback, connection.close


def serializable(server: PostgresServer) -> Any:
    import psycopg

    connection = psycopg.connect(server.dsn)
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    return connection


def committing(server: PostgresServer) -> Any:
    import psycopg

    return psycopg.connect(server.dsn, autocommit=True)


@pytest.mark.parametrize(
    "connect",
    [
        lambda server: Plain(server.connect()),
        lambda server: Plain(serializable(server)),
        serializable,
        committing,
    ],
    ids=["without autocommit", "without it, serializable", "serializable", "with autocommit"],
)
def test_connections_of_each_kind_do(
    server: PostgresServer, connect: Callable[[PostgresServer], Any]
) -> None:
    """With autocommit and without, at any isolation; nobody is left in a transaction."""
    store = DBAPIStore(lambda: connect(server), paramstyle="pyformat")
    call = entry(1)
    store.reserve(hold(call))
    store.release(call.call_id)
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert server.execute(open_ones) == [(0,)]
    does_its_work(store)


def test_serializable_connections_admit_exactly_what_fits(server: PostgresServer) -> None:
    """A transaction that began before it could lock would see old sums: 142 all the same."""
    stores = [
        DBAPIStore(lambda: Plain(serializable(server)), paramstyle="pyformat", timeout_s=30)
        for _ in range(4)
    ]
    admitted: list[int] = []

    def race(store: DBAPIStore) -> None:
        for _ in range(60):
            call = entry(7)
            if store.reserve(hold(call, limit(1000))) is None:
                admitted.append(1)
                store.settle(call, ALICE)

    threads = [threading.Thread(target=race, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 142
    assert stores[0].verify() == []
    for store in stores:
        store.close()


# -- wrong objects -------------------------------------------------------------------------------


def closed(server: PostgresServer) -> Any:
    connection = server.connect()
    connection.close()
    return connection


def test_wrong_objects_are_refused_at_once(server: PostgresServer) -> None:
    """Each says what was expected instead."""
    import psycopg

    one = server.connect()
    with pytest.raises(TypeError, match="connect must be a function that returns a new, open PEP"):
        DBAPIStore(one)
    with pytest.raises(BudgetStoreError, match="the same connection again"):
        DBAPIStore(lambda: one)
    with pytest.raises(TypeError, match="has no cursor"):
        DBAPIStore(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="asynchronous"):
        DBAPIStore(lambda: psycopg.AsyncConnection.connect(server.dsn))
    with pytest.raises(BudgetStoreError, match=r"cannot be used.*closed"):
        DBAPIStore(lambda: closed(server))
    with pytest.raises(ValueError, match=r"PostgreSQL only, but the sqlite3\.Connection"):
        DBAPIStore(lambda: sqlite3.connect(":memory:", check_same_thread=False))
    with pytest.raises(ValueError, match="paramstyle must be one of"):
        DBAPIStore(server.connect, paramstyle="dollar")
    with pytest.raises(ValueError, match="schema must be a name"):
        DBAPIStore(server.connect, schema='x"; DROP TABLE entry')
    with pytest.raises(ValueError, match="timeout_s"):
        DBAPIStore(server.connect, timeout_s=0)


def test_server_that_is_not_there_is_said(server: PostgresServer) -> None:
    """What the driver says is passed on."""
    import psycopg

    with pytest.raises(BudgetStoreError, match="connect failed"):
        DBAPIStore(lambda: psycopg.connect("host=127.0.0.1 port=1"))


# -- schemas -------------------------------------------------------------------------------------


@pytest.fixture
def other_schema(server: PostgresServer) -> Iterator[str]:
    """A schema that is not there yet."""
    server.drop("other")
    yield "other"
    server.drop("other")


def test_schema_of_a_newer_version_is_refused(server: PostgresServer, other_schema: str) -> None:
    """It is not touched, and the error says what to install."""
    DBAPIStore(server.connect, schema=other_schema).close()
    server.execute("UPDATE other.meta SET value = '99' WHERE name = 'schema_version'")

    with pytest.raises(BudgetStoreError, match=r"newer costtrace \(schema 99"):
        DBAPIStore(server.connect, schema=other_schema)


def test_schema_of_something_else_is_refused(server: PostgresServer, other_schema: str) -> None:
    """Tables of another program are not mixed with ours."""
    server.execute("CREATE SCHEMA other", "CREATE TABLE other.entry (id integer)")

    with pytest.raises(BudgetStoreError, match="has tables of something else"):
        DBAPIStore(server.connect, schema=other_schema)
    server.execute("CREATE TABLE other.meta (name text, value text)")
    with pytest.raises(BudgetStoreError, match="has tables of something else"):
        DBAPIStore(server.connect, schema=other_schema)


def test_ledgers_in_two_schemas_do_not_meet(server: PostgresServer, other_schema: str) -> None:
    """The same call id in both is two calls."""
    stores = [DBAPIStore(server.connect), DBAPIStore(server.connect, schema=other_schema)]
    call = entry(5)
    for store in stores:
        store.settle(call, ALICE)
    stores[0].settle(entry(1), ALICE)

    assert [store.sums().calls for store in stores] == [2, 1]
    for store in stores:
        store.close()


def test_tables_are_readable_by_people(server: PostgresServer) -> None:
    """Views show dollars and dates."""
    store = DBAPIStore(server.connect)
    store.settle(entry(5 * 10**11), ALICE)
    store.reserve(hold(entry(10**12)))

    (cost,) = server.execute("SELECT user_id, cost_usd, at::date::text FROM costtrace.costs")
    assert (cost[0], float(cost[1]), cost[2]) == ("alice", 0.5, "2026-11-22")
    (held,) = server.execute("SELECT reserved_usd FROM costtrace.holds")
    assert float(held[0]) == 1.0
    owners = server.execute("SELECT owner, spent_usd FROM costtrace.spent_by_owner ORDER BY 1")
    assert [(name, float(usd)) for name, usd in owners] == [("ledger", 0.5), ("user:alice", 0.5)]
    store.close()


# -- faults --------------------------------------------------------------------------------------


def test_terminated_connection_is_replaced(server: PostgresServer) -> None:
    """An administrator ends the session: the next step does not notice."""
    store = DBAPIStore(server.connect)
    call = entry(5)
    store.reserve(hold(call))
    server.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )

    store.settle(call, ALICE)
    assert store.balance("ledger", ALWAYS) == Balance(5, 0, 15, 0, 1, 0)
    store.close()


def test_locked_table_is_an_error_in_time(server: PostgresServer) -> None:
    """A step that waits for somebody's lock is undone by the deadline."""
    store, call = DBAPIStore(server.connect, timeout_s=0.3), entry(5)
    with server.connect() as other:
        other.execute("LOCK TABLE costtrace.hold")
        before = time.monotonic()
        with pytest.raises(BudgetStoreError):
            store.reserve(hold(call))
        assert time.monotonic() - before < 5

    deadline = time.monotonic() + 30
    while True:
        try:
            assert store.balance("ledger", ALWAYS) == Balance()
            break
        except BudgetStoreError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert store.release(call.call_id) is False
    store.close()


def test_read_only_server_refuses(server: PostgresServer) -> None:
    """A standby answers questions, and holds nothing."""
    import psycopg

    DBAPIStore(server.connect).close()
    standby = DBAPIStore(
        lambda: psycopg.connect(server.dsn, options="-c default_transaction_read_only=on")
    )

    with pytest.raises(BudgetStoreError, match="read-only"):
        standby.reserve(hold(entry(1)))
    assert standby.sums().calls == 0
    standby.close()


def test_step_is_undone_when_it_ends_too_late(server: PostgresServer) -> None:
    """The deadline travels with the step: the server's clock decides, and says so."""
    store = DBAPIStore(server.connect)
    call = entry(5)
    with server.connect() as other:
        other.execute("SET search_path TO costtrace")
        (answer,) = other.execute("SELECT reserve('{\"not_after_us\": 1}')").fetchone()
    assert answer.startswith('["late"')
    assert store.release(call.call_id) is False
    store.close()


def test_step_that_waited_beyond_its_time_is_undone(server: PostgresServer) -> None:
    """It began in time, and somebody kept it waiting: the clock goes on within a transaction."""
    import psycopg

    from costtrace.stores.dbapi_link import number_of, schema_lock
    from costtrace.stores.postgres_functions import CALL_LOCK

    store, call = DBAPIStore(server.connect), entry(5)
    store.reserve(hold(call))
    lock = number_of(call.call_id)
    payload = {"call_id": call.call_id, "call_lock": lock, "schema_lock": schema_lock("costtrace")}
    errors: list[Exception] = []

    def release(not_after_us: int) -> None:
        with server.connect() as late:
            late.execute("SET search_path TO costtrace")
            try:
                text = json.dumps({**payload, "not_after_us": not_after_us})
                late.execute("SELECT release(%s)", (text,))
            except psycopg.Error as error:
                errors.append(error)

    for seconds in (0.3, 1, 3, 9):  # on a busy machine it might not even have begun in time
        with server.connect() as other:
            other.execute("SELECT pg_advisory_xact_lock(%s, %s)", (CALL_LOCK, lock))
            not_after_us = time.time_ns() // 1000 + int(seconds * 1e6)
            thread = threading.Thread(target=release, args=(not_after_us,))
            thread.start()
            thread.join(seconds + 0.2)
        thread.join()
        if errors:
            break

    assert [error.sqlstate for error in errors] == ["CT002"]  # type: ignore[attr-defined]
    assert store.release(call.call_id) is True
    store.close()


def test_store_that_nobody_closed_ends_its_connections(server: PostgresServer) -> None:
    """A store that is let go of leaves no session behind."""
    import psycopg

    store = DBAPIStore(lambda: psycopg.connect(server.dsn, application_name="let go of"))
    store.settle(entry(1), ALICE)
    assert store.sums().calls == 1
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'let go of'"
    assert server.execute(ours) != [(0,)]
    del store

    wait_until(lambda: server.execute(ours) == [(0,)])

"""PostgreSQL that ends sessions, undoes steps or may not be written: one hold, and few tries."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from server_workers import crew
from servers import PostgresServer, check_package, check_postgres, wait_until
from store_calls import ALICE, entry, hold, limit

from costtrace.exceptions import BudgetStoreError
from costtrace.stores import DBAPIStore
from costtrace.stores.base import ALWAYS, Balance

MOST_TRIES = 8
OURS = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
OPEN = f"SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND {OURS}"
WAITING = f"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {OURS}"
END_ALL = f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE {OURS}"
LOCK_BALANCE = """
    SELECT owner_id FROM costtrace.balance
    WHERE owner_id = (SELECT {which}(id) FROM costtrace.owner) FOR UPDATE"""


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A server whose settings these tests may change, and which they may end."""
    check_postgres()
    server = PostgresServer("fsync=off")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(own: PostgresServer) -> Iterator[PostgresServer]:
    """The server with no ledger; whatever happens, no session stays in a transaction."""
    own.drop("costtrace")
    yield own
    wait_until(lambda: own.execute(OPEN) == [])


@pytest.fixture
def store(server: PostgresServer) -> Iterator[DBAPIStore]:
    """An empty ledger, with running balances for both owners; all of it agrees in the end."""
    store = DBAPIStore(server.connect, timeout_s=10)
    call = entry(1)
    store.reserve(hold(call, *limits()))
    store.release(call.call_id)
    yield store
    assert store.verify() == []
    store.close()


def limits(pico: int = 1000) -> tuple[Any, Any]:
    return limit(pico), limit(pico, owner="ledger")


def in_thread(step: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Begin a step; what it answers or raises is in the list when the thread has ended."""
    said: list[object] = []

    def work() -> None:
        try:
            said.append(step())
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, said


# -- sessions that end ---------------------------------------------------------------------------


def test_sessions_that_are_ended_all_the_time(server: PostgresServer, store: DBAPIStore) -> None:
    """An administrator ends every session again and again: each call is there once."""
    stop = threading.Event()
    failed: list[str] = []
    settled: list[str] = []
    ended = 0

    def work() -> None:
        while not stop.is_set():
            call = entry(1)
            try:
                if store.reserve(hold(call, *limits(10**6))) is None:
                    store.settle(call, ALICE)
                    settled.append(call.call_id)
            except BudgetStoreError:
                failed.append(call.call_id)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    try:
        while (ended < 30 or len(settled) < 30) and time.monotonic() < deadline:
            time.sleep(random.uniform(0, 0.02))
            ended += len(server.execute(END_ALL))
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert ended >= 30
    entered = [call.call_id for call in store.entries()]
    assert set(settled) <= set(entered) <= {*settled, *failed}
    assert len(entered) == len(set(entered)) > 20
    balance = store.balance("user:alice", ALWAYS)
    assert balance.spent_calls == len(entered)
    unsettled = [call_id for call_id in failed if call_id not in entered]
    assert sum(store.release(call_id) for call_id in unsettled) == balance.reserved_calls
    assert store.balance("ledger", ALWAYS).reserved_pico == 0


def cut(connection: Any, server: PostgresServer) -> None:
    """Break the line, from our side."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def cut_pg8000(connection: Any, server: PostgresServer) -> None:
    connection._usock.shutdown(socket.SHUT_RDWR)


def end(connection: Any, server: PostgresServer) -> None:
    """Have the server end the session."""
    server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")


def end_soon(connection: Any, server: PostgresServer) -> None:
    """Have the server end the session when it has answered for the first time."""
    roll_back = connection.rollback

    def end_and_roll_back() -> None:
        roll_back()
        end(connection, server)

    connection.rollback = end_and_roll_back


def by_pg8000(server: PostgresServer) -> Any:
    check_package("pg8000")
    import pg8000.dbapi

    return pg8000.dbapi.connect(
        "costtrace", host="127.0.0.1", port=server.port, database="postgres"
    )


@pytest.mark.parametrize(
    ("connect", "breaks"),
    [
        (PostgresServer.connect, end),
        (PostgresServer.connect, end_soon),
        (PostgresServer.connect, cut),
        (by_pg8000, cut_pg8000),
    ],
    ids=["ended", "ended while it is set up", "cut", "cut, by another driver"],
)
def test_connection_that_ends_before_it_is_used(
    server: PostgresServer, connect: Callable[..., Any], breaks: Callable[..., None]
) -> None:
    """It is an outage, and no wrong object: what is to be settled is settled when it is over."""
    is_broken = threading.Event()

    def connect_and_break() -> Any:
        connection = connect(server)
        if is_broken.is_set():
            breaks(connection, server)
        return connection

    store, call = DBAPIStore(connect_and_break, timeout_s=10), entry(7)
    store.reserve(hold(call, *limits()))
    is_broken.set()
    server.execute(END_ALL)
    with pytest.raises(BudgetStoreError):
        store.settle(call, ALICE)
    with pytest.raises(BudgetStoreError):
        store.sums()
    is_broken.clear()

    store.settle(call, ALICE)
    assert store.balance("ledger", ALWAYS) == Balance(7, 0, 15, 0, 1, 0)
    assert store.verify() == []
    store.close()


def test_server_that_is_restarted_in_mid_traffic(server: PostgresServer) -> None:
    """Shut down in order and started again while three processes write: each call is there once."""
    DBAPIStore(server.connect).close()
    workers = crew.started("persist", 3, "postgres", server.dsn, 100)
    for _ in range(2):
        time.sleep(0.1)
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGINT)  # sessions are ended, and told so
        server.process.wait(30)
        server.start()
    said = [call_id for worker in workers for call_id in worker.finish()]

    store = DBAPIStore(server.connect, timeout_s=10)
    assert sorted(call.call_id for call in store.entries()) == sorted(said)
    assert store.balance("user:alice", ALWAYS) == Balance(300, 0, 4500, 0, 300, 0)
    assert store.verify() == []
    store.close()


# -- steps that are undone -----------------------------------------------------------------------


@pytest.mark.parametrize("step", ["reserve", "settle", "release"])
def test_deadlock_with_somebody_else_is_tried_again(
    server: PostgresServer, store: DBAPIStore, step: str
) -> None:
    """Another program locks our rows the other way round, and wins: the step is done once."""
    call = entry(7)
    steps: dict[str, Callable[[], object]] = {
        "reserve": lambda: store.reserve(hold(call, *limits())),
        "settle": lambda: store.settle(call, ALICE),
        "release": lambda: store.release(call.call_id),
    }
    if step != "reserve":
        steps["reserve"]()
    log = server.folder / "log"
    before = log.read_text().count("deadlock detected")
    with server.connect() as other:
        # The step is undone: it looks for a circle once, by when the other one must be waiting.
        other.execute("SET deadlock_timeout = '1min'")
        other.execute(LOCK_BALANCE.format(which="max"))
        thread, said = in_thread(steps[step])
        wait_until(lambda: len(server.execute(WAITING)) == 1)
        other.execute(LOCK_BALANCE.format(which="min"))
    thread.join()

    assert said == {"reserve": [None], "settle": [[]], "release": [True]}[step]
    assert log.read_text().count("deadlock detected") > before
    expected = {
        "reserve": Balance(0, 7, 0, 15, 0, 1),
        "settle": Balance(7, 0, 15, 0, 1, 0),
        "release": Balance(),
    }
    assert store.balance("user:alice", ALWAYS) == expected[step]
    assert store.balance("ledger", ALWAYS) == expected[step]


@contextmanager
def undone(server: PostgresServer, code: str, times: int) -> Iterator[Callable[[], int]]:
    """Have the server undo so many attempts to hold a call; what is given counts the attempts."""
    server.execute(
        "CREATE SEQUENCE public.attempts",
        f"""CREATE FUNCTION public.undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('public.attempts') <= {times} THEN
                RAISE EXCEPTION 'undone' USING ERRCODE = '{code}';
            END IF;
            RETURN NEW; END $$""",
        """CREATE TRIGGER undo BEFORE INSERT ON costtrace.hold
            FOR EACH ROW EXECUTE FUNCTION public.undo()""",
    )
    try:
        yield lambda: int(server.execute("SELECT last_value FROM public.attempts")[0][0])
    finally:
        server.execute(
            "DROP TRIGGER undo ON costtrace.hold",
            "DROP FUNCTION public.undo()",
            "DROP SEQUENCE public.attempts",
        )


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_step_that_is_undone_is_tried_a_few_times(
    server: PostgresServer, store: DBAPIStore, code: str
) -> None:
    """Deadlocks and conflicts of serializable transactions: until it is done, but not for ever."""
    with undone(server, code, 4) as attempts:
        assert store.reserve(hold(entry(7), *limits())) is None
        assert attempts() == 5
    with undone(server, code, 10**6) as attempts:
        before = time.monotonic()
        with pytest.raises(BudgetStoreError, match="undone"):
            store.reserve(hold(entry(7), *limits()))
        assert attempts() <= MOST_TRIES
        assert time.monotonic() - before < 9
        assert server.execute(OPEN) == []
    assert store.balance("ledger", ALWAYS) == Balance(0, 7, 0, 15, 0, 1)


# -- settings of the server ----------------------------------------------------------------------


@contextmanager
def setting(server: PostgresServer, name: str, value: str) -> Iterator[None]:
    """A default of the database's, for connections to come."""
    server.execute(f"ALTER DATABASE postgres SET {name} = '{value}'")
    try:
        yield
    finally:
        server.execute(
            "SET default_transaction_read_only = off", f"ALTER DATABASE postgres RESET {name}"
        )


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
def test_stricter_default_isolation_admits_exactly_what_fits(
    server: PostgresServer, isolation: str
) -> None:
    """Six processes try 40 times each to take 7 of 1000: 142 times it fits, and none gives up."""
    with setting(server, "default_transaction_isolation", isolation):
        DBAPIStore(server.connect).close()
        said = crew.run_all("race", 6, "postgres", server.dsn, 2, 40)
        admitted = [
            sum(int(line.split()[1]) for line in lines) for lines in zip(*said, strict=True)
        ]
        assert admitted == [142, 142]
        store = DBAPIStore(server.connect, timeout_s=10)
        for number in range(2):
            assert store.balance(f"user:race-{number}", ALWAYS).spent_pico == 994
        assert store.verify() == []
        store.close()


def test_server_that_may_only_be_read_for_a_while(
    server: PostgresServer, store: DBAPIStore
) -> None:
    """As a standby after a failover: holds nothing, answers questions, goes on when promoted."""
    call, other = entry(7), entry(5)
    store.reserve(hold(other, *limits()))
    with setting(server, "default_transaction_read_only", "on"):
        server.execute(END_ALL)
        for step in (
            lambda: store.reserve(hold(call, *limits())),
            lambda: store.settle(other, ALICE),
            lambda: store.release(other.call_id),
        ):
            with pytest.raises(BudgetStoreError, match="read-only"):
                step()
        assert store.balance("ledger", ALWAYS) == Balance(0, 5, 0, 15, 0, 1)
        assert server.execute(OPEN) == []
    server.execute(END_ALL)

    assert store.reserve(hold(call, *limits())) is None
    assert store.balance("ledger", ALWAYS) == Balance(0, 12, 0, 30, 0, 2)
    store.settle(other, ALICE)
    assert store.balance("ledger", ALWAYS) == Balance(5, 7, 15, 15, 1, 1)

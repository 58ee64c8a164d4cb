"""Servers that stop answering, end, start again: nothing counts twice, nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest
from server_workers import crew, opened
from servers import (
    PostgresServer,
    RedisServer,
    Server,
    check_postgres,
    check_redis,
    started_postgres,
    started_redis,
    wait_until,
)
from slow_line import SlowLine
from store_calls import ALICE, entry, hold, limit

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.base import ALWAYS, Balance

T = TypeVar("T")
TIMEOUT_S = 0.4
SLACK_S = 3.0  # for a machine that is busy with other things


@pytest.fixture(params=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each server in turn, empty."""
    found: Server
    if request.param == "postgres":
        check_postgres()
        found = started_postgres()
        started_postgres().empty("costtrace")
    else:
        check_redis()
        found = started_redis()
        with started_redis().client() as client:
            client.flushall()
    yield found
    found.resume()


def address(server: Server) -> tuple[str, str]:
    if isinstance(server, PostgresServer):
        return "postgres", server.dsn
    return "redis", str(server.port)


@contextmanager
def store_at(server: Server, timeout_s: float = TIMEOUT_S) -> Iterator[Any]:
    """A store that gives up soon; whatever happened, all of it agrees in the end."""
    store = opened(*address(server), timeout_s)
    try:
        yield store
    finally:
        store.close()
    store = opened(*address(server), 30)
    assert store.verify() == []
    store.close()


def failing(step: Callable[[], object]) -> float:
    """Return how long a step took to fail."""
    before = time.monotonic()
    with pytest.raises(BudgetStoreError):
        step()
    return time.monotonic() - before


def sooner_or_later(step: Callable[[], T]) -> T:
    """Do a step again until it is done in time; return its answer."""
    said: list[T] = []

    def is_done() -> bool:
        with suppress(BudgetStoreError):
            said.append(step())
        return bool(said)

    wait_until(is_done)
    return said[0]


def balance(store: Any, owner: str = "user:alice") -> Balance:
    return sooner_or_later(lambda: store.balance(owner, ALWAYS))


def answers(store: Any) -> bool:
    with suppress(BudgetStoreError):
        store.balance("ledger", ALWAYS)
        return True
    return False


def test_hung_server_is_an_error_in_time_and_nothing_stays_held(server: Server) -> None:
    """A reservation that was reported as failed is never held, whenever the server reads it."""
    call = entry(100)
    with store_at(server) as store:
        before = hold(entry(1, call_id="before"))
        sooner_or_later(lambda: store.reserve(before))
        with server.paused():
            took = failing(lambda: store.reserve(hold(call, limit(1000))))
            assert TIMEOUT_S <= took < TIMEOUT_S + SLACK_S
            assert sorted(failing(lambda: store.release("x")) for _ in range(100))[50] < 0.05

        assert balance(store).reserved_pico == 1
        assert sooner_or_later(lambda: store.release(call.call_id)) is False
        assert sooner_or_later(lambda: store.reserve(hold(call, limit(1000)))) is None
        assert balance(store).reserved_pico == 101


def test_answers_that_come_too_late_leave_no_hold(server: Server) -> None:
    """Stopped at any moment: what was reported as held is held once, all else is not."""
    with store_at(server) as store:
        held: list[str] = []
        failed: list[str] = []
        stop = threading.Event()

        def reserve(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                call = entry(1, call_id=f"{name}-{number}")
                try:
                    store.reserve(hold(call, limit(10**9)))
                    held.append(call.call_id)
                except BudgetStoreError:
                    failed.append(call.call_id)
                    time.sleep(0.01)

        threads = [threading.Thread(target=reserve, args=(f"t{n}",)) for n in range(3)]
        try:
            for thread in threads:
                thread.start()
            for _ in range(4):
                time.sleep(random.uniform(0.05, 0.15))
                with server.paused():
                    time.sleep(TIMEOUT_S + 0.1)
                wait_until(lambda: answers(store))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wait_until(lambda: answers(store))

        assert failed
        asked = opened(*address(server), 30)
        assert asked.balance("ledger", ALWAYS).reserved_pico == len(held)
        assert not any(asked.release(call_id) for call_id in failed)
        assert all(asked.release(call_id) for call_id in held)
        assert asked.balance("ledger", ALWAYS) == Balance()
        asked.close()


@pytest.fixture
def line(server: Server) -> Iterator[SlowLine]:
    """A line to the server that can be made slow."""
    line = SlowLine(server.port)
    yield line
    line.close()


def through(line: SlowLine, server: Server) -> Any:
    """A store at the other end of the line, which has been used."""
    kind, where = address(server)
    store = opened(kind, where.replace(str(server.port), str(line.port)), TIMEOUT_S)
    first = hold(entry(1))
    sooner_or_later(lambda: store.reserve(first))
    return store


def unanswered(store: Any, line: SlowLine, other: Any) -> Any:
    """Return a call whose hold the server made in time, but whose caller was told that it failed.

    Where the machine made the question late, so that it was refused, that is tried again.
    """
    for _ in range(10):
        call = entry(100)
        line.answers.clear()
        failing(lambda: store.reserve(hold(call)))  # noqa: B023
        with suppress(AssertionError):
            wait_until(lambda: other.balance("ledger", ALWAYS).reserved_pico == 101, 3)
            return call
        line.pass_on()
        wait_until(lambda: answers(store))
    raise AssertionError("no question was in time")


def test_hold_whose_answer_was_lost_is_given_back(server: Server, line: SlowLine) -> None:
    """The server made the hold in time, but its caller was told that it failed."""
    with store_at(server, 30) as other:
        store = through(line, server)
        call = unanswered(store, line, other)

        line.pass_on()

        wait_until(lambda: bool(other.balance("ledger", ALWAYS).reserved_pico == 1))
        assert other.release(call.call_id) is False
        store.close()


def test_giving_back_leaves_a_later_attempt_alone(server: Server, line: SlowLine) -> None:
    """Somebody has reserved the same call meanwhile, and was told that it is held: it stays."""
    with store_at(server, 30) as other:
        store = through(line, server)
        call = unanswered(store, line, other)
        assert other.reserve(hold(call)) is None

        line.pass_on()

        wait_until(lambda: answers(store))
        time.sleep(0.05)
        assert other.balance("ledger", ALWAYS).reserved_pico == 101
        store.close()


def test_question_that_comes_too_late_is_refused(server: Server, line: SlowLine) -> None:
    """The server reads a step long after its caller gave up, and does not do it."""
    with store_at(server, 30) as other:
        store, call = through(line, server), entry(100)
        line.keep_questions()
        failing(lambda: store.reserve(hold(call)))
        wait_until(lambda: answers(store))

        line.pass_on()

        for _ in range(20):
            assert other.balance("ledger", ALWAYS).reserved_pico == 1
            time.sleep(0.01)
        store.close()


def test_call_that_failed_may_be_tried_again_at_once(server: Server) -> None:
    """Undoing the first attempt does not undo the second one of the same call."""
    call = entry(100)
    with store_at(server) as store:
        with server.paused():
            failing(lambda: store.reserve(hold(call)))
        other = opened(*address(server), 30)
        assert other.reserve(hold(call)) is None
        other.close()

        assert balance(store, "ledger").reserved_pico == 100


def test_settlement_that_failed_is_done_once(server: Server) -> None:
    """The same settlement again, after a time-out, counts once."""
    call = entry(100)
    with store_at(server) as store:
        sooner_or_later(lambda: store.reserve(hold(call)))
        with server.paused():
            failing(lambda: store.settle(call, ALICE))

        assert sooner_or_later(lambda: store.settle(call, ALICE)) == []
        assert balance(store) == Balance(100, 0, 15, 0, 1, 0)
        assert len(sooner_or_later(lambda: list(store.entries()))) == 1


@pytest.fixture(params=["postgres", "redis"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own, which it may kill; it keeps what it acknowledged."""
    own: PostgresServer | RedisServer
    if request.param == "postgres":
        check_postgres()
        own = PostgresServer("fsync=off")
    else:
        check_redis()
        own = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        own.start()
        yield own
    finally:
        own.remove()


def test_server_killed_in_mid_traffic(own_server: Any) -> None:
    """Killed and started again while four processes write: every call is there once."""
    opened(*address(own_server)).close()
    workers = crew.started("persist", 4, *address(own_server), 150)
    for _ in range(2):
        time.sleep(0.15)
        own_server.kill()
        time.sleep(0.1)
        own_server.start()
    said = [call_id for worker in workers for call_id in worker.finish()]

    with store_at(own_server, 5) as store:
        entered = sorted(call.call_id for call in store.entries())
        assert entered == sorted(said)
        assert len(said) == 600
        assert store.balance("user:alice", ALWAYS) == Balance(600, 0, 9000, 0, 600, 0)


def test_server_that_is_down_is_an_error_at_once(own_server: Any) -> None:
    """Refused connections take no time; when the server is back, so is the store."""
    with store_at(own_server, TIMEOUT_S) as store:
        call = entry(5)
        sooner_or_later(lambda: store.settle(call, ALICE))
        own_server.kill()

        assert failing(lambda: store.reserve(hold(entry(1)))) < TIMEOUT_S + SLACK_S

        own_server.start()
        assert balance(store, "ledger").spent_pico == 5


def test_many_threads_share_a_store(server: Server) -> None:
    """Eight threads on one object: the sums are exact, and nobody waits beyond the deadline."""
    with store_at(server, 10) as store:
        refused = []

        def work() -> None:
            for _ in range(25):
                call = entry(7)
                if store.reserve(hold(call, limit(1000))) is None:
                    store.settle(call, ALICE)
                else:
                    refused.append(call)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(refused) == 200 - 142
        assert store.balance("user:alice", ALWAYS) == Balance(994, 0, 2130, 0, 142, 0)


def test_closed_store_says_so(server: Server) -> None:
    """Nothing is done after `close`."""
    store = opened(*address(server))
    store.close()

    with pytest.raises(BudgetStoreError, match="closed"):
        store.reserve(hold(entry(1)))

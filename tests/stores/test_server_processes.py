"""Many processes on one server: no limit passed, nothing lost, nobody waiting in a circle."""

from __future__ import annotations

import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from server_workers import OWNERS, Worker, opened, run_all, started
from servers import check_postgres, check_redis, started_postgres, started_redis
from store_calls import Clock

from costtrace.stores.base import ALWAYS, Balance

KILLS = int(os.environ.get("COSTTRACE_TEST_KILLS", "10"))
ROUNDS = 5


@dataclass
class Home:
    """A server with an empty ledger."""

    kind: str
    address: str

    def store(self, timeout_s: float = 30) -> Any:
        return opened(self.kind, self.address, timeout_s)

    def checked(self) -> Any:
        """The store afterwards; all of it agrees."""
        store = self.store()
        assert store.verify() == []
        return store


@pytest.fixture(params=["postgres", "redis"])
def home(request: pytest.FixtureRequest) -> Home:
    """Each server in turn."""
    if request.param == "postgres":
        check_postgres()
        started_postgres().empty("costtrace")
        made = Home("postgres", started_postgres().dsn)
    else:
        check_redis()
        with started_redis().client() as client:
            client.flushall()
        made = Home("redis", str(started_redis().port))
    made.store().close()
    return made


def admitted_by_round(said: list[list[str]]) -> list[int]:
    admitted: Counter[int] = Counter()
    for lines in said:
        for line in lines:
            number, count = map(int, line.split())
            admitted[number] += count
    return [admitted[number] for number in range(ROUNDS)]


def test_race_admits_exactly_what_fits(home: Home) -> None:
    """Eight processes try 60 times each to take 7 of 1000: 142 times it fits, in each round."""
    said = run_all("race", 8, home.kind, home.address, ROUNDS, 60)

    assert admitted_by_round(said) == [142] * ROUNDS
    store = home.checked()
    for number in range(ROUNDS):
        assert store.balance(f"user:race-{number}", ALWAYS) == Balance(994, 0, 2130, 0, 142, 0)
    store.close()


def test_race_can_be_seen(home: Home) -> None:
    """The same without a reservation spends too much: the race above is one."""
    said = run_all("naive_race", 8, home.kind, home.address, ROUNDS, 60)

    assert sum(admitted_by_round(said)) > 142 * ROUNDS


def test_nested_budgets_never_wait_in_a_circle(home: Home) -> None:
    """Random sets of owners, limits and watches in eight processes: no deadlock, exact sums."""
    if home.kind == "postgres":
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"
        before = started_postgres().execute(deadlocks)

    said = [
        line.split()
        for lines in run_all("nested", 8, home.kind, home.address, 80)
        for line in lines
    ]

    spent: defaultdict[str, int] = defaultdict(int)
    calls = []
    for word, *rest in said:
        if word == "settled":
            calls.append(rest[0])
            for owner in set(OWNERS) & set(rest[2:]):
                spent[owner] += int(rest[1])
    refused = sum(line == ["refused"] for line in said)
    assert 0.05 < refused / (8 * 80) < 0.7
    assert sorted(line[1] for line in said if line[0] == "crossed") == [f"{o}|50" for o in OWNERS]
    store = home.checked()
    assert sorted(call.call_id for call in store.entries()) == sorted(calls)
    for owner in OWNERS:
        balance = store.balance(owner, ALWAYS)
        assert (balance.spent_pico, balance.reserved_pico) == (spent[owner], 0)
    store.close()
    if home.kind == "postgres":
        assert started_postgres().execute(deadlocks) == before


def test_killed_writers_lose_nothing(home: Home) -> None:
    """What was acknowledged before kill -9 is there, once, and what was held lapses."""
    settled: set[str] = set()
    held: set[str] = set()
    for _ in range(KILLS // 2 or 1):
        workers = started("write", 2, home.kind, home.address)
        time.sleep(random.uniform(0.05, 0.2))
        for line in (line for worker in workers for line in worker.kill()):
            state, call_id = line.split(" ")
            (settled if state == "settled" else held).add(call_id)

    store, clock = home.checked(), Clock()
    entered = [call.call_id for call in store.entries()]
    assert len(entered) == len(set(entered))
    assert settled <= set(entered)
    clock.now_us = time.time_ns() // 1000 + 61_000_000
    store.use_clock(clock)
    store.lapse()
    assert store.balance("user:alice", ALWAYS).reserved_pico == 0
    assert held <= {call.call_id for call in store.entries()}
    assert store.balance("user:alice", ALWAYS).spent_pico == store.sums().entries
    assert store.verify() == []
    store.close()


def test_forked_children_have_connections_of_their_own(home: Home) -> None:
    """Forks in the middle of a step: nobody hangs, nothing is lost or counted twice."""
    (lines,) = run_all("fork", 1, home.kind, home.address, 6, 10)

    assert lines == ["0 0 0 0 0 0"]
    store = home.checked()
    calls = [call.call_id for call in store.entries()]
    assert sum("-child-" in call_id for call_id in calls) == 60
    assert sum("-parent-" in call_id for call_id in calls) == 10
    assert len(calls) == len(set(calls)) == store.balance("user:alice", ALWAYS).spent_pico
    assert store.balance("user:alice", ALWAYS).reserved_pico == 0
    store.close()


def test_store_opened_by_many_at_once_is_made_once(home: Home) -> None:
    """Eight processes find nothing there and each of them makes the ledger: it becomes one."""
    if home.kind == "postgres":
        started_postgres().drop("costtrace")
    else:
        with started_redis().client() as client:
            client.flushall()
    workers = [Worker("race", home.kind, home.address, 1, 5) for _ in range(8)]
    for worker in workers:
        worker.wait()
    for worker in workers:
        worker.go()
    for worker in workers:
        worker.finish()

    store = home.checked()
    assert store.sums().calls == 40
    store.close()

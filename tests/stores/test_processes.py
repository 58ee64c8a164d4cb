"""Many processes on one ledger: no limit passed, nothing lost, nobody waiting in a circle."""

from __future__ import annotations

import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homes import wait_for_the_dead
from server_workers import OWNERS, crew, opened
from servers import check_postgres, check_redis, started_postgres, started_redis
from store_calls import ALICE, NOON, Clock, entry

from costtrace.stores.base import ALWAYS, Balance

pytestmark = pytest.mark.slow

HOMES = ("normal", "postgres", "redis")
KILLS = int(os.environ.get("COSTTRACE_TEST_KILLS", "10"))
ROUNDS = 5


@dataclass
class Home:
    """A server or a file with an empty ledger."""

    kind: str
    address: str

    def store(self, timeout_s: float = 30) -> Any:
        return opened(self.kind, self.address, timeout_s)

    def checked(self) -> Any:
        """The store afterwards; all of it agrees."""
        store = self.store()
        assert store.verify() == []
        return store


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Each home in turn."""
    if request.param in ("full", "normal"):
        made = Home(request.param, str(tmp_path / "ledger.db"))
    elif request.param == "postgres":
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
    said = crew.run_all("race", 8, home.kind, home.address, ROUNDS, 60)

    assert admitted_by_round(said) == [142] * ROUNDS
    store = home.checked()
    for number in range(ROUNDS):
        assert store.balance(f"user:race-{number}", ALWAYS) == Balance(994, 0, 2130, 0, 142, 0)
    store.close()


def test_race_can_be_seen(home: Home) -> None:
    """The same without a reservation spends too much: the race above is one."""
    said = crew.run_all("naive_race", 8, home.kind, home.address, ROUNDS, 60)

    assert sum(admitted_by_round(said)) > 142 * ROUNDS


def test_nested_budgets_never_wait_in_a_circle(home: Home) -> None:
    """Random sets of owners, limits and watches in eight processes: no deadlock, exact sums."""
    if home.kind == "postgres":
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"
        before = started_postgres().execute(deadlocks)

    said = [
        line.split()
        for lines in crew.run_all("nested", 8, home.kind, home.address, 80)
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


@pytest.mark.parametrize("home", ["full", *HOMES], indirect=True)
def test_killed_writers_lose_nothing(home: Home) -> None:
    """What was acknowledged before kill -9 is there, once, and what was held lapses."""
    settled: set[str] = set()
    held: set[str] = set()
    rounds = KILLS // 2 or 1
    for _ in range(rounds):
        workers = crew.started("write", 2, home.kind, home.address)
        time.sleep(random.uniform(0.05, 0.2))
        for line in (line for worker in workers for line in worker.kill()):
            state, call_id = line.split(" ")
            (settled if state == "settled" else held).add(call_id)
        home.checked().close()

    wait_for_the_dead(home.kind)
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
    print(f"{home.kind}: {2 * rounds} kills, {len(settled):,} settled and {len(held):,} held calls")
    store.close()


def test_forked_children_have_connections_of_their_own(home: Home) -> None:
    """Forks in the middle of a step: nobody hangs, nothing is lost or counted twice."""
    (lines,) = crew.run_all("fork", 1, home.kind, home.address, 6, 10)

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
    elif home.kind != "redis":
        for file in Path(home.address).parent.iterdir():
            file.unlink()
    else:
        with started_redis().client() as client:
            client.flushall()
    crew.run_all("race", 8, home.kind, home.address, 1, 5)

    store = home.checked()
    assert store.sums().calls == 40
    store.close()


def test_replays_from_many_processes_are_one_call(home: Home) -> None:
    """Each hold is asked for forty times and stands once; another one of its name is refused."""
    said = crew.run_all("replay", 4, home.kind, home.address, 20, 10)

    store = home.checked()
    assert said == [["refused 0"]] * 4
    assert store.balance("user:alice", ALWAYS) == Balance(0, 140, 0, 300, 0, 20)
    for _ in range(2):
        for number in range(20):
            store.settle(entry(7, call_id=f"call-{number}"), ALICE)
    assert store.balance("user:alice", ALWAYS) == Balance(140, 0, 300, 0, 20, 0)
    assert store.balance("user:bob", ALWAYS) == Balance()
    assert store.sums().calls == 20
    store.close()


def test_processes_let_old_entries_go_together(home: Home) -> None:
    """Each entry goes once, whoever takes it, while others are entered."""
    store = home.store()
    for number in range(400):
        at = NOON - timedelta(days=300, minutes=number)
        store.settle(entry(3, timestamp=at, call_id=f"old-{number}"), ALICE)
    before = int((NOON - timedelta(days=200)).timestamp())

    said = crew.run_all("prune_and_write", 4, home.kind, home.address, before, 12)

    assert sum(int(gone) for (gone,) in said) == 400
    assert store.sums().cost_usd == Decimal(400 * 3 + 48).scaleb(-12)
    assert store.balance("user:alice", ALWAYS).spent_pico == 400 * 3 + 48
    assert len(list(store.entries())) == 48
    store.close()
    home.checked().close()

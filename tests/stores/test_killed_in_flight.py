"""Processes killed between authorize and settle: what they left is charged, once, and no more."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from homes import wait_for_the_dead
from server_workers import IN_FLIGHT_LIMIT, crew, opened
from servers import check_postgres, check_redis, started_postgres, started_redis
from store_calls import Clock

from costtrace.stores.base import ALWAYS, Balance

KILLS = int(os.environ.get("COSTTRACE_TEST_KILLS", "50"))


@pytest.fixture(params=["normal", "postgres", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Each home in turn, empty: its kind and its address."""
    if request.param == "postgres":
        check_postgres()
        started_postgres().empty("costtrace")
        return "postgres", started_postgres().dsn
    if request.param == "redis":
        check_redis()
        with started_redis().client() as client:
            client.flushall()
        return "redis", str(started_redis().port)
    return "normal", str(tmp_path / "ledger.db")


class Samples:
    """Looks at the balances of all processes while they work."""

    def __init__(self, store: Any, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self.seen: list[Balance] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Look again and again."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.002):
                latest = sorted(self._folder.iterdir(), key=os.path.getmtime)[-3:]
                self.seen += [self._store.balance(f"user:{one.name}", ALWAYS) for one in latest]

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def said_in(folder: Path) -> dict[str, list[set[str]]]:
    """What each process had begun to hold, held, begun to settle, and settled."""
    said: dict[str, list[set[str]]] = {}
    for file in folder.iterdir():
        steps: defaultdict[str, set[str]] = defaultdict(set)
        for line in file.read_text().splitlines():
            word, call_id = line.split()
            steps[word].add(call_id)
        asked = steps["hold"] - steps["refused"]
        said[file.name] = [asked, steps["held"], steps["settle"], steps["settled"]]
    return said


def test_calls_in_flight_when_killed_are_charged_and_no_others(
    place: tuple[str, str], tmp_path: Path
) -> None:
    """Fifty kills -9 at random moments, each with two to eight calls between hold and settle.

    Nobody is ever past a limit. When the leases have run out nothing is reserved, the calls in
    flight are charged at their worst case, and no others; released, only what was settled is left.
    """
    folder, clock = tmp_path / "said", Clock()
    folder.mkdir()
    store = opened(*place)
    samples = Samples(store, folder)
    with samples.taken():
        crew.run_all("die_in_flight", 2, *place, folder, KILLS // 2)
    wait_for_the_dead(place[0])
    said = said_in(folder)
    assert len(said) == KILLS // 2 * 2
    assert {one.spent_pico + one.reserved_pico <= IN_FLIGHT_LIMIT for one in samples.seen} == {True}
    assert store.provisional() == []
    assert all(2 <= store.balance(f"user:{name}", ALWAYS).reserved_calls <= 8 for name in said)

    clock.now_us = time.time_ns() // 1000 + 61_000_000
    store.use_clock(clock)
    store.lapse()

    assumed = {call.call_id for call in store.provisional()}
    settled = {call.call_id for call in store.entries()} - assumed
    for name, (asked, held, settling, acknowledged) in said.items():
        mine, done = ({i for i in ids if i.startswith(f"{name}-")} for ids in (assumed, settled))
        assert held - settling <= mine <= asked - acknowledged  # between them: one step at most
        assert acknowledged <= done <= settling
        assert held <= mine | done
        balance = store.balance(f"user:{name}", ALWAYS)
        assert (balance.spent_pico, balance.reserved_pico) == (7 * len(mine) + 3 * len(done), 0)
        assert balance.spent_pico <= IN_FLIGHT_LIMIT
    assert store.verify() == []
    print(f"{place[0]}: {len(said)} kills, {len(assumed)} calls in flight, {len(settled)} settled")

    assert all(store.release(call_id) for call_id in assumed)
    assert store.balance("ledger", ALWAYS).spent_pico == 3 * len(settled)
    assert store.verify() == []
    store.close()

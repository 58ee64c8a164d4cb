"""A store that fails in mid-traffic: no call fails for it, and no entry is missing or twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from servers import (
    PostgresServer,
    RedisServer,
    Server,
    check_postgres,
    check_redis,
    wait_until,
)
from spool_workers import heard, opened, started, told

from costtrace import BudgetStoreError, CostLedger, budget
from costtrace.exceptions import StoreResetError
from costtrace.testing import LoopbackProvider

ASK = [{"role": "user", "content": "0123456789abcdef"}]
TIMEOUT_S = 0.3
SLACK_S = 3.0  # for a machine that is busy with other things
TRIES = 3  # of what takes longer when the machine is, and is in time when it is not


class File:
    """A ledger in a file that can be made to fail."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Somebody else writes and does not end."""
        other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()

    @contextmanager
    def down(self) -> Iterator[None]:
        """The file is not there."""
        aside = self.path.with_name("aside")
        self.path.rename(aside)
        try:
            yield
        finally:
            aside.rename(self.path)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Another file is in its place."""
        with self.down():
            self.path.write_bytes(self.path.with_name("aside").read_bytes())
            yield


class Served:
    """A ledger on a server of its own, which keeps what it acknowledged."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.kind = "postgres" if isinstance(server, PostgresServer) else "redis"
        self.address = server.dsn if isinstance(server, PostgresServer) else str(server.port)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Connections stay open and nobody answers."""
        with self.server.paused():
            yield

    @contextmanager
    def down(self) -> Iterator[None]:
        """Killed; started again afterwards."""
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """A full memory, or a server that may only be read."""
        self._refuse(True)
        try:
            yield
        finally:
            self._refuse(False)

    def _refuse(self, is_on: bool) -> None:
        if self.kind == "redis":
            with self.server.client() as client:
                client.config_set("maxmemory", int(is_on))
            return
        name, value = "default_transaction_read_only", "on" if is_on else "off"
        self.server.execute(f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
        # It has told the processes that exist by the time it makes another one that knows.
        wait_until(lambda: self.server.execute(f"SHOW {name}") == [(value,)])


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """Servers that these tests may kill, started when first needed."""
    found: dict[str, Server] = {}
    yield found
    for server in found.values():
        server.remove()


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, servers: dict[str, Any]) -> Any:
    """Each kind of home of a ledger, empty."""
    kind = request.param
    if kind == "sqlite":
        return File(tmp_path / "costs.db")
    if kind not in servers:
        if kind == "postgres":
            check_postgres()
            servers[kind] = PostgresServer("fsync=off")
        else:
            check_redis()
            servers[kind] = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        servers[kind].start()
    elif kind == "postgres":
        servers[kind].drop("costtrace")
    else:
        with servers[kind].client() as client:
            client.flushall()
    return Served(servers[kind])


@pytest.fixture
def ledger(place: Any) -> Iterator[CostLedger]:
    with CostLedger(store=opened(place.kind, place.address, TIMEOUT_S)) as ledger:
        yield ledger
        wait_until(lambda: writes_all(ledger))
    with patient(place) as ledger:
        assert ledger.verify() == []


def patient(place: Any) -> CostLedger:
    """Another ledger in the same place, to ask what is there: its store may take its time."""
    return CostLedger(store=opened(place.kind, place.address, 30))


def writes_all(ledger: CostLedger) -> bool:
    with suppress(BudgetStoreError):
        return ledger.flush()
    return False


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=20, **more)


class Traffic:
    """Threads that call the provider under budgets; what they got, and what they ran into."""

    def __init__(self, provider: LoopbackProvider, ledger: CostLedger, threads: int = 4) -> None:
        self.provider = provider
        self.ledger = ledger
        self.answers: list[str] = []
        self.errors: list[BaseException] = []
        self._stop, self._go = threading.Event(), threading.Event()
        self._go.set()
        self._threads = [
            threading.Thread(target=self._work, args=(f"user-{n}",)) for n in range(threads)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _work(self, user_id: str) -> None:
        client = self.provider.openai(max_retries=0)
        b = budget(user_id, 100, on_store_error="allow", ledger=self.ledger)
        while not self._stop.is_set():
            self._go.wait(60)
            try:
                with b:
                    self.answers.append(chat(client).id)
            except BaseException as error:
                self.errors.append(error)
            time.sleep(0.01)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """A stretch without new calls: nobody has to be faster than all threads together."""
        self._go.clear()
        try:
            yield
        finally:
            self._go.set()

    def run_on(self, calls: int = 12) -> None:
        """Wait until so many more calls were answered."""
        enough = len(self.answers) + calls
        wait_until(lambda: len(self.answers) >= enough or bool(self.errors))


def assert_complete(ledger: CostLedger, answers: list[str]) -> None:
    """Every call that was answered is entered, once, at its cost."""
    entries = list(ledger.entries)
    assert sorted(str(entry.response_id) for entry in entries) == sorted(answers)
    assert len({entry.call_id for entry in entries}) == len(answers) > 0
    assert ledger.total_cost == sum((entry.cost_usd or Decimal(0)) for entry in entries)
    assert {entry.grade for entry in entries} == {"reported"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hung", "down", "refusing"])
def test_no_call_fails_and_no_entry_is_missing(
    place: Any, fault: str, ledger: CostLedger, provider: LoopbackProvider
):
    """Twice away in mid-traffic under `allow`: users notice nothing, and nothing is twice."""
    with Traffic(provider, ledger) as traffic:
        for _ in range(2):
            traffic.run_on()
            with getattr(place, fault)():
                traffic.run_on(30)
                assert ledger.health().waiting > 0
                assert ledger.flush() is False
            traffic.run_on()
            with traffic.resting():
                wait_until(lambda: ledger.health().waiting == 0)
    assert traffic.errors == []
    wait_until(lambda: writes_all(ledger))
    health = ledger.health()
    assert (health.waiting, health.unspooled, health.lost) == (0, 0, 0)
    assert health.unreserved > 0
    with patient(place) as there:
        assert_complete(there, traffic.answers)
        for n in range(4):
            b = budget(f"user-{n}", 100, ledger=there)
            assert (b.spent_usd, b.reserved_usd) == (there.spent(f"user-{n}"), 0)


@pytest.mark.parametrize("fault", ["hung", "down", "refusing"])
def test_a_hard_limit_refuses_in_time_and_then_at_once(
    place: Any, fault: str, ledger: CostLedger, provider: LoopbackProvider
):
    """Within the store's deadline; nothing is sent; a moment after it is back, calls go again."""
    client = provider.openai(max_retries=0)
    b = budget("alice", 1, ledger=ledger)

    def is_admitted() -> bool:
        with suppress(BudgetStoreError):
            chat(client)
            return True
        return False

    with b:
        wait_until(is_admitted)
        with getattr(place, fault)():
            took = []
            for _ in range(50):
                before = time.monotonic()
                with pytest.raises(BudgetStoreError):
                    chat(client)
                took.append(time.monotonic() - before)
            assert took[0] < TIMEOUT_S + SLACK_S
            assert sorted(took)[25] < 0.05
            assert sum(took) < TIMEOUT_S + 3 * SLACK_S
            assert len(provider.requests) == 1
        back = time.monotonic()
        wait_until(is_admitted)
        assert time.monotonic() - back < 2 + 2 * SLACK_S
    wait_until(lambda: writes_all(ledger))
    with patient(place) as there:
        assert len(there.entries) == 2
        assert budget("alice", 1, ledger=there).reserved_usd == 0


def test_no_call_waits_longer_than_the_deadline(place: Any, provider: LoopbackProvider):
    """All that one call asks a hung store for takes one deadline together, not one each."""
    client = provider.openai(max_retries=0)
    with CostLedger(store=opened(place.kind, place.address, 1.5)) as ledger:
        with budget("alice", 1, on_store_error="allow", ledger=ledger):
            for _ in range(TRIES):
                chat(client)
                with place.hung():
                    before = time.monotonic()
                    chat(client)
                    took_s = time.monotonic() - before
                assert took_s >= 1.5
                if took_s < 2.5:
                    break
                wait_until(lambda: writes_all(ledger))
        assert took_s < 2.5
        wait_until(lambda: writes_all(ledger))


def test_no_loop_waits_for_a_store(place: Any, provider: LoopbackProvider):
    """Tasks under a hung store, streamed or not: the event loop goes on with other things."""
    with CostLedger(store=opened(place.kind, place.address, 1.0)) as ledger:
        b = budget("alice", 100, on_store_error="allow", ledger=ledger)

        async def tick(gaps: list[float]) -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                gaps.append(time.monotonic() - before)

        async def streamed(client: Any) -> None:
            options = {"stream": True, "stream_options": {"include_usage": True}}
            async for _ in await chat(client, **options):
                pass

        async def longest_gap_s() -> float:
            gaps: list[float] = []
            async with provider.async_openai(max_retries=0) as client, b:
                await chat(client)
                ticking = asyncio.ensure_future(tick(gaps))
                with place.hung():
                    await asyncio.gather(
                        *(chat(client) for _ in range(5)), *(streamed(client) for _ in range(5))
                    )
                ticking.cancel()
            return max(gaps)

        longest_s: list[float] = []
        while len(longest_s) < TRIES and min(longest_s, default=1) >= 0.7:
            longest_s.append(asyncio.run(longest_gap_s()))
            wait_until(lambda: writes_all(ledger))
        assert longest_s[-1] < 0.7
    with patient(place) as there:
        assert len(there.entries) == 11 * len(longest_s)
        assert {entry.grade for entry in there.entries} == {"reported"}


@pytest.mark.parametrize("fault", ["hung", "down"])
def test_killed_while_the_store_is_away_the_next_process_enters_it(place: Any, fault: str):
    """kill -9, the store comes back, another process opens the ledger: all is there, once."""
    CostLedger(store=opened(place.kind, place.address, 5)).close()
    worker = started("record", place.kind, place.address, "dead", 20)
    assert heard(worker) == "open"
    with getattr(place, fault)():
        told(worker)
        while heard(worker) != "all":
            pass
        worker.kill()
        worker.communicate()
    workers = [started("adopt", place.kind, place.address) for _ in range(2)]
    for one in workers:
        assert heard(one) == "ready"
    for one in workers:
        told(one)
    found = [int(heard(one)) for one in workers]
    for one in workers:
        one.communicate()
    with CostLedger(store=opened(place.kind, place.address, 5)) as ledger:
        names = [entry.call_id for entry in ledger.entries]
        assert sorted(names) == sorted(f"dead-{n}" for n in range(20))
        assert ledger.verify() == []
    assert sum(found) == 20
    assert not list(Path(os.environ["XDG_STATE_HOME"]).rglob("*.spool"))


def test_a_long_outage_with_a_kill_and_a_restart_in_it(place: Any, provider: LoopbackProvider):
    """Two processes one after the other write while the store is away; a third one enters both."""
    with CostLedger(store=opened(place.kind, place.address, TIMEOUT_S)) as ledger:
        second = started("record", place.kind, place.address, "second", 5)
        assert heard(second) == "open"
        first = started("record", place.kind, place.address, "first", 5)
        assert heard(first) == "open"
        with place.down():
            for worker in (first, second):
                told(worker)
                while heard(worker) != "all":
                    pass
                worker.kill()
                worker.communicate()
            ledger.record("gpt-4o-mini", "f", "alice", 1_000, 0, call_id="own")
        wait_until(lambda: ledger.health().waiting == 0)
        wait_until(lambda: writes_all(ledger) and ledger.health().recovered == 10)
    with patient(place) as there:
        assert len(there.entries) == 11
        assert there.verify() == []


# a server that loses its memory


@pytest.fixture
def redis_place(servers: dict[str, Any], tmp_path: Path) -> Any:
    check_redis()
    if "redis" not in servers:
        servers["redis"] = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        servers["redis"].start()
    with servers["redis"].client() as client:
        client.flushall()
    return Served(servers["redis"])


def test_a_flushed_server_admits_nothing_against_a_fresh_zero(
    redis_place: Any, provider: LoopbackProvider
):
    """FLUSHALL in mid-traffic: every process notices; after `reseed` what waited is entered."""
    client = provider.openai(max_retries=0)
    store = opened("redis", redis_place.address, 30)
    other = CostLedger(store=opened("redis", redis_place.address, 30))
    with CostLedger(store=store) as ledger, Traffic(provider, ledger) as traffic:
        traffic.run_on()
        answered = len(traffic.answers)
        before = list(ledger.entries)
        redis_place.server.client().flushall()
        answered_at_last = len(traffic.answers) + 4  # the threads may all be at a call
        traffic.run_on()
        for one in (ledger, other):
            with pytest.raises(StoreResetError), budget("bob", 1, ledger=one):
                chat(client)
            with pytest.raises(StoreResetError):
                one.total_cost  # noqa: B018
        assert ledger.flush() is False
        assert store.reseed(before) == len(before)
        traffic.run_on()
        with traffic.resting():
            wait_until(lambda: ledger.health().waiting == 0)
        traffic.__exit__()
        assert traffic.errors == []
        assert ledger.flush()
        entered = {str(entry.response_id) for entry in ledger.entries}
        known = {str(entry.response_id) for entry in before}
        assert entered >= known
        assert entered <= set(traffic.answers)
        assert len(ledger.entries) == len(entered)
        missing = set(traffic.answers) - entered  # entered between our reading and the flush
        assert missing <= set(traffic.answers[answered:answered_at_last])
        assert ledger.verify() == []
        assert other.store.reseed() == 0  # type: ignore[attr-defined]
        assert other.total_cost == ledger.total_cost
    other.close()


def test_the_ledgers_own_limit_may_be_told_to_let_pass(place: Any, provider: LoopbackProvider):
    """`CostLedger(on_store_error="allow")`, where its hard limit refuses by default."""
    client = provider.openai(max_retries=0)
    for on_store_error in (None, "refuse", "allow"):
        with CostLedger(
            100,
            store=opened(place.kind, place.address, TIMEOUT_S),
            on_exceed="raise",
            on_store_error=on_store_error,
        ) as ledger:
            with budget("alice", ledger=ledger), place.down():
                if on_store_error == "allow":
                    chat(client)
                else:
                    with pytest.raises(BudgetStoreError):
                        chat(client)
            wait_until(lambda: writes_all(ledger))
        with patient(place) as there:
            assert len(there.entries) == (on_store_error == "allow")
    with pytest.raises(ValueError, match="on_store_error"):
        CostLedger(on_store_error="hope")  # type: ignore[arg-type]


def test_forgotten_scripts_are_noticed_by_nobody(redis_place: Any, provider: LoopbackProvider):
    """SCRIPT FLUSH: the next call brings them again."""
    client = provider.openai(max_retries=0)
    with CostLedger(store=opened("redis", redis_place.address, 30)) as ledger:
        with budget("alice", 1, ledger=ledger):
            chat(client)
            redis_place.server.client().script_flush()
            chat(client)
        assert (len(ledger.entries), ledger.health().is_good) == (2, True)


def test_a_clients_own_patience_is_not_ours(redis_place: Any, provider: LoopbackProvider):
    """A client with 5 s of time-out and 10 retries: the deadline is the store's all the same."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from costtrace import RedisStore

    unhurried = redis.Redis(
        port=int(redis_place.address), socket_timeout=5, retry=Retry(NoBackoff(), 10)
    )
    client = provider.openai(max_retries=0)
    with CostLedger(store=RedisStore(unhurried, timeout_s=0.25)) as ledger:
        with budget("alice", 1, on_store_error="allow", ledger=ledger):
            chat(client)
            with redis_place.hung():
                took = []
                for _ in range(100):
                    before = time.monotonic()
                    chat(client)
                    took.append(time.monotonic() - before)
        assert max(took) < 0.25 + SLACK_S
        assert sorted(took)[75] < 0.2
        wait_until(lambda: writes_all(ledger))
    with patient(redis_place) as there:
        assert len(there.entries) == 101


def test_ledgers_on_one_server_do_not_get_each_others_entries(redis_place: Any):
    """A spool belongs to one namespace, and to one life of it."""
    import redis

    from costtrace import RedisStore

    def ledger_in(namespace: str) -> CostLedger:
        client = redis.Redis(port=int(redis_place.address))
        return CostLedger(store=RedisStore(client, namespace=namespace, timeout_s=2))

    first, second = ledger_in("first"), ledger_in("second")
    with redis_place.down():
        first.record("gpt-4o-mini", "f", "alice", 1_000, 0)
        first.close()
    assert (second.flush(), len(second.entries), second.health().recovered) == (True, 0, 0)
    second.close()
    with ledger_in("first") as again:
        assert (len(again.entries), again.health().recovered) == (1, 1)

"""A Redis that loses its memory, or a part of it: every process notices, none starts at zero."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from servers import RedisServer, check_redis
from spool_workers import heard, opened, started, told

from costtrace import BudgetExceededError, BudgetStoreError, CostLedger, budget
from costtrace.accounting import outage
from costtrace.exceptions import StoreResetError
from costtrace.testing import LoopbackProvider, Reply

LIMIT = Decimal("0.00005")
COST = Decimal("0.0000135")  # of a call, so that a fourth one does not fit
LOSSES = ("flushed", "restarted", "one key less")


@pytest.fixture(autouse=True)
def _answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says no at once, however long a busy machine takes for it."""
    monkeypatch.setattr(outage, "SLOW_S", 60.0)


@pytest.fixture(scope="module")
def memory() -> Iterator[RedisServer]:
    """A server that keeps nothing on a disk."""
    check_redis()
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(memory: RedisServer) -> RedisServer:
    """The same, empty."""
    with memory.client() as client:
        client.flushall()
    return memory


@pytest.fixture
def ledger(server: RedisServer) -> Iterator[CostLedger]:
    with CostLedger(store=opened("redis", str(server.port), 30)) as ledger:
        yield ledger


@pytest.fixture
def client(provider: LoopbackProvider) -> Any:
    provider.default = Reply(input_tokens=10, output_tokens=20)
    return provider.openai(max_retries=0)


@pytest.fixture
def worker(
    server: RedisServer, provider: LoopbackProvider, ledger: CostLedger
) -> Iterator[subprocess.Popen[str]]:
    """Another process under the same budgets."""
    worker = started("call_when_told", "redis", server.port, provider.url, LIMIT)
    assert heard(worker) == "open"
    yield worker
    worker.kill()
    worker.communicate()


def call(client: Any, ledger: CostLedger, user_id: str = "alice") -> None:
    ask = [{"role": "user", "content": "0123456789abcdef"}]
    with budget(user_id, LIMIT, ledger=ledger):
        client.chat.completions.create(model="gpt-4o-mini", messages=ask, max_tokens=20)


def answer(worker: subprocess.Popen[str], line: str) -> str:
    told(worker, line)
    return heard(worker)


def lose(server: RedisServer, how: str) -> None:
    """Take the memory away, or a part of it."""
    if how == "restarted":
        server.kill()
        server.start()
        return
    with server.client() as client:
        if how == "flushed":
            client.flushall()
        else:
            assert client.delete("{costtrace}:hold") == 1


@pytest.mark.parametrize("how", LOSSES)
def test_no_process_starts_at_zero(
    how: str,
    server: RedisServer,
    ledger: CostLedger,
    worker: subprocess.Popen[str],
    client: Any,
    provider: LoopbackProvider,
) -> None:
    """Two processes have nearly spent a budget: neither is admitted, before and after `reseed`.

    What was in flight when the memory went is entered once it is whole again.
    """
    call(client, ledger)
    assert answer(worker, "alice") == "answered"
    call(client, ledger)
    in_flight = budget("bob", LIMIT, ledger=ledger).authorize(COST)
    known = list(ledger.entries)

    lose(server, how)

    sent = len(provider.requests)
    for user_id in ("alice", "carol", "alice"):
        with pytest.raises(StoreResetError):
            call(client, ledger, user_id)
        assert answer(worker, user_id) == "StoreResetError"
    assert len(provider.requests) == sent
    in_flight.settle(COST)
    assert ledger.health().waiting > 0

    assert ledger.store.reseed(known) == 3  # type: ignore[attr-defined]
    assert answer(worker, "alice") == "StoreResetError"
    assert answer(worker, "reseed") == "0"
    with pytest.raises(BudgetExceededError):
        call(client, ledger)
    assert answer(worker, "alice") == "BudgetExceededError"
    assert answer(worker, "carol") == "answered"
    assert (ledger.flush(), answer(worker, "flush")) == (True, "True")
    assert ledger.total_cost == 5 * COST == sum(e.cost_usd or Decimal(0) for e in ledger.entries)
    assert {u: ledger.spent(u) for u in ("alice", "bob", "carol")} == {
        "alice": 3 * COST,
        "bob": COST,
        "carol": COST,
    }
    assert budget("bob", LIMIT, ledger=ledger).reserved_usd == 0
    assert ledger.verify() == []


def test_each_key_that_is_deleted(
    server: RedisServer, ledger: CostLedger, client: Any, provider: LoopbackProvider
) -> None:
    """Whichever key is gone: a call past the limit is refused, for one reason or the other."""
    for _ in range(3):
        call(client, ledger)
    refused: set[type[BaseException]] = set()
    with server.client() as redis:
        kept = {key: redis.dump(key) for key in redis.scan_iter()}
        assert any(key.startswith(b"{costtrace}:b:") for key in kept)
        for lost in kept:
            redis.delete(lost)
            with pytest.raises((StoreResetError, BudgetExceededError)) as error:
                call(client, ledger)
            refused.add(error.type)
            redis.flushall()
            for key, value in kept.items():
                redis.restore(key, 0, value)
    assert len(provider.requests) == 3
    assert refused == {StoreResetError, BudgetExceededError}
    assert ledger.verify() == []


def test_forgotten_scripts_are_noticed_by_no_process(
    server: RedisServer, ledger: CostLedger, worker: subprocess.Popen[str], client: Any
) -> None:
    """SCRIPT FLUSH between any two calls: whoever comes next brings them again."""
    for user_id in ("alice", "bob"):
        with server.client() as redis:
            redis.script_flush()
        call(client, ledger, user_id)
        with server.client() as redis:
            redis.script_flush()
        assert answer(worker, user_id) == "answered"
    assert answer(worker, "flush") == "True"
    assert (len(ledger.entries), ledger.health().is_good) == (4, True)
    assert ledger.verify() == []


def test_an_allowed_call_waits_until_the_memory_is_whole(
    server: RedisServer, ledger: CostLedger, client: Any
) -> None:
    """Under `allow` nobody is refused; all of it is entered after `reseed`, once."""
    call(client, ledger)
    known = list(ledger.entries)
    lose(server, "flushed")
    ask = [{"role": "user", "content": "0123456789abcdef"}]
    with budget("alice", LIMIT, on_store_error="allow", ledger=ledger):
        for _ in range(4):
            client.chat.completions.create(model="gpt-4o-mini", messages=ask, max_tokens=20)
    with pytest.raises(BudgetStoreError):
        ledger.total_cost  # noqa: B018
    assert (ledger.flush(), ledger.health().unreserved) == (False, 4)

    ledger.store.reseed(known)  # type: ignore[attr-defined]

    assert ledger.flush()
    assert (len(ledger.entries), ledger.total_cost) == (5, 5 * COST)
    assert ledger.health().lost == 0
    assert ledger.verify() == []

"""RedisStore keeps the contract, whatever the client's settings, and notices a lost memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import RedisServer, redis_server  # noqa: F401
from store_calls import ALICE, entry, hold, limit
from store_contract import StoreContract

from costtrace.exceptions import BudgetStoreError, EvictingStoreWarning, StoreResetError
from costtrace.stores import RedisStore
from costtrace.stores.base import ALWAYS, Balance, Query, Store, Watch

TIMEOUT_S = 5


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:  # noqa: F811
    """A client of an empty server."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def store(client: Any) -> Iterator[RedisStore]:
    """An empty store."""
    store = RedisStore(client, timeout_s=TIMEOUT_S)
    yield store
    store.close()


class TestRedisStore(StoreContract):
    """All that every store must do."""

    @pytest.fixture
    def open_store(self, client: Any) -> Callable[[], Store]:
        """Return what opens a store."""
        return lambda: RedisStore(client, timeout_s=30)


# -- clients and their settings ------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"decode_responses": True, "encoding": "latin-1"}],
    ids=["bytes", "texts", "texts in latin-1"],
)
def test_clients_of_each_kind_do(
    redis_server: RedisServer,  # noqa: F811
    client: Any,
    protocol: int,
    options: dict[str, Any],
) -> None:
    """Whatever the client makes of answers, names and numbers come back as they were."""
    del client
    with redis_server.client(protocol=protocol, **options) as other:
        store = RedisStore(other, timeout_s=TIMEOUT_S)
        call = entry(2**60 + 7, user_id="aé\0👩", call_id="x\0é", tags={"é": "|"})
        watch = Watch("user:alice", ALWAYS, 1, "ké")
        assert store.reserve(hold(call, limit(2**60 + 7))) is None
        assert store.reserve(hold(entry(1), limit(2**60 + 7))) is not None
        assert len(store.settle(call, ALICE, [watch])) == 1
        assert list(store.entries(Query(user_id="aé\0👩"))) == [call]
        assert store.undelivered(-1)[0].watch == watch
        assert store.totals(["user_id"])[0].cost_usd == call.cost_usd
        assert store.verify() == []
        store.close()


def test_client_that_never_tries_again_does(redis_server: RedisServer, client: Any) -> None:  # noqa: F811
    """A connection that the server closed is replaced, also if the client would not try again."""
    with redis_server.client(retry=None) as other:
        store = RedisStore(other, timeout_s=TIMEOUT_S)
        client.client_kill_filter(_type="normal", skipme=True)

        store.settle(entry(5), ALICE)

        assert store.balance("ledger", ALWAYS).spent_pico == 5
        store.close()


def test_wrong_objects_are_refused_at_once(redis_server: RedisServer, client: Any) -> None:  # noqa: F811
    """Each says what was expected instead."""
    import redis.asyncio

    for wrong in (object(), redis_server, "redis://localhost", None):
        with pytest.raises(TypeError, match="client must be a synchronous client"):
            RedisStore(wrong)
    with pytest.raises(TypeError, match="asynchronous"):
        RedisStore(redis.asyncio.Redis())
    with pytest.raises(TypeError, match="a pipeline"):
        RedisStore(client.pipeline())
    for namespace in ("", "a{b}", 5):
        with pytest.raises(ValueError, match="namespace"):
            RedisStore(client, namespace=namespace)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout_s"):
        RedisStore(client, timeout_s=-1)


def test_client_that_was_closed_still_does(client: Any, store: RedisStore) -> None:
    """To redis-py, closing means to give connections back: it opens new ones."""
    client.close()

    store.settle(entry(5), ALICE)

    assert store.balance("ledger", ALWAYS).spent_pico == 5


def test_client_stays_open_when_the_store_is_closed(client: Any, store: RedisStore) -> None:
    """It is the user's."""
    store.close()

    assert client.ping()


def test_namespaces_do_not_meet(client: Any, store: RedisStore) -> None:
    """The same call id in both is two calls, and all keys of one share its hash tag."""
    other = RedisStore(client, namespace="other:*[x]", timeout_s=TIMEOUT_S)
    call = entry(5)
    for one in (store, other):
        one.settle(call, ALICE)

    assert [one.sums().calls for one in (store, other)] == [1, 1]
    tags = {key.partition(b"}")[0] for key in client.scan_iter()}
    assert tags == {b"{costtrace", b"{other:*[x]"}
    other.close()


def test_nothing_ever_expires(client: Any, store: RedisStore) -> None:
    """A time to live is how counters come to start from nothing."""
    call = entry(5)
    store.reserve(hold(call, limit(100)))
    store.settle(call, ALICE, [Watch("ledger", ALWAYS, 1, "k")])
    store.reserve(hold(entry(5)))

    assert {client.ttl(key) for key in client.scan_iter()} == {-1}


def test_forgotten_scripts_are_sent_again(client: Any, store: RedisStore) -> None:
    """A server that was restarted, or told to, does not know our scripts."""
    client.script_flush()

    store.settle(entry(5), ALICE)

    assert store.balance("ledger", ALWAYS).spent_pico == 5


def test_server_that_throws_keys_away_is_warned_of(client: Any) -> None:
    """Nothing else would tell before the money is gone."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.warns(EvictingStoreWarning, match="allkeys-lru, not noeviction"):
            RedisStore(client, timeout_s=TIMEOUT_S).close()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RedisStore(client, timeout_s=TIMEOUT_S).close()


def test_full_server_is_an_error_and_changes_nothing(client: Any, store: RedisStore) -> None:
    """A step that finds no memory is refused as a whole, also where it would free some."""
    calls = [entry(5) for _ in range(8)]
    owners = [(f"user:{n}", "ledger") for n in range(8)]
    for call, payers in zip(calls, owners, strict=True):
        store.reserve(hold(call, limit(100, owner=payers[0]), owners=payers))
    client.config_set("maxmemory", 1)
    try:
        for call, payers in zip(calls, owners, strict=True):
            for step in (
                lambda: store.reserve(hold(entry(7), limit(100))),
                lambda call=call, payers=payers: store.settle(call, payers),
                lambda call=call: store.release(call.call_id),
            ):
                with pytest.raises(BudgetStoreError, match="maxmemory"):
                    step()
    finally:
        client.config_set("maxmemory", 0)

    assert store.balance("ledger", ALWAYS) == Balance(0, 40, 0, 120, 0, 8)
    assert store.verify() == []
    assert store.lapse() == 0
    assert all(store.release(call.call_id) for call in calls)


# -- lost memory ---------------------------------------------------------------------------------


def test_flushed_server_admits_nothing(client: Any, store: RedisStore) -> None:
    """Every process is told, until it says that it knows; then what is known is entered again."""
    other = RedisStore(client, timeout_s=TIMEOUT_S)
    calls = [entry(300), entry(400)]
    for call in calls:
        store.settle(call, ALICE)
    client.flushall()

    for one in (store, other):
        for step in (
            lambda one=one: one.reserve(hold(entry(1), limit(1000))),
            lambda one=one: one.settle(entry(1), ALICE),
            lambda one=one: one.balance("ledger", ALWAYS),
            lambda one=one: one.sums(),
        ):
            with pytest.raises(StoreResetError, match="nothing is admitted"):
                step()
    assert list(client.scan_iter()) == []

    assert store.reseed(calls) == 2
    assert store.reseed(calls) == 2
    assert store.reserve(hold(entry(301), limit(1000))) is not None
    with pytest.raises(StoreResetError):
        other.balance("ledger", ALWAYS)
    other.reseed()
    assert other.balance("user:alice", ALWAYS) == Balance(700, 0, 30, 0, 2, 0)
    assert other.verify() == []
    other.close()


def test_server_that_began_anew_is_another_one(client: Any, store: RedisStore) -> None:
    """A process that starts after the loss makes a new ledger: the old ones notice."""
    store.settle(entry(300), ALICE)
    client.flushall()
    RedisStore(client, timeout_s=TIMEOUT_S).close()

    with pytest.raises(StoreResetError):
        store.reserve(hold(entry(1)))


def test_each_key_that_is_lost_is_noticed(client: Any, store: RedisStore) -> None:
    """One key less is a memory that is not whole; only running balances can be made again."""
    store.reserve(hold(entry(10), limit(1000)))
    store.settle(entry(300), ALICE, [Watch("ledger", ALWAYS, 1, "k")])
    kept = {key: client.dump(key) for key in client.scan_iter()}
    lost_quietly = set()
    for lost in kept:
        client.delete(lost)
        call = entry(690)
        try:
            assert store.reserve(hold(call, limit(1000))) is None, lost
            store.settle(call, ALICE)
            lost_quietly.add(lost.partition(b"}:")[2].partition(b":")[0])
        except StoreResetError:
            pass
        client.flushall()
        for key, value in kept.items():
            client.restore(key, 0, value)

    # balances; who an owner pays with and what a process holds, which only spare a search
    assert sorted(lost_quietly) == [b"b", b"op", b"p"]
    assert store.verify() == []


def test_broken_ledger_is_replaced_by_reseed(client: Any, store: RedisStore) -> None:
    """What is left of it goes, and other keys stay."""
    client.set("mine", "x")
    store.settle(entry(300), ALICE)
    client.delete("{costtrace}:e")
    with pytest.raises(StoreResetError, match="keys are missing"):
        RedisStore(client, timeout_s=TIMEOUT_S).sums()

    assert store.reseed([entry(5)]) == 1

    assert store.balance("ledger", ALWAYS).spent_pico == 5
    assert client.get("mine") == b"x"
    assert store.verify() == []


# -- numbers -------------------------------------------------------------------------------------


def test_decisions_above_what_a_float_holds_are_exact(store: RedisStore) -> None:
    """Around 2**52, 2**53, 2**62 and the halves' border the answer is Python's, always."""
    chance = random.Random(1)
    for base in (2**52, 2**53, 2**62, 10**12, 10**15, 5 * 10**18):
        owner = f"user:{base}"
        spent = base // 2 + chance.randint(-2, 2)
        store.settle(entry(spent), (owner,))
        for _ in range(200):
            pico, most = base // 2 + chance.randint(-3, 3), base + chance.randint(-3, 3)
            if pico > 2**62:
                continue
            call = entry(pico)
            refused = store.reserve(hold(call, limit(most, owner=owner), owners=(owner,)))
            assert (refused is None) is (spent + pico <= most), (spent, pico, most)
            if refused is None:
                assert store.balance(owner, ALWAYS).reserved_pico == pico
                store.release(call.call_id)
            else:
                assert refused.balance.spent_pico == spent
    assert store.verify() == []

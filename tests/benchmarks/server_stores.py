"""What a ledger on a server costs beside the bare server doing the least for the same promise.

`python -m tests.benchmarks.server_stores [seconds]` starts PostgreSQL (with fsync) and Redis (with
a log, `everysec`) and prints records and pairs a second, and the 99th percentile, with 1 and 8
writing processes. The bare server does one round trip and one commit for each step: a record
inserts a row and adds to one sum; a pair holds an amount if a limit allows it, then replaces the
hold by a row.
Bare and ours take turns in short runs, so that both see the same machine.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "stores"), str(HERE.parents[1])]

from servers import PostgresServer, RedisServer  # noqa: E402
from store_calls import ALICE, entry, hold, limit  # noqa: E402

from costtrace.stores import DBAPIStore, RedisStore  # noqa: E402

Step = Callable[[str], None]
ROUNDS = 3

BARE_TABLES = (
    "CREATE TABLE bare_budget (id integer PRIMARY KEY, spent bigint, reserved bigint)",
    "CREATE TABLE bare_hold (id text PRIMARY KEY, pico bigint)",
    "CREATE TABLE bare_entry (id text PRIMARY KEY, pico bigint, model text, user_id text)",
    "INSERT INTO bare_budget VALUES (1, 0, 0)",
)
BARE_RECORD = """
    WITH e AS (INSERT INTO bare_entry VALUES (%s, 1, 'gpt', 'alice') RETURNING 1)
    UPDATE bare_budget SET spent = spent + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM e)"""
BARE_HOLD = """
    WITH l AS (SELECT 1 FROM bare_budget
        WHERE id = 1 AND spent + reserved + 1 <= 1000000000 FOR UPDATE),
    h AS (INSERT INTO bare_hold SELECT %s, 1 WHERE EXISTS (SELECT 1 FROM l) RETURNING 1)
    UPDATE bare_budget SET reserved = reserved + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM h)"""
BARE_SETTLE = """
    WITH h AS (DELETE FROM bare_hold WHERE id = %s RETURNING id, pico),
    e AS (INSERT INTO bare_entry SELECT id, 1, 'gpt', 'alice' FROM h RETURNING 1)
    UPDATE bare_budget SET reserved = reserved - 1, spent = spent + 1
    WHERE id = 1 AND EXISTS (SELECT 1 FROM e)"""
BARE_REDIS_RECORD = """
    if redis.call('HSETNX', KEYS[1], ARGV[1], '1|gpt|alice') == 1 then
      redis.call('HINCRBY', KEYS[2], 'spent', 1) end return 1"""
BARE_REDIS_HOLD = """
    if redis.call('HINCRBY', KEYS[2], 'avail', -1) < 0 then
      redis.call('HINCRBY', KEYS[2], 'avail', 1) return 0 end
    redis.call('HSET', KEYS[3], ARGV[1], 1) return 1"""
BARE_REDIS_SETTLE = """
    local held = redis.call('HGET', KEYS[3], ARGV[1])
    if held then redis.call('HDEL', KEYS[3], ARGV[1])
      redis.call('HSET', KEYS[1], ARGV[1], '1|gpt|alice')
      redis.call('HINCRBY', KEYS[2], 'spent', held) end return 1"""


def bare_postgres(server: PostgresServer) -> dict[str, list[Step]]:
    """The least that PostgreSQL has to do."""
    import psycopg

    connection = psycopg.connect(server.dsn, autocommit=True)
    run = connection.cursor().execute
    return {
        "record": [lambda call_id: run(BARE_RECORD, (call_id,))],
        "pair": [
            lambda call_id: run(BARE_HOLD, (call_id,)),
            lambda call_id: run(BARE_SETTLE, (call_id,)),
        ],
    }


def bare_redis(server: RedisServer) -> dict[str, list[Step]]:
    """The least that Redis has to do."""
    client = server.client()
    client.hset("bare:b", "avail", 10**15)

    def script(text: str) -> Step:
        sha = client.script_load(text)
        keys = ("bare:e", "bare:b", "bare:h")
        return lambda call_id: client.execute_command("EVALSHA", sha, 3, *keys, call_id)

    return {
        "record": [script(BARE_REDIS_RECORD)],
        "pair": [script(BARE_REDIS_HOLD), script(BARE_REDIS_SETTLE)],
    }


def ours(store: Any) -> dict[str, list[Step]]:
    """The same steps of a store, with a limit where the bare one has a limit."""
    return {
        "record": [lambda call_id: store.settle(entry(1, call_id=call_id), ALICE)],
        "pair": [
            lambda call_id: store.reserve(hold(entry(1, call_id=call_id), limit(10**15))),
            lambda call_id: store.settle(entry(1, call_id=call_id), ALICE),
        ],
    }


def opened(name: str, server: Any) -> dict[str, list[Step]]:
    if name == "PostgreSQL bare":
        return bare_postgres(server)
    if name == "Redis bare":
        return bare_redis(server)
    if name == "DBAPIStore":
        return ours(DBAPIStore(server.connect, timeout_s=30, schema=f"ours{os.getppid()}"))
    return ours(RedisStore(server.client(), timeout_s=30))


def work(name: str, kind: str, server: Any, seconds: float, ready: Any, said: Any) -> None:
    """Do steps for so long; say how often, and how long each took."""
    steps = opened(name, server)[kind]
    ready.wait()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        call_id = f"{os.getpid()}-{name}-{kind}-{len(took)}-{before}"
        for step in steps:
            step(call_id)
        took.append(time.perf_counter() - before)
    said.put(took)


def run(name: str, kind: str, server: Any, writers: int, seconds: float) -> tuple[float, float]:
    """Return how many a second, and the 99th percentile in milliseconds."""
    context = multiprocessing.get_context("fork")
    ready, said = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=work, args=(name, kind, server, seconds, ready, said))
        for _ in range(writers)
    ]
    for process in processes:
        process.start()
    took = sorted(one for _ in processes for one in said.get())
    for process in processes:
        process.join()
    return len(took) / seconds, took[int(len(took) * 0.99)] * 1000


def measure(pair: tuple[str, str], server: Any, seconds: float) -> Iterator[str]:
    for kind in ("record", "pair"):
        for writers in (1, 8):
            found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
            for _ in range(ROUNDS):
                for name in pair:
                    found[name].append(run(name, kind, server, writers, seconds))
            best = {name: max(found[name]) for name in pair}
            bare, own = best[pair[0]], best[pair[1]]
            yield (
                f"{kind:<7} {writers} writers  {pair[0]:<16} {bare[0]:8.0f}/s p99 {bare[1]:7.2f} ms"
                f"   {pair[1]:<10} {own[0]:8.0f}/s p99 {own[1]:7.2f} ms   ratio "
                f"{bare[0] / own[0]:.2f}"
            )


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    postgres = PostgresServer("max_connections=200")
    postgres.start()
    postgres.execute(*BARE_TABLES)
    DBAPIStore(postgres.connect, schema=f"ours{os.getpid()}").close()
    for line in measure(("PostgreSQL bare", "DBAPIStore"), postgres, seconds):
        print(line, flush=True)
    redis = RedisServer("--appendonly", "yes")
    redis.start()
    for line in measure(("Redis bare", "RedisStore"), redis, seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()

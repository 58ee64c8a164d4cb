"""What a ledger on a server costs beside the bare server doing the least for the same promise.

`python -m tests.benchmarks.server_stores` starts PostgreSQL (with fsync) and Redis (with a log,
`everysec`) and prints records and pairs a second with 1 and 8 writing processes; see `writers`. The
least is one round trip and one commit for each step, idempotent by the call's id:

    record   insert a row, unless its id is there, and add to one sum
    pair     hold an amount if a limit allows it; replace the hold by a row and move the sum

In PostgreSQL each is one prepared statement, in Redis a script of two to four commands. Neither has
labels, owners, totals, windows, leases, alerts or deadlines.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "stores"), str(HERE.parent), str(HERE.parents[1])]

from servers import PostgresServer, RedisServer  # noqa: E402

from costtrace.stores import DBAPIStore, RedisStore  # noqa: E402
from tests.benchmarks.stores import ours  # noqa: E402
from tests.benchmarks.writers import HEADING, Side, Step, Steps, compare  # noqa: E402

BARE_TABLES = (
    "CREATE TABLE bare_budget (id integer PRIMARY KEY, spent bigint, reserved bigint)",
    "CREATE TABLE bare_hold (id text PRIMARY KEY, pico bigint)",
    "CREATE TABLE bare_entry (id text PRIMARY KEY, pico bigint, model text, user_id text)",
    "INSERT INTO bare_budget VALUES (1, 0, 0)",
)
BARE_RECORD = """
    WITH e AS (INSERT INTO bare_entry VALUES (%s, 1, 'gpt', 'alice')
        ON CONFLICT DO NOTHING RETURNING 1)
    UPDATE bare_budget SET spent = spent + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM e)"""
BARE_HOLD = """
    WITH l AS (SELECT 1 FROM bare_budget
        WHERE id = 1 AND spent + reserved + 1 <= 1000000000000000 FOR UPDATE),
    h AS (INSERT INTO bare_hold SELECT %s, 1 WHERE EXISTS (SELECT 1 FROM l)
        ON CONFLICT DO NOTHING RETURNING 1)
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


def bare_postgres(server: PostgresServer) -> Steps:
    """The least that PostgreSQL has to do."""
    import psycopg

    run = psycopg.connect(server.dsn, autocommit=True).cursor().execute
    return {
        "record": [lambda call: run(BARE_RECORD, (call.call_id,))],
        "pair": [
            lambda call: run(BARE_HOLD, (call.call_id,)),
            lambda call: run(BARE_SETTLE, (call.call_id,)),
        ],
    }


def bare_redis(server: RedisServer) -> Steps:
    """The least that Redis has to do."""
    client = server.client()
    client.hsetnx("bare:b", "avail", 10**15)

    def script(text: str) -> Step:
        sha = client.script_load(text)
        keys = ("bare:e", "bare:b", "bare:h")
        return lambda call: client.execute_command("EVALSHA", sha, 3, *keys, call.call_id)

    return {
        "record": [script(BARE_REDIS_RECORD)],
        "pair": [script(BARE_REDIS_HOLD), script(BARE_REDIS_SETTLE)],
    }


def main() -> None:
    """Print the table."""
    print(HEADING)
    postgres = PostgresServer("max_connections=200")
    postgres.start()
    postgres.execute(*BARE_TABLES)
    DBAPIStore(postgres.connect).close()
    compare(
        "PostgreSQL",
        (
            Side("bare", lambda: bare_postgres(postgres)),
            Side("DBAPIStore", lambda: ours(DBAPIStore(postgres.connect, timeout_s=30))),
        ),
        postgres.pids,
    )
    postgres.remove()
    redis = RedisServer("--appendonly", "yes")
    redis.start()
    compare(
        "Redis",
        (
            Side("bare", lambda: bare_redis(redis)),
            Side("RedisStore", lambda: ours(RedisStore(redis.client(), timeout_s=30))),
        ),
        redis.pids,
    )


if __name__ == "__main__":
    main()

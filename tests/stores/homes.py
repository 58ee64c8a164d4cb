"""Ledgers in each of the four homes, empty and ready for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import check_postgres, check_redis, started_postgres, started_redis
from waiting import wait_until

from costtrace.stores import DBAPIStore, MemoryStore, RedisStore, SQLiteStore

KINDS = ("memory", "sqlite", "postgres", "redis")


def empty_home(kind: str, name: str, folder: Path) -> Callable[[], Any]:
    """Return what opens the ledger of that name; it is empty the first time."""
    if kind == "memory":
        store = MemoryStore()
        return lambda: store
    if kind == "sqlite":
        return lambda: SQLiteStore(folder / f"{name}.db", synchronous="NORMAL", timeout_s=10)
    if kind == "postgres":
        check_postgres()
        server = started_postgres()
        server.drop(name)
        return lambda: DBAPIStore(server.connect, schema=name, timeout_s=10)
    check_redis()
    client = started_redis().client()
    for key in client.keys(f"{{{name}}}:*"):
        client.delete(key)
    return lambda: RedisStore(client, namespace=name, timeout_s=10)


def wait_for_the_dead(kind: str) -> None:
    """Return when the server is done with all that processes have asked it which were killed.

    They name their connections after themselves.
    """

    def is_done() -> bool:
        if kind == "postgres":
            rows = started_postgres().execute("SELECT application_name FROM pg_stat_activity")
            names = [str(name) for (name,) in rows]
        elif kind == "redis":
            with started_redis().client() as client:
                names = [str(one["name"]) for one in client.client_list()]
        else:
            return True
        pids = [name.removeprefix("pid-") for name in names if name.startswith("pid-")]
        return all(Path("/proc", pid).exists() for pid in pids)

    wait_until(is_done)

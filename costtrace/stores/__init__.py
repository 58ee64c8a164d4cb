"""Where money is kept: in memory, in a SQLite file, in a database or in Redis.

Each store implements `costtrace.stores.base.Store` and is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.lazy import lazily

if TYPE_CHECKING:
    from costtrace.stores.dbapi import DBAPIStore
    from costtrace.stores.memory import MemoryStore
    from costtrace.stores.redis import RedisStore
    from costtrace.stores.sqlite import SQLiteStore

__all__ = ["DBAPIStore", "MemoryStore", "RedisStore", "SQLiteStore"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "DBAPIStore": "dbapi",
        "MemoryStore": "memory",
        "RedisStore": "redis",
        "SQLiteStore": "sqlite",
    },
)

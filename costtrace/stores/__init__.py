"""Where money is kept: in memory, in a SQLite file, in a database or in Redis.

Each store implements `costtrace.stores.base.Store` and is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costtrace.stores.dbapi import DBAPIStore
    from costtrace.stores.memory import MemoryStore
    from costtrace.stores.redis import RedisStore
    from costtrace.stores.sqlite import SQLiteStore

__all__ = ["DBAPIStore", "MemoryStore", "RedisStore", "SQLiteStore"]

_MODULES = {
    "DBAPIStore": "dbapi",
    "MemoryStore": "memory",
    "RedisStore": "redis",
    "SQLiteStore": "sqlite",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

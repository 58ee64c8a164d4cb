"""The options of a ledger, checked: what is wrong with one is said before anything is made."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Literal

from costtrace import stores
from costtrace.accounting.spool import Spool
from costtrace.accounting.spool_folder import place_of
from costtrace.instant import to_us
from costtrace.pricing import PriceTable
from costtrace.stores.base import Store


def checked_clock(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    if clock is None:
        return _utc_now
    if not callable(clock):
        raise TypeError(f"clock must be callable without arguments, not {type(clock).__name__}")
    to_us(clock(), "the clock's answer")
    return clock


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def checked_prices(prices: PriceTable | str | os.PathLike[str] | None) -> PriceTable | None:
    if prices is None or isinstance(prices, PriceTable):
        return prices
    if isinstance(prices, (str, os.PathLike)):
        return PriceTable.load(prices)
    raise TypeError(f"prices must be a PriceTable or the path of a price file, not {prices!r}")


def checked_store(path: str | os.PathLike[str] | None, store: Store | None) -> Store:
    if path is not None and store is not None:
        raise ValueError("give path= or store=, not both: path= is short for SQLiteStore(path)")
    if store is None:
        return stores.MemoryStore() if path is None else stores.SQLiteStore(path)
    if isinstance(store, type):
        raise TypeError(
            f"store must be a store, not the class {store.__name__}: "
            f"call it, as in store={store.__name__}(...)"
        )
    missing = [name for name in _STORE_METHODS if not callable(getattr(store, name, None))]
    if missing:
        raise TypeError(
            f"store must be one of costtrace.stores or implement its protocol, but a "
            f"{type(store).__name__} has no {', '.join(missing)}"
        )
    return store


def checked_spool(
    spool: str | os.PathLike[str] | Literal[False] | None, store: Store
) -> Spool | None:
    """Return where steps wait for the store on disk; None where they do in memory alone."""
    if not isinstance(spool, (str, os.PathLike)) and spool not in (False, None):
        raise TypeError(f"spool must be the path of a folder, or False for none, not {spool!r}")
    if spool == "":
        raise ValueError("spool must name a folder, not ''; False means none")
    if spool is False or not store.is_blocking:
        return None
    if not hasattr(store, _IDENTITY):
        if spool is None:
            return None
        raise TypeError(
            f"a {type(store).__name__} has no `{_IDENTITY}` by which a spool of its ledger could "
            "be told from those of others"
        )
    return Spool(lambda: str(getattr(store, _IDENTITY)), place_of(spool))


_IDENTITY = "identity"
_STORE_METHODS = ("reserve", "settle", "release", "balance", "entries", "sums", "totals", "close")

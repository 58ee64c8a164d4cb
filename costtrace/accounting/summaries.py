"""A ledger as a report shows it: its totals and where its budgets stand, at one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime

from costtrace.accounting.tightness import tightness_notes
from costtrace.accounting.window import Window
from costtrace.instant import to_us
from costtrace.money import Picodollars, to_usd
from costtrace.reports import BudgetRow, Summary, summarize
from costtrace.stores.base import LEDGER, BudgetRecord, Query, Store, user_owner


def summary_of(
    store: Store,
    query: Query,
    *,
    now: datetime,
    own_limit: Picodollars | None = None,
    prices_date: date | None = None,
    has_days: bool = False,
    has_paths: bool = False,
) -> Summary:
    """Return what a report shows of a store's entries that match."""
    filters = {
        name: value
        for name in ("user_id", "function_name", "model", "provider")
        if (value := getattr(query, name)) is not None
    }
    filters |= {f"tag {name}": value for name, value in query.tags.items()}
    return summarize(
        lambda by: store.totals(by, query),
        created_at=now,
        source=source_of(store),
        since=query.since,
        until=query.until,
        filters=filters,
        budgets=() if filters else budget_rows(store, now, own_limit),
        prices_date=prices_date,
        notes=() if filters else tightness_notes(store, query),
        has_days=has_days,
        has_paths=has_paths,
    )


def budget_rows(
    store: Store, now: datetime, own_limit: Picodollars | None = None
) -> Iterator[BudgetRow]:
    """Yield every budget that was ever used in a store, the ledger's own first."""
    if own_limit is not None:
        yield _row(store, BudgetRecord(None, None, None, own_limit, ()), now)
    for record in store.budgets():
        if record.window != "block" and record.user_id is not None:
            try:
                yield _row(store, record, now)
            except ValueError:
                continue  # written where a time zone is known that this machine does not know


def source_of(store: Store) -> str:
    """Return what a reader knows a store by: the name of its file, or what kind it is."""
    path: str | os.PathLike[str] | None = getattr(store, "path", None)
    if path is not None:
        return os.path.basename(str(os.fspath(path)))
    return type(store).__name__.removesuffix("Store").lower() or "store"


def _row(store: Store, record: BudgetRecord, now: datetime) -> BudgetRow:
    window = Window.named(record.window, record.tz)
    now_us = to_us(now)
    owner = LEDGER if record.user_id is None else user_owner(record.user_id)
    balance = store.balance(owner, window.span(now_us))
    return BudgetRow(
        user_id=record.user_id,
        window=record.window,
        limit_usd=None if record.limit_pico is None else to_usd(record.limit_pico),
        spent_usd=to_usd(balance.spent_pico),
        reserved_usd=to_usd(balance.reserved_pico),
        resets_at=window.resets_at(now_us),
    )

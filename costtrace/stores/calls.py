"""Calls as rows of a SQL table, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from costtrace.entry import CostEntry
from costtrace.stores.rows import (
    Charge,
    Facts,
    Label,
    build_entry,
    check_text,
    common_counts,
    unreadable,
    usage_of,
    usage_rest,
)

Values: TypeAlias = tuple[Any, ...]
"""A row, as a database driver gives and takes it."""


class Rows(Protocol):
    """What a driver answers with."""

    @property
    def rowcount(self) -> int:
        """Return how many rows the statement changed."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""


Run: TypeAlias = Callable[[str, tuple[Any, ...]], Rows]
"""Executes one statement with `?` for its values."""

CALL_COLUMNS = (
    "call_id",
    "timestamp_us",
    "label_id",
    "payers_id",
    "cost_pico",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_rest",
    "reserved_pico",
    "duration_s",
    "attempts",
    "response_id",
    "gateway_cost_usd",
    "adjusts",
)
TIMESTAMP, LABEL, PAYERS, COST, INPUT, OUTPUT, ADJUSTS = 1, 2, 3, 4, 5, 6, 16


def call_values(facts: Facts, timestamp_us: int, label_id: int, payers_id: int) -> Values:
    """Return the values of `CALL_COLUMNS` for an entry."""
    entry = facts.entry
    rest = usage_rest(entry.usage)
    gateway_cost_usd = entry.gateway_cost_usd
    return (
        check_text(entry.call_id, "call_id"),
        timestamp_us,
        label_id,
        payers_id,
        facts.pico,
        *common_counts(entry.usage),
        json.dumps(rest) if rest else None,
        facts.reserved_pico,
        entry.duration_s,
        entry.attempts,
        None if entry.response_id is None else check_text(entry.response_id, "response_id"),
        None if gateway_cost_usd is None else str(gateway_cost_usd),
        None if entry.adjusts is None else check_text(entry.adjusts, "adjusts"),
    )


def entry_from(values: Values, label: Label) -> CostEntry:
    """Return the entry whose `CALL_COLUMNS` have these values.

    Raises `BudgetStoreError` for values that nobody has written so.
    """
    call_id, timestamp_us, _, _, cost_pico, *common = values[:10]
    rest, reserved_pico, duration_s, attempts, response_id, gateway, adjusts = values[10:17]
    try:
        return build_entry(
            label,
            call_id=call_id,
            timestamp_us=timestamp_us,
            cost_pico=cost_pico,
            usage=usage_of(common, json.loads(rest) if rest else None),
            reserved_pico=reserved_pico,
            duration_s=duration_s,
            attempts=attempts,
            response_id=response_id,
            gateway_cost_usd=None if gateway is None else Decimal(gateway),
            adjusts=adjusts,
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise unreadable(f"call {call_id!r}", error) from error


def charge_from(values: Values) -> Charge:
    """Return what a row of `CALL_COLUMNS` takes from each of its owners."""
    tokens = values[INPUT] + values[OUTPUT]
    return (values[COST] or 0, tokens, 1 if values[ADJUSTS] is None else 0)


def counts_from(values: Values) -> tuple[int, ...]:
    """Return what a row of `CALL_COLUMNS` adds to the total of its group."""
    cost_pico = values[COST]
    calls = 1 if values[ADJUSTS] is None else 0
    unpriced = calls if cost_pico is None else 0
    return (1, calls, values[INPUT], values[OUTPUT], cost_pico or 0, unpriced)

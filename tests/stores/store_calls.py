"""Calls, holds and a clock to test stores with."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from itertools import count
from typing import Any

from costtrace.entry import CostEntry
from costtrace.money import to_usd
from costtrace.stores.base import ALWAYS, Hold, Limit, Span
from costtrace.usage import Usage

NOON = datetime(2026, 11, 22, 12, 0, 30, 123456, tzinfo=timezone.utc)
DAY = Span(1_795_305_600_000_000, 1_795_392_000_000_000)  # 22 November 2026, UTC
ALICE = ("ledger", "user:alice")
_numbers = count()


class Clock:
    """Microseconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now_us = 1_795_348_830_123_456

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)


def entry(pico: int | None = 700, **fields: Any) -> CostEntry:
    """A call of `pico` picodollars, 10 tokens in and 5 out, unless `fields` say otherwise."""
    known: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "function_name": "answer",
        "user_id": "alice",
        "usage": Usage(10, 5),
        "cost_usd": None if pico is None else to_usd(pico),
        "timestamp": NOON,
        "call_id": f"call-{next(_numbers)}",
        "grade": "unpriced" if pico is None else "reported",
    }
    return CostEntry(**{**known, **fields})


def rich_entry(**fields: Any) -> CostEntry:
    """A call with every field filled in."""
    known: dict[str, Any] = {
        "usage": Usage(*range(1, 22)),
        "provider": "openai",
        "operation": "chat",
        "request_model": "gpt-4o-mini-2024-07-18",
        "call_path": ("serve", "answer"),
        "tags": {"team": "blue", "tier": ""},
        "service_tier": "flex",
        "region": "eu",
        "streamed": True,
        "status": "partial",
        "grade": "estimated",
        "reserved_usd": Decimal("0.5"),
        "duration_s": 0.123456789,
        "attempts": 3,
        "response_id": "chatcmpl-123456",
        "price_id": "gpt-4o-mini@2024-07-18",
        "gateway_cost_usd": Decimal("0.00000000000012345"),
        "adjusts": None,
    }
    return entry(**{**known, **fields})


def hold(
    call: CostEntry,
    *limits: Limit,
    owners: tuple[str, ...] = ALICE,
    lease_s: float = 60.0,
    process: str = "p1",
) -> Hold:
    """A hold of the call's cost."""
    return Hold(call, owners, limits, lease_s, process)


def limit(
    pico: int | None = None, span: Span = ALWAYS, owner: str = "user:alice", **other: Any
) -> Limit:
    """A limit of the user's."""
    return Limit(owner, span, pico, **other)


def costing(call: CostEntry, pico: int | None, **fields: Any) -> CostEntry:
    """The same call with another cost."""
    return replace(call, cost_usd=None if pico is None else to_usd(pico), **fields)

"""Entries as a ledger hands them to a sink."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from costtrace.entry import CostEntry
from costtrace.usage import Usage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


def entry(cost_usd: str | None = "0.25", **more: Any) -> CostEntry:
    facts: dict[str, Any] = {
        "model": "gpt-4o-mini-2024-07-18",
        "request_model": "gpt-4o-mini",
        "function_name": "answer_question",
        "user_id": "alice",
        "usage": Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=400),
        "cost_usd": None if cost_usd is None else Decimal(cost_usd),
        "timestamp": NOW,
        "call_id": "call-1",
        "provider": "openai",
        "operation": "chat",
        "call_path": ("main", "answer_question"),
        "tags": {"team": "search"},
        "duration_s": 1.5,
        "response_id": "chatcmpl-1",
    }
    return CostEntry(**{**facts, **more})

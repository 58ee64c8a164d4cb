"""Entries of a small ledger, and their totals as a store would group them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction

from costtrace.entry import CostEntry, Total
from costtrace.money import to_usd
from costtrace.usage import Usage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


def entry(
    cost_usd: str | None,
    *path: str,
    model: str = "gpt-4o-mini",
    user_id: str = "alice",
    grade: str = "reported",
    day: int = 22,
) -> CostEntry:
    return CostEntry(
        model=model,
        function_name=path[-1] if path else "unknown",
        user_id=user_id,
        usage=Usage(input_tokens=1000, output_tokens=100),
        cost_usd=None if cost_usd is None else Decimal(cost_usd),
        timestamp=datetime(2026, 11, day, tzinfo=timezone.utc),
        call_id="",
        call_path=path,
        grade="unpriced" if cost_usd is None else grade,  # type: ignore[arg-type]
    )


def totals_of(entries: Sequence[CostEntry]) -> Callable[[Sequence[str]], list[Total]]:
    """Group entries as a store does: keys are tuples, one total for each."""

    def name(one: CostEntry, dimension: str) -> str:
        if dimension == "day":
            return f"{one.timestamp:%Y-%m-%d}"
        if dimension == "call_path":
            return " > ".join(one.call_path)
        return str(getattr(one, dimension))

    def totals(by: Sequence[str]) -> list[Total]:
        groups: dict[tuple[str, ...], list[CostEntry]] = {}
        for one in entries:
            groups.setdefault(tuple(name(one, dimension) for dimension in by), []).append(one)
        return [
            Total(
                key=key,
                calls=len(group),
                prompt_tokens=sum(one.prompt_tokens for one in group),
                completion_tokens=sum(one.completion_tokens for one in group),
                cost_usd=to_usd(sum(int(Fraction(one.cost_usd or 0) * 10**12) for one in group)),
                unpriced_calls=sum(one.cost_usd is None for one in group),
            )
            for key, group in groups.items()
        ]

    return totals

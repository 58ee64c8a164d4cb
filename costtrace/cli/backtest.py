"""What `costtrace budgets --replay` says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from textwrap import fill
from typing import Any

from costtrace.accounting import CostLedger
from costtrace.cli.errors import UsageError
from costtrace.cli.limits import Limit
from costtrace.cli.output import money, show, show_json
from costtrace.cli.replay import Replay, replay
from costtrace.money import format_usd
from costtrace.reports import Column, section, table
from costtrace.reports.table import terminal_width


def show_backtest(
    ledger: CostLedger,
    given: Sequence[Limit],
    since: datetime | None,
    until: datetime | None,
    is_json: bool,
) -> None:
    """Send a ledger's calls again under these limits, and print what would have been."""
    limits: dict[str, Limit] = {}
    for each in given:
        if limits.setdefault(each.user_id, each) is not each:
            raise UsageError(f"--limit names {each.user_id!r} twice: one limit for each user")
    found = replay(ledger, limits, since, until)
    if is_json:
        show_json(_document(found))
    else:
        show(_text(found))


def _document(found: Replay) -> dict[str, Any]:
    return {
        "schema": "costtrace.replay",
        "schema_version": 1,
        "source": found.source,
        "currency": "USD",
        "calls": found.calls,
        "unpriced_calls": found.unpriced_calls,
        "users": [
            {
                "user_id": user.user_id,
                "limit_usd": money(user.limit.amount),
                "window": user.limit.window_name,
                "calls": user.calls,
                "spent_usd": money(user.spent_usd),
                "refused_calls": len(user.refused),
                "refused_usd": money(user.refused_usd),
                "tight_calls": user.tight_calls,
                "highest_usd": money(user.highest_usd),
            }
            for user in found.users
        ],
        "refused": [
            {
                "call_id": entry.call_id,
                "timestamp": entry.timestamp,
                "user_id": entry.user_id,
                "function_name": entry.function_name,
                "model": entry.model,
                "cost_usd": money(entry.cost_usd),
            }
            for user in found.users
            for entry in user.refused
        ],
        "alerts": [
            {"timestamp": at, "user_id": alert.user_id, "text": str(alert)}
            for at, alert in found.alerts
        ],
    }


def _text(found: Replay) -> str:
    names = ("Calls", "Cost", "Refused", "Refused cost", "Tight", "Highest")
    columns = (
        Column("User", can_shrink=True),
        Column("Limit"),
        *(Column(name, is_number=True) for name in names),
    )
    rows = [
        (
            user.user_id,
            f"{format_usd(user.limit.amount, 2)}/{user.limit.window_name or 'always'}",
            f"{user.calls:,}",
            format_usd(user.spent_usd),
            f"{len(user.refused):,}",
            format_usd(user.refused_usd),
            f"{user.tight_calls:,}",
            format_usd(user.highest_usd),
        )
        for user in found.users
    ]
    blocks = [table(rows, columns) if rows else "None of these users has made a call."]
    blocks += [
        _firsts(found),
        "\n".join(f"{section.moment(at)}  {one}" for at, one in found.alerts),
    ]
    blocks.append(_remarks(found))
    return "\n\n".join(block for block in blocks if block)


def _firsts(found: Replay) -> str:
    """Return when each user would have been refused for the first time, and for what."""
    return "\n".join(
        f"{section.moment(entry.timestamp)}  {user.user_id} is refused "
        f"{entry.model} in {entry.function_name} ({format_usd(entry.cost_usd or user.refused_usd)})"
        for user in found.users
        for entry in user.refused[:1]
    )


def _remarks(found: Replay) -> str:
    lines = [
        "Refused: what the call did cost no longer fitted.",
        "Tight: it fitted, but not the worst case of all its attempts that was reserved for it: it "
        "would have been sent with fewer retries, or refused.",
        "Highest: the most that a window came to.",
    ]
    if unpriced := found.unpriced_calls:
        were = section.counted(unpriced, "call has", "calls have")
        lines.append(f"{were} no known cost, and passed.")
    return "\n".join(fill(line, terminal_width()) for line in lines)

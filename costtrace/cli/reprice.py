"""`costtrace reprice`: what a ledger would have cost at other prices."""

from __future__ import annotations

import argparse
from decimal import Decimal
from typing import Any

from costtrace.accounting.repricing import Change, Repricing, reprice, write_adjustments
from costtrace.cli.arguments import add_json, moment
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import money, note, show, show_json
from costtrace.cli.price_files import price_table
from costtrace.money import format_usd
from costtrace.reports import Column, table
from costtrace.reports.section import counted

_EPILOG = """\
examples:
  costtrace reprice costs.db --prices negotiated.json
  costtrace reprice costs.db --as-of 2026-11-01
  costtrace reprice costs.db --prices negotiated.json --write

No entry is changed: --write adds a line for each difference, which names the call it corrects.
"""
_COLUMNS = (
    Column("Model", can_shrink=True),
    Column("Cause"),
    *(Column(name, is_number=True) for name in ("Calls", "Before", "After", "Difference")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_ledger(parser)
    parser.add_argument("--prices", metavar="FILE", help="a price file (JSON or TOML), on top")
    parser.add_argument(
        "--as-of", type=moment, metavar="TIME", help="the prices of then, for every call"
    )
    parser.add_argument(
        "--write", action="store_true", help="enter the differences as lines of their own"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the differences by model and cause; enter them if asked."""
    prices = price_table(arguments.prices)
    with named_ledger(arguments) as ledger:
        found = reprice(ledger, prices, as_of=arguments.as_of)
        written = write_adjustments(ledger, found) if arguments.write else 0
    if arguments.json:
        show_json(_document(found, written))
    else:
        show(_text(found))
        if arguments.write:
            note(f"{counted(written, 'line was', 'lines were')} added; no entry was changed.")
        elif found.difference_usd:
            note("Nothing was written: --write enters the differences.")
    return 0


def _groups(found: Repricing) -> list[tuple[str, str, list[Change]]]:
    grouped: dict[tuple[str, str], list[Change]] = {}
    for change in found.changes:
        grouped.setdefault((change.entry.model, change.cause), []).append(change)
    rows = [(model, cause, changes) for (model, cause), changes in grouped.items()]
    return sorted(rows, key=lambda row: abs(_sum(row[2])), reverse=True)


def _sum(changes: list[Change]) -> Decimal:
    return sum((change.difference_usd for change in changes), Decimal(0))


def _text(found: Repricing) -> str:
    lines = [f"{counted(found.calls, 'call', 'calls')}, {found.unchanged:,} of them cost the same."]
    if found.changes:
        rows = [
            (
                model,
                cause,
                f"{len(changes):,}",
                format_usd(sum((c.before_usd or Decimal(0) for c in changes), Decimal(0))),
                format_usd(sum((c.after_usd or Decimal(0) for c in changes), Decimal(0))),
                format_usd(_sum(changes)),
            )
            for model, cause, changes in _groups(found)
        ]
        lines += ["", table(rows, _COLUMNS), "", f"Difference: {format_usd(found.difference_usd)}"]
    if found.not_recomputed:
        lines.append(
            f"{counted(found.not_recomputed, 'call was', 'calls were')} not priced again: the cost "
            "was assumed, entered by hand, or made up of several models."
        )
    return "\n".join(lines)


def _document(found: Repricing, written: int) -> dict[str, Any]:
    return {
        "schema": "costtrace.reprice",
        "schema_version": 1,
        "currency": "USD",
        "calls": found.calls,
        "unchanged": found.unchanged,
        "not_recomputed": found.not_recomputed,
        "difference_usd": money(found.difference_usd),
        "lines_written": written,
        "changes": [
            {
                "model": model,
                "cause": cause,
                "calls": len(changes),
                "difference_usd": money(_sum(changes)),
            }
            for model, cause, changes in _groups(found)
        ],
    }

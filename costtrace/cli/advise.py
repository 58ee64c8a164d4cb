"""`costtrace advise`: what would have cost less, and how that was computed."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any

from costtrace.accounting import Advice
from costtrace.cli.arguments import add_json, check_span, moment, positive
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import bold, dim, money, note, show, show_json
from costtrace.reports.table import terminal_width, visible

_EPILOG = """\
examples:
  costtrace advise costs.db
  costtrace advise costs.db --since 30d --top 5
  costtrace advise costs.db --json
"""
_WIDEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_ledger(parser)
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="from 2026-11-01, or 7d, 36h, 30m ago"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to, but not including")
    parser.add_argument("--top", type=positive, metavar="N", help="the N largest only")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the advice, the largest saving first."""
    check_span(arguments)
    with named_ledger(arguments) as ledger:
        found = ledger.advise(arguments.since, arguments.until)[: arguments.top]
        prices_date = str(ledger.prices.as_of)
    if arguments.json:
        show_json(_document(found, prices_date))
    elif not found:
        note("Nothing in these calls would have cost less that their usage shows.")
    else:
        show(_text(found))
        note(f"Computed from recorded usage and list prices of {prices_date}; they do not add up.")
    return 0


def _text(found: Sequence[Advice]) -> str:
    width = min(terminal_width(), _WIDEST)
    blocks = []
    for advice in found:
        head = textwrap.fill(visible(advice.text), width)
        how = textwrap.fill(
            visible(advice.how), width, initial_indent="    ", subsequent_indent="    "
        )
        blocks.append(f"{bold(head)}\n{dim(how)}")
    return "\n\n".join(blocks)


def _document(found: Sequence[Advice], prices_date: str) -> dict[str, Any]:
    return {
        "schema": "costtrace.advice",
        "schema_version": 1,
        "currency": "USD",
        "prices_date": prices_date,
        "advice": [
            {
                "kind": advice.kind,
                "function_name": advice.function_name,
                "model": advice.model,
                "alternative": advice.alternative,
                "saving_usd": money(advice.saving_usd),
                "freed_usd": money(advice.freed_usd),
                "text": advice.text,
                "how": advice.how,
                "calls": advice.calls,
                "cost_usd": money(advice.cost_usd),
                "first": advice.first,
                "last": advice.last,
            }
            for advice in found
        ],
    }

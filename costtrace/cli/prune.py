"""`costtrace prune`: old entries go, what they add to every sum stays."""

from __future__ import annotations

import argparse

from costtrace.cli.arguments import add_json, moment
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import note, show_json
from costtrace.reports.section import counted

_EPILOG = """\
Totals, reports and budgets stay exact, known by day from then on. Calls whose fate is unknown stay.
CostLedger(keep_days=90) or COSTTRACE_KEEP_DAYS=90 does this by itself, day by day.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    add_ledger(parser)
    parser.add_argument(
        "--before",
        type=moment,
        required=True,
        metavar="TIME",
        help="calls of before 2026-08-01, or 90d ago",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Let them go, and say how many."""
    with named_ledger(arguments) as ledger:
        gone = ledger.prune(arguments.before)
    if arguments.json:
        show_json({"schema": "costtrace.prune", "schema_version": 1, "pruned": gone})
    else:
        note(f"{counted(gone, 'entry is', 'entries are')} gone; all sums are still there")
    return 0

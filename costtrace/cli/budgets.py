"""`costtrace budgets`: where each budget stands; or what another budget would have refused."""

from __future__ import annotations

import argparse
from typing import Any

from costtrace.accounting.summaries import budget_rows, source_of
from costtrace.cli.arguments import add_json, check_span, moment
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.limits import limit
from costtrace.cli.output import money, show, show_json
from costtrace.reports import BudgetRow, section, table

_EPILOG = """\
examples:
  costtrace budgets costs.db
  costtrace budgets --replay costs.db --limit alice=5/month --limit '*=0.50/day'

A limit is USER=AMOUNT or USER=AMOUNT/WINDOW; the window is hour, day, week, month (UTC), or a
rolling one such as 24h or 7d. `*` is each user that has no limit of their own.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_ledger(parser)
    parser.add_argument(
        "--replay",
        metavar="DB",
        nargs="?",
        const="",
        help="send a ledger's calls again, on paper, under the limits given with --limit",
    )
    parser.add_argument(
        "--limit",
        type=limit,
        action="append",
        default=[],
        metavar="USER=AMOUNT[/WINDOW]",
        help="with --replay: a limit to try, one for each user",
    )
    parser.add_argument("--since", type=moment, metavar="TIME", help="with --replay: from then on")
    parser.add_argument("--until", type=moment, metavar="TIME", help="with --replay: up to then")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print where the budgets stand, or what a replay found."""
    check_span(arguments)
    named = (arguments.replay or None, arguments.db, arguments.store)
    if sum(name is not None for name in named) != 1:
        raise UsageError("name one ledger: costtrace budgets costs.db")
    is_replay = arguments.replay is not None
    if is_replay != bool(arguments.limit):
        raise UsageError(
            "--replay and --limit go together: --replay costs.db --limit alice=5/month"
        )
    if not is_replay and (arguments.since or arguments.until):
        raise UsageError("--since and --until go with --replay: a budget stands as it does now")
    if is_replay:
        from costtrace.cli.backtest import show_backtest  # all of the accounting: only when asked

        arguments.db = arguments.replay or arguments.db
        with named_ledger(arguments) as ledger:
            asked = (arguments.limit, arguments.since, arguments.until, arguments.json)
            show_backtest(ledger, *asked)
        return 0
    with named_ledger(arguments) as ledger:
        rows = list(budget_rows(ledger.store, ledger.now()))
        source = source_of(ledger.store)
    if arguments.json:
        facts = {"schema": "costtrace.budgets", "schema_version": 1, "source": source}
        show_json({**facts, "currency": "USD", "budgets": [_facts(row) for row in rows]})
    elif rows:
        budgets = section.budget_section(rows)
        show(table(budgets.rows, budgets.columns))
    else:
        show(f"No budget was ever used in {source}.")
    return 0


def _facts(row: BudgetRow) -> dict[str, Any]:
    return {
        "user_id": row.user_id,
        "window": row.window,
        "limit_usd": money(row.limit_usd),
        "spent_usd": money(row.spent_usd),
        "reserved_usd": money(row.reserved_usd),
        "remaining_usd": money(row.remaining_usd),
        "resets_at": row.resets_at,
    }

"""`costtrace report`: what was spent, in every way a ledger can be grouped."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from costtrace.accounting import CostLedger
from costtrace.accounting.summaries import source_of, summary_of
from costtrace.cli.arguments import add_json, check_span, moment, positive, tag
from costtrace.cli.errors import UsageError
from costtrace.cli.grouping import Grouping, render_grouping
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import is_colored, show
from costtrace.reports import FORMATS, collapsed, render, render_text
from costtrace.stores.base import Query
from costtrace.stores.grouping import dimensions

_EPILOG = """\
examples:
  costtrace report costs.db
  costtrace report costs.db --by user_id --since 7d --top 10
  costtrace report costs.db --by day,model --format csv -o november.csv
  costtrace report costs.db --stacks > costs.folded      # for flame graph tools
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_ledger(parser)
    parser.add_argument(
        "--by",
        action="extend",
        type=groups,
        default=[],
        metavar="WHAT",
        help="one table by function_name, user_id, model, provider, operation, service_tier, "
        "status, grade, day, call_path or tag:NAME; several with commas or by repeating it",
    )
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="from 2026-11-01, or 7d, 36h, 30m ago"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to, but not including")
    parser.add_argument("--user", metavar="ID", help="only this user's calls")
    parser.add_argument("--function", metavar="NAME", help="only this function's calls")
    parser.add_argument("--model", metavar="NAME", help="only this model's calls")
    parser.add_argument("--provider", metavar="NAME", help="only this provider's calls")
    parser.add_argument(
        "--tag", type=tag, action="append", default=[], metavar="NAME=VALUE", help="only so tagged"
    )
    parser.add_argument("--top", type=positive, metavar="N", help="the N dearest groups only")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=FORMATS, default="text", help="text unless given")
    add_json(shape)
    shape.add_argument(
        "--stacks",
        action="store_true",
        help="the call paths with their cost in picodollars, as flame graph tools read them",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    check_span(arguments)
    if arguments.stacks and (arguments.by or arguments.top):
        raise UsageError("--stacks is by call path, all of them: leave out --by and --top")
    with named_ledger(arguments) as ledger:
        show(_text(ledger, arguments), arguments.output)
    return 0


def groups(text: str) -> tuple[str, ...]:
    """Read `day,model`: what to group by."""
    try:
        return dimensions(tuple(text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _text(ledger: CostLedger, arguments: argparse.Namespace) -> str:
    format_ = "json" if arguments.json else arguments.format
    filters = _filters(arguments)
    if arguments.stacks:
        return collapsed(ledger.totals("call_path", **filters))
    by = tuple(dict.fromkeys(arguments.by)) or ("function_name",)
    if not arguments.by and arguments.top is None:
        return _whole(ledger, filters, format_, arguments.output)
    grouping = Grouping(
        by=by,
        totals=tuple(ledger.totals(by, **filters)),
        top=arguments.top,
        source=source_of(ledger.store),
        created_at=ledger.now(),
    )
    return render_grouping(grouping, format_)


def _whole(ledger: CostLedger, filters: dict[str, Any], format_: str, output: str | None) -> str:
    """Return the report with all its tables."""
    summary = summary_of(
        ledger.store, Query(**filters), now=ledger.now(), prices_date=ledger.prices.as_of
    )
    if format_ == "text":
        return render_text(summary, is_colored=output is None and is_colored(sys.stdout))
    return render(summary, format_)


def _filters(arguments: argparse.Namespace) -> dict[str, Any]:
    asked = {
        "user_id": arguments.user,
        "function_name": arguments.function,
        "model": arguments.model,
        "provider": arguments.provider,
        "since": arguments.since,
        "until": arguments.until,
        "tags": dict(arguments.tag) or None,
    }
    return {name: value for name, value in asked.items() if value is not None}

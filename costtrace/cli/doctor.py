"""`costtrace doctor`: whether everything is as it must be for costs to be seen and held."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from costtrace.cli.arguments import add_json
from costtrace.cli.checkup import OK, PROBLEM, Finding, check_ledger, check_machine
from costtrace.cli.output import bold, show, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.add_argument("db", metavar="DB", nargs="?", help="check this ledger too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 if something is wrong."""
    found = list(check_ledger(arguments.db)) if arguments.db else []
    found = [*check_machine(), *found]
    is_healthy = all(one.verdict != PROBLEM for one in found)
    if arguments.json:
        findings = [
            {"topic": one.topic, "name": one.name, "verdict": one.verdict, "text": one.text}
            for one in found
        ]
        facts = {"schema": "costtrace.doctor", "schema_version": 1, "is_healthy": is_healthy}
        show_json({**facts, "findings": findings})
    else:
        show("\n".join(_lines(found)))
        sys.stdout.flush()
    return 0 if is_healthy else 1


def _lines(found: list[Finding]) -> Iterator[str]:
    topic = ""
    wide = max(len(one.name) for one in found)
    for one in found:
        if one.topic != topic:
            topic = one.topic
            yield bold(topic)
        mark = "" if one.verdict == OK else f"{one.verdict.upper()}: "
        yield f"  {one.name:<{wide}}  {mark}{one.text}"

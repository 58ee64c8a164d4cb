"""`costtrace verify`: whether a ledger's balances equal the sums of its entries."""

from __future__ import annotations

import argparse

from costtrace.cli.arguments import add_json
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import show, show_json
from costtrace.reports.section import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    add_ledger(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Say what does not agree; 1 if anything does not."""
    with named_ledger(arguments) as ledger:
        differences, entries = ledger.verify(), len(ledger.entries)
    if arguments.json:
        facts = {"schema": "costtrace.verify", "schema_version": 1, "entries": entries}
        show_json({**facts, "differences": differences})
    elif differences:
        show("\n".join(differences))
    else:
        where = arguments.db or arguments.store
        show(f"{where}: {counted(entries, 'entry', 'entries')}, and every balance is their sum.")
    return 1 if differences else 0

"""`costtrace backup`: a consistent copy of a ledger, while others go on writing."""

from __future__ import annotations

import argparse

from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import note
from costtrace.reports.section import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    add_ledger(parser)
    parser.add_argument("file", metavar="FILE", help="the new file; one that exists is kept")


def run(arguments: argparse.Namespace) -> int:
    """Copy the ledger as it is now."""
    with named_ledger(arguments) as ledger:
        try:
            ledger.backup(arguments.file)
        except TypeError as error:
            raise UsageError(f"{error}; costtrace export writes it as lines") from error
        note(f"{counted(len(ledger.entries), 'entry', 'entries')} copied to {arguments.file}")
    return 0

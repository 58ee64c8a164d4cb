"""`costtrace forget`: a pseudonym in place of a user, wherever a ledger names it."""

from __future__ import annotations

import argparse

from costtrace.cli.arguments import add_json
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_ledger, named_ledger
from costtrace.cli.output import note, show_json
from costtrace.reports.section import counted

_EPILOG = """\
Every sum stays as it is. A SQLite file is written anew, so that nothing of the name is left in it;
backups, exports and log files are yours to see to. Exit status 1: the ledger knows no such user.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    add_ledger(parser)
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("--as", dest="pseudonym", metavar="NAME", help="not a random pseudonym")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Rename the user; 1 if there was none."""
    with named_ledger(arguments) as ledger:
        try:
            done = ledger.forget(arguments.user, arguments.pseudonym)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if arguments.json:
        facts = {"schema": "costtrace.forget", "schema_version": 1, "is_known": done.is_known}
        pseudonym = done.pseudonym if done.is_known else None
        show_json({**facts, "pseudonym": pseudonym, "entries": done.entries})
    elif done.is_known:
        whose = counted(done.entries, "entry now belongs", "entries now belong")
        note(f"{whose} to {done.pseudonym}")
    else:
        note(f"the ledger knows no user {arguments.user!r}: nothing was changed")
    return 0 if done.is_known else 1

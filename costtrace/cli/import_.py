"""`costtrace import`: entries from JSON lines into a ledger, each of them once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from costtrace.accounting import CostLedger
from costtrace.accounting.entry_lines import entry_of
from costtrace.cli.arguments import add_json
from costtrace.cli.errors import UsageError
from costtrace.cli.output import note, progress, show_json
from costtrace.entry import CostEntry
from costtrace.exceptions import CallConflictError
from costtrace.stores import SQLiteStore

_EPILOG = """\
An entry that is in the ledger already, at the same cost, changes nothing; at another cost it is a
conflict: it is left as it is, and the exit status is 1. Nothing comes in if a line cannot be read.
"""
_EVERY = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("db", metavar="DB", help="the ledger's SQLite file; a new one is made")
    parser.add_argument("file", metavar="FILE", help="as `costtrace export` writes it; `-`: stdin")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read every line, then enter what is new."""
    with _lines(arguments.file) as lines:
        entries = list(_entries(lines, arguments.file))
    store = SQLiteStore(arguments.db, synchronous="NORMAL")  # one flush at the end will do
    with CostLedger(store=store) as ledger:
        before = len(ledger.entries)
        conflicts = list(_enter(ledger, entries))
        ledger.flush()
        added = len(ledger.entries) - before
    if arguments.json:
        facts = {"schema": "costtrace.import", "schema_version": 1, "read": len(entries)}
        show_json({**facts, "added": added, "conflicts": conflicts})
    else:
        known = len(entries) - added - len(conflicts)
        note(f"{added:,} entries came in, {known:,} were there already")
        for conflict in conflicts:
            note(f"costtrace: {conflict}")
    return 1 if conflicts else 0


def _enter(ledger: CostLedger, entries: list[CostEntry]) -> Iterator[str]:
    """Settle each entry; yield what is in conflict with the ledger."""
    for position, entry in enumerate(entries):
        if position % _EVERY == 0:
            progress(f"{position:,} of {len(entries):,} entries")
        try:
            ledger.store.settle(entry, ledger.postings.owners(entry.user_id, ()))
        except CallConflictError as error:
            yield str(error)
    progress("")


@contextmanager
def _lines(file: str) -> Iterator[Iterable[str]]:
    if file == "-":
        yield sys.stdin
        return
    if not Path(file).is_file():
        raise UsageError(f"there is no file {file}: `costtrace export DB -o FILE` writes one")
    with open(file, encoding="utf-8") as lines:
        yield lines


def _entries(lines: Iterable[str], file: str) -> Iterator[CostEntry]:
    number = 0
    try:
        for line in lines:
            number += 1
            if line.strip():
                yield entry_of(line)
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}, after line {number}: no text in UTF-8") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file}, line {number}: {error}") from error

"""`costtrace import`: JSON lines into a ledger of any home, each of them once."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

from costtrace.cli.arguments import add_json
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_store, store_made_by
from costtrace.cli.output import note, progress, show_json
from costtrace.cli.record_lines import record_of
from costtrace.reports.section import counted
from costtrace.stores import SQLiteStore
from costtrace.stores.base import Store
from costtrace.stores.moving import Loaded, Origin, Record, load, movable

_EPILOG = """\
An entry that is in the ledger already, at the same cost, changes nothing; at another cost it is a
conflict: it is left as it is, and the exit status is 1. Nothing comes in if a line cannot be read.
Into PostgreSQL, Redis or any other home: --store MODULE:FACTORY in place of DB, where FACTORY is
called without arguments and returns the store. The file of a whole ledger makes the same ledger.
"""
_EVERY = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "db", metavar="DB", nargs="?", help="the ledger's SQLite file; a new one is made"
    )
    parser.add_argument("file", metavar="FILE", help="as `costtrace export` writes it; `-`: stdin")
    add_store(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read every line, then take in what is new."""
    if (arguments.db is None) == (arguments.store is None):
        raise UsageError("name one ledger: costtrace import costs.db FILE, or --store, and a FILE")
    with _text(arguments.file) as text:
        lines = _checked(text, arguments.file)
        text.seek(0)
        with closing(_target(arguments)) as store:
            records = _with_progress(_records(text, arguments.file), lines)
            loaded = load(movable(store), records)
    _tell(loaded, arguments.json)
    return 1 if loaded.conflicts else 0


def _tell(loaded: Loaded, is_json: bool) -> None:
    if is_json:
        facts = {"schema": "costtrace.import", "schema_version": 1, "read": loaded.entries}
        show_json({**facts, "added": loaded.added, "conflicts": loaded.conflicts})
        return
    known = max(loaded.entries - loaded.added - len(loaded.conflicts), 0)
    came = counted(loaded.added, "entry", "entries")
    note(f"{came} came in, {counted(known, 'was', 'were')} there already")
    for conflict in loaded.conflicts:
        note(f"costtrace: {conflict}")


def _target(arguments: argparse.Namespace) -> Store:
    if arguments.store is not None:
        return store_made_by(arguments.store)
    return SQLiteStore(arguments.db, synchronous="NORMAL")  # one flush at the end will do


def _with_progress(records: Iterable[Record], lines: int) -> Iterator[Record]:
    for position, record in enumerate(records):
        if position % _EVERY == 0:
            progress(f"{position:,} of {lines:,} lines")
        yield record
    progress("")


@contextmanager
def _text(file: str) -> Iterator[TextIO]:
    """Open what is to be read, twice."""
    if file == "-":
        with tempfile.TemporaryFile("w+", encoding="utf-8") as copy:
            shutil.copyfileobj(sys.stdin, copy)
            copy.seek(0)
            yield copy
        return
    if not Path(file).is_file():
        raise UsageError(f"there is no file {file}: `costtrace export DB -o FILE` writes one")
    with open(file, encoding="utf-8") as lines:
        yield lines


def _checked(lines: Iterable[str], file: str) -> int:
    """Read all lines and return how many there are; raises `UsageError` for what is wrong."""
    number, is_whole, is_over = 0, False, False
    try:
        for line in lines:
            number += 1
            if line.strip():
                record = record_of(line)
                is_whole = is_whole or isinstance(record, Origin)
                is_over = isinstance(record, int)
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}, after line {number}: no text in UTF-8") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file}, line {number}: {error}") from error
    if is_whole and not is_over:
        raise UsageError(f"{file} was cut off after line {number}: its end is missing")
    return number


def _records(lines: Iterable[str], file: str) -> Iterator[Record]:
    for line in lines:
        if line.strip():
            record = record_of(line)
            if not isinstance(record, int):
                yield record

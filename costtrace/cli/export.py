"""`costtrace export`: a whole ledger as JSON lines, or the entries of a stretch of time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TextIO

from costtrace.cli.arguments import check_span, moment
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_ledger, named_store
from costtrace.cli.output import note
from costtrace.cli.record_lines import end_line, line_of
from costtrace.reports.section import counted
from costtrace.stores.base import Query
from costtrace.stores.moving import Movable, Record, movable, records_of

_EPILOG = """\
Without --since and --until all of the ledger is written: `costtrace import` makes the same ledger
of it in any home, to the last budget, alert and balance. Other processes may go on meanwhile.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    add_ledger(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    parser.add_argument("--since", type=moment, metavar="TIME", help="entries from then on alone")
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to, but not including")


def run(arguments: argparse.Namespace) -> int:
    """Write every record, the entries in the order they came in."""
    check_span(arguments)
    with closing(named_store(arguments)) as store, _destination(arguments.output) as out:
        is_whole = arguments.since is None and arguments.until is None
        query = Query(since=arguments.since, until=arguments.until)
        lines, entries = 0, 0
        for record in _records(movable(store), query, is_whole):
            out.write(f"{line_of(record)}\n")
            lines += 1
            entries += hasattr(record, "is_lapsed")
        if is_whole:
            out.write(f"{end_line(lines)}\n")
    if arguments.output:
        note(f"{counted(entries, 'entry', 'entries')} written to {arguments.output}")
    return 0


def _records(store: Movable, query: Query, is_whole: bool) -> Iterator[Record]:
    return records_of(store) if is_whole else store.charged(query)


@contextmanager
def _destination(file: str | None) -> Iterator[TextIO]:
    if file is None or file == "-":
        yield sys.stdout
        return
    try:
        with open(file, "w", encoding="utf-8") as out:
            yield out
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error

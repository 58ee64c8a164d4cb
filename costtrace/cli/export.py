"""`costtrace export`: a ledger's entries as JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from costtrace.accounting.entry_lines import line_of
from costtrace.cli.arguments import moment
from costtrace.cli.errors import UsageError
from costtrace.cli.ledger_files import add_ledger, open_store
from costtrace.cli.output import note
from costtrace.stores.base import Query


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    add_ledger(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    parser.add_argument("--since", type=moment, metavar="TIME", help="from then on")
    parser.add_argument("--until", type=moment, metavar="TIME", help="up to, but not including")


def run(arguments: argparse.Namespace) -> int:
    """Write every entry, in the order they came in."""
    store = open_store(arguments.db)
    written = 0
    with _destination(arguments.output) as out:
        for entry in store.entries(Query(since=arguments.since, until=arguments.until)):
            out.write(f"{line_of(entry)}\n")
            written += 1
    if arguments.output:
        note(f"{written:,} entries written to {arguments.output}")
    store.close()
    return 0


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

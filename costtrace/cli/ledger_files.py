"""Opening a ledger's file that is there already; none is ever made by looking."""

from __future__ import annotations

import argparse
from pathlib import Path

from costtrace.accounting import CostLedger
from costtrace.cli.errors import UsageError
from costtrace.stores import SQLiteStore


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Let a command take the file of a ledger."""
    parser.add_argument("db", metavar="DB", help="the ledger's SQLite file")


def existing_ledger(path: str) -> Path:
    """Return the path of a ledger that is there already; nothing is created."""
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{path} is a folder: name the ledger's file in it")
    if not file.is_file():
        raise UsageError(
            f"there is no ledger {path}: name a file that CostLedger(path=...), COSTTRACE_DB or "
            "`costtrace demo` has written"
        )
    if file.stat().st_size == 0:
        raise UsageError(f"{path} is empty, and no ledger")
    return file


def open_ledger(path: str) -> CostLedger:
    """Open a ledger that is there already."""
    return CostLedger(path=existing_ledger(path))


def open_store(path: str) -> SQLiteStore:
    """Open the store of a ledger that is there already."""
    return SQLiteStore(existing_ledger(path))

"""Opening the ledger that a command line names: a file that is there, or a store from a factory.

Nothing is ever made by looking.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from costtrace.accounting import CostLedger, default_ledger
from costtrace.accounting.options import checked_store
from costtrace.cli.errors import UsageError
from costtrace.exceptions import CosttraceError
from costtrace.stores import SQLiteStore
from costtrace.stores.base import Store


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Let a command take a ledger: a file, or a store that a function makes."""
    parser.add_argument("db", metavar="DB", nargs="?", help="the ledger's SQLite file")
    add_store(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Let a command take a store that a function makes."""
    parser.add_argument(
        "--store",
        metavar="MODULE:FACTORY",
        help="a ledger elsewhere: what FACTORY in MODULE returns, called without arguments",
    )


def named_ledger(arguments: argparse.Namespace) -> CostLedger:
    """Open the ledger that a command line names."""
    if _is_file(arguments):
        return open_ledger(arguments.db)
    return CostLedger(store=store_made_by(arguments.store))


def named_store(arguments: argparse.Namespace) -> Store:
    """Open the store of the ledger that a command line names."""
    return open_store(arguments.db) if _is_file(arguments) else store_made_by(arguments.store)


def _is_file(arguments: argparse.Namespace) -> bool:
    if (arguments.db is None) == (arguments.store is None):
        raise UsageError("name one ledger: a file such as costs.db, or --store MODULE:FACTORY")
    return arguments.db is not None


def store_made_by(name: str) -> Store:
    """Return the store that a factory makes; modules of the working folder are found."""
    module, is_there, factory = name.partition(":")
    if not (module and is_there and factory):
        raise UsageError(f"--store {name}: write MODULE:FACTORY, such as myapp.costs:open_store")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        make = import_module(module)
    except Exception as error:  # it is the user's own module, and may raise anything
        what = _worded(error) if not isinstance(error, ImportError) else error
        raise UsageError(f"--store {name}: {module} cannot be imported: {what}") from error
    for part in factory.split("."):
        make = getattr(make, part, None)  # type: ignore[assignment]
    if not callable(make):
        raise UsageError(f"--store {name}: {module} has no function {factory}")
    try:
        store = make()
    except CosttraceError:
        raise  # which says what is wrong with the store
    except Exception as error:
        raise UsageError(f"--store {name}: {factory} raised {_worded(error)}") from error
    try:
        return checked_store(None, store)
    except TypeError as error:
        raise UsageError(f"--store {name}: {error}") from error


def _worded(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def environment_ledger() -> CostLedger:
    """Return the process's ledger, as the environment has it."""
    try:
        return default_ledger()
    except ValueError as error:
        raise UsageError(str(error)) from error


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

"""`costtrace run`: a Python script under a budget, without a change to it.

Every SDK call in the process is seen, whichever thread or library makes it; calls inside the
script's own scopes keep their function and user.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from costtrace.accounting import CostLedger, configure, default_ledger
from costtrace.accounting.summaries import summary_of
from costtrace.api import Budget, budget, tracked
from costtrace.cli.arguments import amount
from costtrace.cli.errors import UsageError
from costtrace.cli.output import is_colored, note
from costtrace.entry import Alert
from costtrace.exceptions import BudgetExceededError
from costtrace.instrumentation import instrument, is_disabled, uninstrument
from costtrace.money import format_usd
from costtrace.reports import render_text
from costtrace.reports.section import counted
from costtrace.stores.base import EVERYTHING

_WINDOWS = ("run", "hour", "day", "week", "month", "always")
_EPILOG = """\
examples:
  costtrace run --limit 0.50 script.py --its-own-option
  costtrace run --user nightly --limit 20 --window month --db costs.db -m package.job

The limit holds for this run alone, unless --window says otherwise; with `hour` to `always` it
counts what the user has spent in the ledger before. Options after the script are the script's.
Processes that the script starts are not seen: run them with `costtrace run` too.
The exit status is the script's; 1 if a budget stopped it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "costtrace run [options] SCRIPT.py|-m MODULE [arguments]"
    parser.add_argument("--user", default="anon", metavar="ID", help="who pays (anon)")
    parser.add_argument("--limit", type=amount, metavar="USD", help="what it may cost at most")
    parser.add_argument(
        "--window", choices=_WINDOWS, default="run", help="what the limit counts (run)"
    )
    parser.add_argument(
        "--db", metavar="PATH", help="keep the ledger in this SQLite file; COSTTRACE_DB names one"
    )
    parser.add_argument(
        "--report", action="store_true", help="print the report at the end, on standard error"
    )
    parser.add_argument("-m", dest="is_module", action="store_true", help="run a module by name")
    parser.add_argument("script", metavar="SCRIPT", help=argparse.SUPPRESS)
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    rest.required = False  # there may be none, and so it is never one that is missing


def run(arguments: argparse.Namespace) -> int:
    """Run the script; return its exit status, or 1 if a budget stopped it."""
    if is_disabled():
        raise UsageError("COSTTRACE_DISABLED is set, so no limit could hold: unset it")
    script = _script(arguments)
    ledger = _ledger(arguments.db)
    ledger.on_alert(_show_alert)
    calls_before, cost_before = ledger.store.sums().calls, ledger.total_cost
    purse = _purse(arguments, ledger)
    instrument()
    try:
        status = _status_of(tracked(function_name=_name(arguments))(purse(script)))
    finally:
        uninstrument()
    ledger.flush()
    if arguments.report:
        summary = summary_of(
            ledger.store, EVERYTHING, now=ledger.now(), prices_date=ledger.prices.as_of
        )
        note(render_text(summary, is_colored=is_colored(sys.stderr)))
    calls, cost = ledger.store.sums().calls - calls_before, ledger.total_cost - cost_before
    of_limit = "" if arguments.limit is None else f" (limit {format_usd(arguments.limit)})"
    note(f"costtrace: {counted(calls, 'call', 'calls')}, {format_usd(cost)}{of_limit}")
    return status


def _ledger(path: str | None) -> CostLedger:
    """Return a ledger of our own in the same place as the script's, which it may close."""
    try:
        theirs = default_ledger() if path is None else configure(path=path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    place = getattr(theirs.store, "path", None)
    if place is None:
        return theirs
    return CostLedger(theirs.budget_usd, path=place, prices=theirs.prices)


def _purse(arguments: argparse.Namespace, ledger: CostLedger) -> Budget:
    window = {"run": "block", "always": None}.get(arguments.window, arguments.window)
    try:
        return budget(arguments.user, arguments.limit, window=window, ledger=ledger)
    except ValueError as error:
        raise UsageError(f"--user {arguments.user!r}: {error}") from error


def _name(arguments: argparse.Namespace) -> str:
    return str(arguments.script) if arguments.is_module else Path(arguments.script).name


def _script(arguments: argparse.Namespace) -> Callable[[], None]:
    """Return what runs the script as `python SCRIPT` or `python -m MODULE` does."""
    name = arguments.script
    if not arguments.is_module and not Path(name).is_file():
        raise UsageError(f"there is no script {name}; a module is run with -m")

    def script() -> None:
        sys.argv = [name, *arguments.arguments]
        try:
            if arguments.is_module:
                sys.path.insert(0, os.getcwd())
                _check_module(name)
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, str(Path(name).resolve().parent))
                runpy.run_path(name, run_name="__main__")
        finally:
            _join_threads()

    return script


def _check_module(name: str) -> None:
    try:
        is_there = find_spec(name) is not None
    except (ImportError, ValueError):  # its package is not there, or it is no name
        is_there = False
    if not is_there:
        raise UsageError(f"there is no module {name}: a file is run without -m")


def _join_threads() -> None:
    """Wait for the script's threads, as Python does at its end: the budget holds for them too."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _status_of(script: Callable[[], Any]) -> int:
    """Run the script; return the exit status that Python would give it."""
    try:
        script()
    except SystemExit as done:
        if done.code is None or isinstance(done.code, int):
            return done.code or 0
        print(done.code, file=sys.stderr)
        return 1
    except BudgetExceededError as error:
        note(f"costtrace: stopped by a budget: {error}")
        return 1
    except UsageError:
        raise
    except Exception as error:
        traceback.print_exception(type(error), error, _of_script(error.__traceback__))
        return 1
    return 0


def _of_script(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from where it enters the script: what ran it is of no interest."""
    inner = trace
    while inner is not None and _is_ours(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return inner or trace


def _is_ours(file: str) -> bool:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return file.startswith((here, "<frozen runpy")) or os.path.basename(file) == "runpy.py"


def _show_alert(alert: Alert) -> None:
    note(f"costtrace: {alert}")

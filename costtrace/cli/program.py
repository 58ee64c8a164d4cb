"""`main`: finds the command, loads only that one, and turns what happens into an exit status.

0: done. 1: a gate failed, or a budget stopped the work. 2: wrong usage. Data goes to standard
output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn, Protocol, TextIO, cast

from costtrace import __version__
from costtrace.cli.errors import UsageError, meant
from costtrace.exceptions import BudgetExceededError, CosttraceError, CosttraceWarning

DONE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + the signal's number, as shells count

COMMANDS = {  # name -> what `costtrace --help` says of it; the module has the same name
    "demo": "run a small application against a provider on this machine, and report on it",
    "run": "run a Python script under a budget, and say what it cost",
    "report": "what was spent: by function, model and user, or any other way",
    "budgets": "where each budget stands; or what another one would have refused",
    "advise": "what would have cost less: caching, batches, other models, shorter histories",
    "diff": "what changed between two ledgers: tokens, models, prices; a gate for CI",
    "estimate": "what a text, a conversation or a batch file will cost, before it is sent",
    "compare": "several models are asked the same: what each costs, and which are right",
    "prices": "what a model costs, since when, and who says so",
    "reprice": "what a ledger would have cost at other prices",
    "tokenizers": "which vocabularies are on this machine; fetches them on request",
    "doctor": "check versions, patches, prices, settings, and a ledger's health",
    "verify": "check that a ledger's balances equal the sums of its entries",
    "export": "write a whole ledger, or some of its entries, as JSON lines",
    "import": "read JSON lines into a ledger of any home; each entry comes in once",
    "backup": "copy a ledger to a new file while others go on writing",
    "forget": "put a pseudonym in place of a user; every sum stays",
    "prune": "let old entries go; every sum stays",
}
_MODULES = {"import": "import_"}  # where the name is a word of Python


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """State the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit status."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required", "missing")
        print(f"costtrace: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(WRONG_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, that of this process without `argv`; return its exit status."""
    try:
        with _warnings_in_one_line():
            status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        _discard(sys.stdout)
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (UsageError, CosttraceError, OSError) as error:
        print(f"costtrace: {_one_line(error)}", file=sys.stderr)
        return FAILED if isinstance(error, BudgetExceededError) else WRONG_USAGE
    return status


def _run(argv: list[str]) -> int:
    parser, commands = _parsers()
    name = next((word for word in argv if not word.startswith("-")), None)
    if name in COMMANDS:
        command = cast(Command, import_module(f"costtrace.cli.{_MODULES.get(name, name)}"))
        command.add_arguments(commands[name])
    elif not argv:
        parser.print_help()
        return DONE
    elif name is not None:
        raise UsageError(f"there is no command {name!r}{meant(name, COMMANDS)} (costtrace --help)")
    try:
        arguments = _parsed(argv, parser, commands.get(name or "", parser))
    except SystemExit as done:
        return int(done.code or DONE)
    return command.run(arguments)


def _parsed(argv: list[str], parser: _Parser, command: argparse.ArgumentParser) -> Any:
    """Return the arguments; what is too much is an error of the command that was asked for."""
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [option for action in command._actions for option in action.option_strings]
        command.error(f"unrecognized arguments: {' '.join(unknown)}{meant(unknown[0], known)}")
    return arguments


def _parsers() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog="costtrace",
        description="See, attribute and limit what your LLM calls cost.",
        epilog="costtrace COMMAND --help tells more. Start with: costtrace demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"costtrace {__version__}")
    choices = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    return parser, {
        name: choices.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        for name, text in COMMANDS.items()
    }


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show our own warnings as one line; all others as ever."""
    with warnings.catch_warnings():
        warnings.showwarning = _shown(warnings.showwarning)
        yield


def _shown(otherwise: Callable[..., None]) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, CosttraceWarning):
            print(f"costtrace: {_one_line(message)}", file=sys.stderr)
        else:
            otherwise(message, category, *where)

    return show


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _discard(stream: TextIO) -> None:
    """Let what is still to be written to a closed pipe go nowhere, without a complaint."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return

"""`costtrace tokenizers`: which vocabularies are on this machine; fetches on request."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from costtrace.cli.arguments import add_json
from costtrace.cli.errors import UsageError
from costtrace.cli.output import note, progress, show, show_json
from costtrace.reports import Column, table
from costtrace.tokens import TokenizerStatus, fetch, tokenizers

_COLUMNS = (
    "Tokenizer",
    "Here",
    Column("Bytes", is_number=True),
    Column("Models", can_shrink=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.add_argument(
        "--fetch", metavar="NAME", help="download this one into tiktoken's cache, or `all`"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the vocabularies, after fetching what was asked for."""
    status = 0
    if arguments.fetch:
        status = _fetch(arguments.fetch)
    found = tokenizers()
    if arguments.json:
        show_json(
            {
                "schema": "costtrace.tokenizers",
                "schema_version": 1,
                "tokenizers": [_facts(one) for one in found],
            }
        )
        return status
    show(table([_cells(one) for one in found], _COLUMNS))
    folder = next((one.file.parent for one in found if one.file), None)
    note(f"tiktoken's cache: {folder or 'switched off, TIKTOKEN_CACHE_DIR is empty'}")
    return status


def _fetch(name: str) -> int:
    """Fetch one or all; 1 if something could not be had."""
    known = [one.name for one in tokenizers()]
    if name != "all" and name not in known:
        raise UsageError(f"no tokenizer is called {name!r}: there are {', '.join(known)}, or all")
    failed = 0
    for each in known if name == "all" else [name]:
        try:
            file = fetch(each, partial(_show_progress, each))
        except (OSError, ValueError) as error:
            progress("")
            note(f"costtrace: {each} could not be fetched: {error}")
            failed += 1
        else:
            progress("")
            note(f"{each} is in {file}")
    return 1 if failed else 0


def _show_progress(name: str, done: int, whole: int | None) -> None:
    progress(f"{name}: {done:,} of {whole:,} bytes" if whole else f"{name}: {done:,} bytes")


def _cells(one: TokenizerStatus) -> tuple[str, ...]:
    return (one.name, "yes" if one.cached else "no", f"{one.bytes:,}", ", ".join(one.models))


def _facts(one: TokenizerStatus) -> dict[str, Any]:
    return {
        "name": one.name,
        "is_cached": one.cached,
        "bytes": one.bytes,
        "file": None if one.file is None else str(one.file),
        "models": list(one.models),
    }

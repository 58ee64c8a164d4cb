"""Where output goes: data to standard output or a file, notes to standard error."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, TextIO

from costtrace.cli.errors import UsageError
from costtrace.money import exact_text

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def show(text: str, file: str | None = None) -> None:
    """Write data: to standard output, or to `file` (`-` is standard output too)."""
    text = text if text.endswith("\n") or not text else f"{text}\n"
    if file is None or file == "-":
        sys.stdout.write(_encodable(text, sys.stdout))
        return
    try:
        with open(file, "w", encoding="utf-8", newline="") as out:
            out.write(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def show_json(document: Any, file: str | None = None) -> None:
    """Write a document as JSON: money as text, times in ISO 8601."""
    show(json.dumps(document, indent=2, ensure_ascii=False, default=_plain), file)


def note(text: str) -> None:
    """Tell the user something that is no data."""
    print(_encodable(text, sys.stderr), file=sys.stderr, flush=True)


def progress(text: str) -> None:
    """Show how far a long work is, on a terminal, in one line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def is_colored(stream: TextIO) -> bool:
    """Tell whether colors are welcome: on a terminal, unless the environment decides."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def days_old(days: int) -> str:
    """Return an age in words."""
    return "1 day old" if days == 1 else f"{days} days old"


def bold(text: str) -> str:
    """Return a text to stand out on standard output, where colors are welcome."""
    return f"{_BOLD}{text}{_PLAIN}" if is_colored(sys.stdout) else text


def dim(text: str) -> str:
    """Return a text to stand back on standard output, where colors are welcome."""
    return f"{_DIM}{text}{_PLAIN}" if is_colored(sys.stdout) else text


def money(amount: Decimal | None) -> str | None:
    """Return an amount as JSON has it: all its digits as text, null where it is not known."""
    return None if amount is None else exact_text(amount)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return exact_text(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    return str(value)


def _encodable(text: str, stream: TextIO) -> str:
    """Return what the stream can write of a text: a terminal in another encoding shows a `?`."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)

"""Arguments that several commands have, and what their texts mean."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

from costtrace.cli.errors import UsageError

_AGO = re.compile(r"(\d{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def add_json(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """Let a command answer in JSON."""
    parser.add_argument("--json", action="store_true", help="as JSON; money is text, exact")


def moment(text: str) -> datetime:
    """Read an instant: `2026-11-01` (its midnight UTC), `2026-11-01T12:00`, or `7d`, `36h` ago."""
    if ago := _AGO.fullmatch(text):
        return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        read = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-11-01, 2026-11-01T12:00 (UTC), or 7d, 36h, 30m ago"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=timezone.utc)


def check_span(arguments: argparse.Namespace) -> None:
    """Raise `UsageError` where nothing can lie between `--since` and `--until`."""
    since, until = arguments.since, arguments.until
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"--since {since:%Y-%m-%d %H:%M} is not before --until {until:%Y-%m-%d %H:%M}"
        )


def amount(text: str) -> Decimal:
    """Read an amount of US dollars, such as `5` or `0.50`; a dollar sign does no harm."""
    try:
        read = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        read = Decimal("NaN")
    if not read.is_finite() or read < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of US dollars such as 5 or 0.50")
    return read


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def tag(text: str) -> tuple[str, str]:
    """Read `name=value`."""
    name, is_there, value = text.partition("=")
    if not name or not is_there:
        raise argparse.ArgumentTypeError(f"{text!r} is no tag: write name=value")
    return name, value

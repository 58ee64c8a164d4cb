"""Limits as they are written on a command line: `alice=5/month`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from costtrace.accounting import Window
from costtrace.cli.arguments import amount

EVERYONE = "*"
_CALENDAR = ("hour", "day", "week", "month")
_ROLLING = re.compile(r"(\d{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit to try: who, how much, and in which window."""

    user_id: str
    amount: Decimal
    window: Any = None
    """As `budget` takes it."""

    @property
    def window_name(self) -> str | None:
        """The window as a report names it."""
        return Window.of(self.window).name


def limit(text: str) -> Limit:
    """Read `alice=5/month`, `*=0.50/day`, `bob=20`."""
    user_id, is_there, rest = text.rpartition("=")
    if not user_id or not is_there:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit: write alice=5/month or *=0.50/day")
    money, _, window = rest.partition("/")
    return Limit(user_id, amount(money), _window(window, text))


def _window(text: str, whole: str) -> Any:
    if not text or text in _CALENDAR:
        return text or None
    if (rolling := _ROLLING.fullmatch(text)) and int(rolling[1]):
        return timedelta(**{_UNITS[rolling[2]]: int(rolling[1])})
    raise argparse.ArgumentTypeError(
        f"{whole!r} has no window that there is: hour, day, week, month, or a rolling 24h, 7d"
    )

"""What a command says when it was asked for something that cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """The user asked for what cannot be; the text says what is wrong and what would be right.

    It is shown as one line, and the exit status is 2.
    """


def meant(name: str, known: Iterable[str], most: int = 1) -> str:
    """Return the question that follows a misspelt name; empty where no known one is near."""
    close = get_close_matches(name, list(known), most)
    return f"; did you mean {', '.join(close)}?" if close else ""

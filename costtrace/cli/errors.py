"""What a command says when it was asked for something that cannot be."""

from __future__ import annotations


class UsageError(Exception):
    """The user asked for what cannot be; the text says what is wrong and what would be right.

    It is shown as one line, and the exit status is 2.
    """

"""What differs between PEP 249 drivers: parameters, texts, numbers, errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any

from costtrace.exceptions import BudgetStoreError

_MARKS: Mapping[str, Callable[[int], str]] = {
    "qmark": lambda _n: "?",
    "numeric": lambda n: f":{n}",
    "named": lambda n: f":p{n}",
    "format": lambda _n: "%s",
    "pyformat": lambda n: f"%(p{n})s",
}
PARAMSTYLES = tuple(_MARKS)
_BY_NAME = ("named", "pyformat")

AGAIN = {"40001", "40P01", "CT001"}  # serialization failure, deadlock, names that have changed
TOO_LATE = "CT002"
_TIMED_OUT = {"57014", "55P03", "25P03", TOO_LATE}
_CONNECTION_ENDED = {"57P01", "57P02", "57P03", "57P05", "25P03"}
_OUT_OF_RANGE = {"22003", "23514"}


def paramstyle_of(connection: object) -> str:
    """Return the driver's `paramstyle`; raises `TypeError` where there is none."""
    parts = type(connection).__module__.split(".")
    for length in range(len(parts), 0, -1):
        style = getattr(sys.modules.get(".".join(parts[:length])), "paramstyle", None)
        if style in PARAMSTYLES:
            return str(style)
    raise TypeError(
        f"{type(connection).__module__} names no paramstyle: pass paramstyle= one of "
        f"{', '.join(PARAMSTYLES)}"
    )


@lru_cache(maxsize=256)
def written_for(style: str, statement: str) -> str:
    """Return a statement that has `?` for its values as the driver wants it."""
    if style == "qmark":
        return statement
    parts = statement.split("?")
    mark = _MARKS[style]
    return parts[0] + "".join(mark(n) + part for n, part in enumerate(parts[1:], 1))


def values_for(style: str, values: Sequence[Any]) -> Any:
    """Return the values in the form that belongs to the style; texts can be kept by PostgreSQL."""
    kept = [escaped(value) if isinstance(value, str) else value for value in values]
    if style in _BY_NAME:
        return {f"p{n}": value for n, value in enumerate(kept, 1)}
    return tuple(kept)


def escaped(text: str) -> str:
    """Return a text without NUL, from which `unescaped` makes the same again."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1b").replace("\0", "\1a")
    return text


def unescaped(text: str) -> str:
    """Return the text that was escaped."""
    return text.replace("\1a", "\0").replace("\1b", "\1") if "\1" in text else text


def as_python(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row's values: sums are ints again, texts what they were."""
    return tuple(
        unescaped(value)
        if isinstance(value, str)
        else int(value)
        if isinstance(value, Decimal)
        else value
        for value in row
    )


def sqlstate(error: BaseException) -> str | None:
    """Return the five characters by which PostgreSQL says what went wrong; None without."""
    for name in ("sqlstate", "pgcode"):
        state = getattr(error, name, None)
        if isinstance(state, str):
            return state
    with suppress(Exception):
        state = error.args[0]["C"]  # pg8000
        if isinstance(state, str):
            return state
    return None


def has_ended_connection(error: BaseException) -> bool:
    """Return whether the connection can no longer be used: errors of the server have a state."""
    state = sqlstate(error)
    return state is None or state.startswith("08") or state in _CONNECTION_ENDED


def as_ours(error: BaseException, what: str = "the database") -> BudgetStoreError:
    """Return what a caller is told."""
    state = sqlstate(error)
    text = " ".join(str(error).split())[:500] or type(error).__name__
    if state in _OUT_OF_RANGE:
        text = f"a sum would pass what the ledger can count to, or it is damaged: {text}"
    elif state in _TIMED_OUT:
        text = f"the step took too long and was undone: {text}"
    return BudgetStoreError(f"{what}: {text}")

"""A committed file of how many tokens each test uses, and what has grown beyond it.

It holds tokens and models, never prices: a provider's new price fails nobody's build.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

SCHEMA = "costtrace.lock"
VERSION = 1


@dataclass(frozen=True, slots=True)
class TestUse:
    """What the calls of one test used; `cost_usd` is None where a price is not known."""

    calls: int
    input_tokens: int
    output_tokens: int
    models: tuple[str, ...]
    cost_usd: Decimal | None = Decimal(0)

    @property
    def tokens(self) -> int:
        """Sent and generated."""
        return self.input_tokens + self.output_tokens


def read_lock(path: str | os.PathLike[str]) -> dict[str, TestUse]:
    """Return what each test of a lock file used; ValueError for a file that is none."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {SCHEMA!r}")
        if document["schema_version"] != VERSION:
            raise ValueError(f"its version is {document['schema_version']!r}, known is {VERSION}")
        return {test: _use(row) for test, row in document["tests"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise ValueError(f"{path} is no lock of costs: {problem}") from None


def write_lock(path: str | os.PathLike[str], uses: Mapping[str, TestUse]) -> None:
    """Write a lock file, in order of the tests' names: it is made to be committed and compared."""
    document = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "tests": {test: _row(uses[test]) for test in sorted(uses)},
    }
    Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def grown(
    locked: Mapping[str, TestUse], found: Mapping[str, TestUse], tolerance: Fraction
) -> list[str]:
    """Return what the gate has against the tests that ran: those whose tokens grew by more.

    A test that is not in the lock fails nothing; but if none of those that made calls is, the gate
    could not do its work, and says so.
    """
    both = [test for test in found if test in locked]
    if not both:
        return ["no test that made calls is in the lock, so the gate could not compare anything"]
    return [
        f"{test}: {found[test].tokens:,} tokens against {locked[test].tokens:,}"
        f"{_other_models(locked[test], found[test])}"
        for test in both
        if found[test].tokens > locked[test].tokens * (1 + tolerance)
    ]


def share(text: str) -> Fraction:
    """Read `10%` or `0.1`."""
    try:
        number = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise ValueError(f"{text!r} is no share: write 10% or 0.1")
    return Fraction(number) / (100 if text.endswith("%") else 1)


def _other_models(was: TestUse, now: TestUse) -> str:
    if was.models == now.models:
        return ""
    return f" ({', '.join(was.models)} before, now {', '.join(now.models)})"


def _row(use: TestUse) -> dict[str, Any]:
    return {
        "calls": use.calls,
        "input_tokens": use.input_tokens,
        "output_tokens": use.output_tokens,
        "models": list(use.models),
    }


def _use(row: Mapping[str, Any]) -> TestUse:
    use = TestUse(
        calls=row["calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        models=tuple(row["models"]),
    )
    if not all(isinstance(n, int) for n in (use.calls, use.input_tokens, use.output_tokens)):
        raise ValueError("calls and tokens are whole numbers")
    return replace(use, models=tuple(map(str, use.models)))

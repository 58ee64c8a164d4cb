"""The published numbers that the price list is held against, one row for each tier and context."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest

from costtrace.pricing import PriceTable

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
LONG_AGO = datetime(2024, 1, 1, tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)


class ListedRow(NamedTuple):
    """What each part costs in one tier and context: picodollars for the smallest billed unit.

    Tokens by the token, characters by the character, audio by the minute.
    """

    model: str
    tier: str
    context: str
    variant: str
    since: datetime | None
    until: datetime | None
    long_above: int | None
    parts: dict[str, int]

    @property
    def moments(self) -> list[datetime]:
        """The first and the last instant at which the row holds."""
        first = (
            self.since or LONG_AGO if self.until is None else self.since or self.until - 9 * TICK
        )
        return [first, NOW + timedelta(days=365) if self.until is None else self.until - TICK]

    @property
    def operation(self) -> str:
        return "decisions" if self.tier == "decisions" else ""


def _when(text: str) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc) if text else None


def _rows() -> list[ListedRow]:
    with (DATA / "prices.csv").open() as file:
        return [
            ListedRow(
                *(row["model"], row["tier"], row["context"], row["variant"]),
                *(_when(row["since"]), _when(row["until"])),
                int(row["long_above"]) if row["long_above"] else None,
                {k: int(v) for k, v in (part.split("=") for part in row["picodollars"].split())},
            )
            for row in csv.DictReader(file)
        ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "listed" in metafunc.fixturenames:
        rows = _rows()
        ids = [
            f"{r.model}-{r.tier}-{r.context}-{r.variant}-{r.since:%y%m%d}"
            if r.since
            else f"{r.model}-{r.tier}-{r.context}-{r.variant}"
            for r in rows
        ]
        metafunc.parametrize("listed", rows, ids=ids)


@pytest.fixture(scope="session")
def table() -> PriceTable:
    """The bundled table."""
    return PriceTable.bundled()


@pytest.fixture(scope="session")
def rows() -> list[ListedRow]:
    """Every published row."""
    return _rows()


@pytest.fixture(scope="session")
def listed_models() -> list[dict[str, str]]:
    """Every published model: provider, aliases, limits, and whether a place multiplies it."""
    with (DATA / "models.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def now() -> datetime:
    """A moment at which the list was up to date."""
    return NOW

"""The price files that a command line or the environment names."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from costtrace.cli.errors import UsageError
from costtrace.pricing import PriceTable


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Let a command take prices of the user's own; the environment may name them too."""
    parser.add_argument(
        "--prices",
        metavar="FILE",
        default=os.environ.get("COSTTRACE_PRICES", "").strip() or None,
        help="with prices of your own on top; COSTTRACE_PRICES names the file too",
    )


def price_table(path: str | None) -> PriceTable:
    """Return the bundled prices, with those of a file on top if one is named."""
    return PriceTable.bundled() if path is None else PriceTable.load(price_file(path))


def price_file(path: str) -> Path:
    """Return the path of a price file that is there."""
    if not Path(path).is_file():
        raise UsageError(f"there is no price file {path}: name a JSON or TOML file")
    return Path(path)

"""All benchmarks, one table: `python -m tests.benchmarks [--quick] [--rivals] [--stores] ...`.

Under three minutes without options. Ratios within one run are the figures; absolute numbers are
the machine's. `--rivals` installs other tools, each into a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
from importlib.metadata import version

from tests.benchmarks import budgets, calls, imports, records, rivals
from tests.benchmarks.measuring import heading


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 100,000 entries")
    parser.add_argument("--rivals", metavar="FOLDER", nargs="?", const="", help=rivals.HELP)
    parser.add_argument("--stores", action="store_true", help="a file beside a bare SQLite file")
    parser.add_argument("--servers", action="store_true", help="PostgreSQL and Redis, started here")
    parser.add_argument("--scopes", action="store_true", help="scopes, tasks and loops")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, openai {version('openai')}, "
        f"SQLite {sqlite3.sqlite_version}, {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    calls.main(20 if options.quick else 60)
    imports.main(2 if options.quick else 5)
    records.main(100_000 if options.quick else 1_000_000, 3 if options.quick else 9)
    heading("Before a call")
    budgets.main()
    if options.rivals is not None:
        rivals.main(options.rivals, 2 if options.quick else 4)
    for name in ("scopes", "stores", "server_stores"):
        if getattr(options, name.replace("server_stores", "servers")):
            heading(name.replace("_", " "))
            run_module(name)


def run_module(name: str) -> None:
    """Print the table of a module that reads the command line itself."""
    import runpy

    sys.argv = [name]
    runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()

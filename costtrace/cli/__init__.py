"""The command line: `costtrace report costs.db` and its kin, one file for each command."""

from __future__ import annotations

from costtrace.cli.program import main

__all__ = ["main"]

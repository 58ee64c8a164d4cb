"""The lines of a spool: each says its length and its checksum, so that a torn one is told.

A line is `<crc32> <bytes> <json>`. The first one tells whose spool it is, the others are numbered
steps, or the number up to which the steps are done.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

from costtrace.accounting.entry_lines import entry_facts, entry_from_facts
from costtrace.accounting.waiting import Release, Settlement, Waiting

VERSION = 1
_LINE = re.compile(rb"([0-9a-f]{8}) ([0-9]{1,9}) (.*)", re.DOTALL)


def line_of(facts: dict[str, Any]) -> bytes:
    """Return an object as a line, its newline included."""
    text = json.dumps(facts, separators=(",", ":")).encode()
    return b"%08x %d %s\n" % (zlib.crc32(text), len(text), text)


def header(name: str, process: str) -> dict[str, Any]:
    """Return what the first line of a spool says."""
    return {"spool": VERSION, "ledger": name, "process": process}


def step_facts(number: int, step: Waiting) -> dict[str, Any]:
    """Return what a line says of a step."""
    if isinstance(step, Release):
        return {"n": number, "release": step.call_id}
    facts = {"n": number, "settle": entry_facts(step.entry), "owners": step.owners}
    return {**facts, "amend": True} if step.amend else facts


def step_of(facts: dict[str, Any]) -> Waiting:
    """Return the step of a line; raises `ValueError`, `TypeError` or `KeyError` for what is none.

    Never half of one: what a newer version wrote is its to read.
    """
    if facts.keys() == {"n", "release"}:
        return Release(facts["release"])
    if not {"n", "settle", "owners"} <= facts.keys() <= {"n", "settle", "owners", "amend"}:
        raise ValueError(f"no step of a spool: {', '.join(sorted(facts))}")
    entry = entry_from_facts(facts["settle"])
    return Settlement(entry, tuple(facts["owners"]), bool(facts.get("amend", False)))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a spool holds."""

    steps: tuple[tuple[int, dict[str, Any]], ...]
    """Those that are not done, by their numbers."""
    broken: int
    """Whole lines that are not what was written."""
    torn: int
    """Bytes after the last whole line: its process was killed while it wrote them."""

    @classmethod
    def of(cls, data: bytes) -> Contents:
        """Read a whole spool."""
        *lines, tail = data.split(b"\n")
        found = [_read(line) for line in lines]
        sound = [facts for facts in found if facts is not None]
        if sound and sound[0].get("spool", VERSION) != VERSION:
            raise ValueError(f"a spool of version {sound[0]['spool']}, known here is {VERSION}")
        done = max((facts["done"] for facts in sound if "done" in facts), default=-1)
        steps = tuple((facts["n"], facts) for facts in sound if isinstance(facts.get("n"), int))
        waiting = tuple(step for step in steps if step[0] > done)
        return cls(waiting, found.count(None), len(tail))


def _read(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None for one that is not whole."""
    matched = _LINE.fullmatch(line)
    if matched is None:
        return None
    crc, size, text = matched.groups()
    if len(text) != int(size) or zlib.crc32(text) != int(crc, 16):
        return None
    facts = json.loads(text)
    return facts if isinstance(facts, dict) else None

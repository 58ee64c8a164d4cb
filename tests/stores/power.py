"""Power cuts, played back: what a disk may hold when it loses what was not synced."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from servers import missing

HEAD = struct.Struct("<iiqq")
SECTOR = 512
SOURCE = Path(__file__).with_name("disk_log.c")
Left = Literal["gone", "torn", "kept"]
"""What becomes of the writes that were not synced."""


class Event(NamedTuple):
    """Something that was done to a file."""

    kind: str
    name: str
    at: int
    data: bytes


@lru_cache(maxsize=1)
def compiled(folder: Path) -> Path:
    """The library that logs; skips where there is no compiler."""
    if shutil.which("gcc") is None:
        missing("gcc")
    library = folder / "disk_log.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-pthread"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def events(log: Path) -> Iterator[Event]:
    """What was logged, in order."""
    data, position = log.read_bytes(), 0
    while position + HEAD.size <= len(data):
        kind, name_length, at, length = HEAD.unpack_from(data, position)
        position += HEAD.size
        name = data[position : position + name_length].decode()
        position += name_length
        yield Event(chr(kind), Path(name).name, at, data[position : position + length])
        position += length


@dataclass
class Disk:
    """Files as they are on the disk for sure, and what has been written since."""

    files: dict[str, bytearray] = field(default_factory=dict)
    unsynced: dict[str, list[Event]] = field(default_factory=dict)
    syncs: int = 0

    def take(self, event: Event) -> None:
        """Do what was done."""
        if event.kind == "u":
            self.files.pop(event.name, None)
            self.unsynced.pop(event.name, None)
        elif event.kind == "s":
            self.syncs += 1
            content = self.files.setdefault(event.name, bytearray())
            for done in self.unsynced.pop(event.name, []):
                _apply(content, done)
        else:
            self.files.setdefault(event.name, bytearray())
            self.unsynced.setdefault(event.name, []).append(event)

    def cut(self, folder: Path, left: Left, chance: random.Random) -> None:
        """Write the files as a power cut right now may leave them."""
        for name, synced in self.files.items():
            content = bytearray(synced)
            for done in self.unsynced.get(name, []):
                for part in _surviving(done, left, chance):
                    _apply(content, part)
            (folder / name).write_bytes(content)


def _surviving(event: Event, left: Left, chance: random.Random) -> Iterator[Event]:
    if left == "kept":
        yield event
    elif left == "torn" and event.kind == "t":
        if chance.random() < 0.5:
            yield event
    elif left == "torn":
        for start in range(0, len(event.data), SECTOR):
            if chance.random() < 0.5:
                sector = event.data[start : start + SECTOR]
                yield event._replace(at=event.at + start, data=sector)


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "t":
        del content[event.at :]
        content.extend(b"\0" * (event.at - len(content)))
        return
    content.extend(b"\0" * (event.at - len(content)))
    content[event.at : event.at + len(event.data)] = event.data

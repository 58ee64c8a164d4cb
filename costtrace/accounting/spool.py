"""The spool: what a store could not take, in a file that outlives the process.

Each process has a file of its own, which it locks for as long as it lives: what a dead one left
behind is taken over by whoever next opens the ledger, or has it open. No file is made before a
store has failed, and it is removed when all in it has been written. It holds entries of the ledger,
so never anything of a prompt or an answer.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from costtrace.accounting.lease import process_name
from costtrace.accounting.spool_folder import DAMAGED, Folder, folders_of, key_of
from costtrace.accounting.spool_lines import Contents, header, line_of, step_facts, step_of
from costtrace.accounting.waiting import Waiting

log = logging.getLogger("costtrace")
MOST_BYTES = 64 * 2**20
"""What the files of one process may hold together."""
_UNREADABLE = (ValueError, TypeError, LookupError)


class SpoolFullError(Exception):
    """The spool holds all that it may."""


class DamagedSpoolError(Exception):
    """Whole lines of a spool are not what was written."""


@dataclass(slots=True)
class SpoolFile:
    """A file of this process, locked; lines are only ever added."""

    folder: Folder
    name: str
    file: int
    size: int = 0
    last: int = -1
    """The number of its last step."""

    def add(self, line: bytes) -> None:
        """Add a line and wait until it is on the disk; raises `OSError` if that fails."""
        end = os.fstat(self.file).st_size
        try:
            if os.write(self.file, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk took only a part of it")
            os.fdatasync(self.file)
        except OSError:
            os.ftruncate(self.file, end)
            raise
        self.size += len(line)

    def note_done(self, number: int) -> None:
        """Note that all is done up to a step; a killed process does not take that along."""
        with suppress(OSError):
            os.write(self.file, line_of({"done": number}))

    def remove(self) -> None:
        """Remove the file, and only then let go of its lock."""
        self.folder.remove(self.name)
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a step that waits is kept: by its number in a file."""

    file: SpoolFile
    number: int


@dataclass(slots=True)
class Adoption:
    """What came of looking for what dead processes left behind."""

    is_complete: bool = True
    """Whether nothing is left of it."""
    steps: int = 0
    torn: int = 0
    damaged: list[Path] = field(default_factory=list)


class Spool:
    """The spools of one ledger, as one process sees them. One thread at a time."""

    def __init__(self, name: Callable[[], str], place: Path | None) -> None:
        self._name = name
        self._place = place
        self._files: list[SpoolFile] = []
        weakref.finalize(self, _close_all, self._files)  # or nobody gets them before we end
        self._number = 0
        self._unknown: set[str] = set()

    def keep(self, step: Waiting) -> Kept:
        """Write a step down; raises `OSError` or `SpoolFullError` where that is not possible."""
        line = line_of(step_facts(self._number, step))
        if sum(one.size for one in self._files) + len(line) > MOST_BYTES:
            raise SpoolFullError(f"{MOST_BYTES} bytes of entries wait already")
        file = self._written(line)
        file.last, self._number = self._number, self._number + 1
        return Kept(file, file.last)

    def done(self, kept: Kept) -> None:
        """Note that a step, and so all before it, is written where it belongs."""
        if kept.number < kept.file.last:
            kept.file.note_done(kept.number)
        elif kept.file in self._files:
            self._files.remove(kept.file)
            kept.file.remove()

    def let_go(self) -> None:
        """Leave the files to the next process that opens the ledger; in a child, to its parent."""
        _close_all(self._files)

    def _written(self, line: bytes) -> SpoolFile:
        if self._files:
            with suppress(OSError):
                self._files[-1].add(line)
                return self._files[-1]
        name = self._name()
        failed: OSError | None = None
        for folder in folders_of(name, self._place):
            try:
                return self._begun(folder, name, line)
            except OSError as error:
                failed = error
        raise failed or OSError("there is no place for it")

    def _begun(self, folder: Folder, name: str, line: bytes) -> SpoolFile:
        """Make a file whose first step is this line."""
        process = process_name()
        descriptor, file_name = folder.create(key_of(name), process)
        file = SpoolFile(folder, file_name, descriptor)
        try:
            file.add(line_of(header(name, process)) + line)
        except OSError:
            file.remove()
            raise
        self._files.append(file)
        log.warning("what the store cannot take waits in %s", folder.path / file_name)
        return file

    # what others left behind

    def adopt(self, take: Callable[[Waiting], bool]) -> Adoption:
        """Do the steps that dead processes left; stop when `take` returns False."""
        found, name = Adoption(), self._name()
        for folder in folders_of(name, self._place):
            for file_name in folder.names(key_of(name)):
                is_ours = file_name not in self._unknown and not file_name.endswith(DAMAGED)
                if found.is_complete and is_ours:
                    self._adopt_file(folder, file_name, take, found)
        return found

    def _adopt_file(
        self, folder: Folder, name: str, take: Callable[[Waiting], bool], found: Adoption
    ) -> None:
        descriptor = folder.take(name)
        if descriptor is None:
            return
        file = SpoolFile(folder, name, descriptor)
        try:
            if _is_taken(file, take, found):
                folder.remove(name)
        except DamagedSpoolError:
            folder.set_aside(name)
            found.damaged.append(folder.path / (name + DAMAGED))
        except _UNREADABLE as error:
            self._unknown.add(name)
            log.warning("%s is left to a newer costtrace: %s", folder.path / name, error)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has it too
            file.close()


def _close_all(files: list[SpoolFile]) -> None:
    while files:
        files.pop().close()


def _is_taken(file: SpoolFile, take: Callable[[Waiting], bool], found: Adoption) -> bool:
    """Do the steps of a file that is locked by us; return whether none is left."""
    contents = _contents(file.file)
    if contents.torn:  # before a line is added to it
        os.ftruncate(file.file, os.fstat(file.file).st_size - contents.torn)
        found.torn += 1
    steps = [(number, step_of(facts)) for number, facts in contents.steps]
    for number, step in steps:
        if not take(step):
            found.is_complete = False
            return False
        file.note_done(number)
        found.steps += 1
    if contents.broken:
        raise DamagedSpoolError(f"{contents.broken} lines are not what was written")
    return True


def _contents(file: int) -> Contents:
    os.lseek(file, 0, os.SEEK_SET)
    parts = []
    while part := os.read(file, 2**20):
        parts.append(part)
    return Contents.of(b"".join(parts))


@dataclass(frozen=True, slots=True)
class WaitingSpool:
    """A spool that was found, for those who look."""

    path: Path
    steps: int
    is_in_use: bool
    """Whether its process lives; else the next one that opens the ledger writes what is in it."""
    is_damaged: bool


def waiting_spools(name: str, place: Path | None) -> list[WaitingSpool]:
    """Return what waits for a ledger's store in files; changes nothing."""
    found = []
    for folder in folders_of(name, place):
        for file_name in folder.names(key_of(name)):
            path = folder.path / file_name
            with suppress(OSError):
                found.append(_waiting_spool(folder, file_name, path))
    return found


def _waiting_spool(folder: Folder, name: str, path: Path) -> WaitingSpool:
    file = folder.take(name)
    is_in_use = file is None
    if file is None:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        steps, is_damaged = len(_contents(file).steps), name.endswith(DAMAGED)
    except _UNREADABLE:
        steps, is_damaged = 0, True
    finally:
        os.close(file)
    return WaitingSpool(path, steps, is_in_use and not is_damaged, is_damaged)

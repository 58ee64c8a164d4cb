"""Locks between processes that the application cannot take away by accident.

SQLite's own locks belong to the process: when the application opens and closes the database file
for itself, they are gone. Those here belong to an open file, and end with it.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import time
from pathlib import Path

# Taken when the stores' own locks are. Those of a process that gevent patches later know nothing
# of greenlets: one that slept here, with such a lock, would keep all others of its thread from
# ever letting it go on.
from time import sleep

_PAUSE_S = (0.0002, 0.001)  # between two tries
_TURN_S = 0.0003  # whoever has waited need not queue up again for so long: for a call's two steps
_SHARED_BYTES = (0x40000002, 510)  # of the database: read-locked by all who have it open
_ALIVE_BYTE = (128, 1)  # of the -shm file: read-locked by all who use it
_WAITING_BYTE = (1, 1)  # of the lock file: read-locked by all who wait for it
_WHOLE_FILE = (0, 0)
_FLOCK = struct.Struct("hhqqi4x")  # C's struct flock
_HAS_FILE_LOCKS = hasattr(fcntl, "F_OFD_SETLK")


class FileLock:
    """An exclusive lock on a file that is created for it. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._turn_ends = 0.0

    def acquire(self, deadline: float) -> bool:
        """Take the lock; False when it is not free by the deadline (of `time.monotonic`)."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        is_my_turn = time.monotonic() < self._turn_ends
        if (is_my_turn or not self._do_others_wait()) and self._try():
            return True
        _lock_bytes(self._file, fcntl.F_RDLCK, _WAITING_BYTE)
        try:
            while time.monotonic() < deadline:
                sleep(random.uniform(*_PAUSE_S))
                if self._try():
                    self._turn_ends = time.monotonic() + _TURN_S
                    return True
            return False
        finally:
            _lock_bytes(self._file, fcntl.F_UNLCK, _WAITING_BYTE)

    def release(self) -> None:
        """Let others have it."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def forget(self) -> None:
        """Close the file: a forked child must not hold on to its parent's lock."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _do_others_wait(self) -> bool:
        """Return whether to queue up: who comes back at once would always be the first."""
        if not _HAS_FILE_LOCKS:
            return False
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, *_WAITING_BYTE, 0)
        answer = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


class Presence:
    """Says to SQLite in other processes that this one has the database open.

    Without it a process that closes the database, or opens it, may believe to be alone: it then
    deletes the log, or empties the shared memory, that others are using. SQLite takes the same
    locks itself, but the application may have taken those away.
    """

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(path.name + "-shm"))
        self._files: list[int] = []

    def show(self) -> None:
        """Lock; the database must be open. Does nothing where the system has no such locks."""
        for path, place in zip(self._paths, (_SHARED_BYTES, _ALIVE_BYTE), strict=True):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._files.append(file)
            _lock_bytes(file, fcntl.F_RDLCK, place)

    def hide(self) -> None:
        """Unlock, so that closing the database tidies up its files if nobody else is there."""
        for file in self._files:
            _lock_bytes(file, fcntl.F_UNLCK, _WHOLE_FILE)

    def forget(self) -> None:
        """Close the files; only when SQLite has closed them too, or after a fork."""
        while self._files:
            os.close(self._files.pop())


def _lock_bytes(file: int, kind: int, place: tuple[int, int]) -> None:
    """Lock or unlock some bytes for this open file; where the system can."""
    if _HAS_FILE_LOCKS:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, *place, 0))

"""What a process has open of a ledger: two connections to its file, a lock, and a sign of life."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from costtrace.stores.filelock import FileLock, Presence

_CLOSE_WITHIN_S = 1.0
_inherited: list[object] = []
"""What a parent had open, kept so that a forked child never closes it."""


class Connections:
    """What is open, apart from the object that uses it, so that it can be closed after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.pid = os.getpid()
        self.file_lock = FileLock(path.with_name(path.name + ".lock"))
        self.presence = Presence(path)
        self.writer: sqlite3.Connection | None = None
        self.reader: sqlite3.Connection | None = None
        self.file: int | None = None  # the number of the database's inode
        self.has_children = False
        """Whether forked children have inherited the sign of life."""

    def abandon(self) -> None:
        """Use these connections no more, and do not close them either."""
        _inherited.extend((self.writer, self.reader))
        self.writer = self.reader = None
        self.presence.forget()

    def leave_to_parent(self) -> None:
        """Begin anew in a forked child.

        SQLite goes on here with the log's index that it has inherited, also when that file is gone.
        So the parent's sign of life stays: nobody tidies up as long as one of its children lives.
        """
        _inherited.extend((self.writer, self.reader, self.presence))
        self.writer = self.reader = None
        self.presence, self.has_children = Presence(self._path), False
        self.file_lock.forget()
        self.pid = os.getpid()

    def close(self) -> None:
        """Close, in nobody's way: the last one to close a database rewrites its files."""
        if self.pid != os.getpid() or self.writer is None:
            return
        if self.file_lock.acquire(time.monotonic() + _CLOSE_WITHIN_S):
            if not self.has_children:
                self.presence.hide()
            for connection in (self.reader, self.writer):
                if connection is not None:
                    connection.close()
            self.writer = self.reader = None
            self.presence.forget()
            self.file_lock.release()
        else:
            self.abandon()
        self.file_lock.forget()

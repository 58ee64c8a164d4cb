"""What a process has open of a ledger: two connections to its file, a lock, and a sign of life."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from costtrace.stores.filelock import FileLock, Presence

_CLOSE_WITHIN_S = 1.0
_inherited: list[sqlite3.Connection | None] = []
"""A parent's connections, kept so that a forked child never closes them."""


class Connections:
    """What is open, apart from the object that uses it, so that it can be closed after it."""

    def __init__(self, path: Path) -> None:
        self.pid = os.getpid()
        self.file_lock = FileLock(path.with_name(path.name + ".lock"))
        self.presence = Presence(path)
        self.writer: sqlite3.Connection | None = None
        self.reader: sqlite3.Connection | None = None
        self.file: int | None = None  # the number of the database's inode
        self.has_children = False
        """Whether forked children have inherited what SQLite knows of the file."""

    def abandon(self) -> None:
        """Use these connections no more, and do not close them either."""
        _inherited.extend((self.writer, self.reader))
        self.writer = self.reader = None
        self.presence.forget()

    def close(self) -> None:
        """Close, in nobody's way: the last one to close a database rewrites its files.

        Not where there are forked children: SQLite goes on in them with the log's index as it was
        inherited, also when that file is gone.
        """
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

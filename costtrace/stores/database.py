"""A ledger's SQLite file: opened with care, written by one at a time, never used across a fork.

Writers take a lock file of their own before SQLite's lock. It is fairer (SQLite's waiting starves
processes), and it holds when the application opens and closes the database file by itself, which
silently takes SQLite's locks away. Readers need no lock: in WAL mode they see the last commit.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.calls import Run
from costtrace.stores.connections import Connections
from costtrace.stores.forks import survive_forks
from costtrace.stores.mounts import network_file_system
from costtrace.stores.names import Names
from costtrace.stores.reentry import AMID_A_STEP, OwnLock
from costtrace.stores.schema import APPLICATION_ID, EARLIEST_SQLITE, MIGRATIONS
from costtrace.stores.statements import READ_META

_OPENINGS = 3
"""Times that a file is opened anew because its shared memory went away meanwhile."""
_PAGE_BYTES = 2048
"""Of new files. A call changes a few bytes on each of a dozen pages and has to write all of them:
half as much as with SQLite's 4096. With 1024 a hold would not fit on its page.
"""
_LOG_PAGES = 2000
"""How long the log grows before a step has to write it into the file: 4 MiB, 150 calls or more.

That step takes some milliseconds: with SQLite's own 1000 pages more than one call in a hundred.
"""


class Database:
    """The file, its connections and its locks. Safe from any thread."""

    def __init__(
        self, path: Path, *, synchronous: str, timeout_s: float, allow_network: bool
    ) -> None:
        self.path = path
        self._synchronous = synchronous
        self._timeout_s = timeout_s
        self._allow_network = allow_network
        self._write_lock, self._read_lock = OwnLock(), OwnLock()
        self._locked_for_fork: list[OwnLock] = []
        self._open = Connections(path)
        self.names = Names()
        """Of the transactions that keep them."""
        self._version_seen = -1
        self._ledger_id: str | None = None
        self._is_closed = False
        self._check_place()
        with self._alone():
            self._connect()
        self._close_at_exit = weakref.finalize(self, Connections.close, self._open)
        survive_forks(self)

    # -- transactions ------------------------------------------------------------------------

    @contextmanager
    def write(self, *, keeps_names: bool = False) -> Iterator[Run]:
        """Run a transaction that alone may write; nothing of it stays if it raises.

        One that `keeps_names` may use and fill `names`: it renames and drops nothing.
        """
        with self._alone():
            self._reconnect_if_stale()
            connection = self._open.writer
            assert connection is not None
            try:
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != self._version_seen or not keeps_names:
                    self.names.forget()  # another connection has written, or this one may rename
                    self._version_seen = version
                yield connection.execute
                connection.execute("COMMIT")
                self.names.trim()
            except BaseException as error:
                self.names.forget()
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                self._raise_as_ours(error)
                raise

    @contextmanager
    def read(self) -> Iterator[Run]:
        """Run a transaction that sees one state of the ledger and changes nothing."""
        deadline = time.monotonic() + self._timeout_s
        with self._bounded(self._locks()[1], deadline):
            if self._is_stale():
                with self._alone():
                    self._reconnect_if_stale()
            connection = self._open.reader
            assert connection is not None
            try:
                connection.execute("BEGIN")
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                self._raise_as_ours(error)
                raise

    def checkpoint(self) -> None:
        """Write what is in the log into the database file, and make it durable."""
        with self._alone(), self._errors_as_ours():
            self._reconnect_if_stale()
            assert self._open.writer is not None
            self._open.writer.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def rewrite(self) -> None:
        """Write the file anew, so that nothing that was changed or deleted is found in it."""
        deadline = time.monotonic() + self._timeout_s
        with self._bounded(self._locks()[1], deadline), self._alone(), self._errors_as_ours():
            self._reconnect_if_stale()
            assert self._open.writer is not None
            self._open.writer.execute("VACUUM")
            is_read = self._open.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_read:
            raise BudgetStoreError(
                f"{self.path}: is being read by others, so that its log could not be emptied: "
                "do it again"
            )

    def backup(self, path: Path) -> None:
        """Copy the ledger as it is now into a new file, while others go on writing."""
        if path.exists():
            raise BudgetStoreError(f"{path}: there is a file already; a backup never replaces one")
        _check_folder(path)
        part = path.with_name(path.name + ".part")
        with self.read():
            assert self._open.reader is not None
            try:
                _copy(self._open.reader, part)
            except sqlite3.Error as error:
                part.unlink(missing_ok=True)
                raise BudgetStoreError(f"{path}: the backup failed: {error}") from error
        part.rename(path)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        write_lock, read_lock = self._locks()
        deadline = time.monotonic() + self._timeout_s
        with self._bounded(read_lock, deadline), self._bounded(write_lock, deadline):
            self._is_closed = True
            self._open.close()

    # -- forks -------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait for the transaction that another thread may be in."""
        for lock in (self._read_lock, self._write_lock):
            if lock.acquire(timeout=self._timeout_s):
                self._locked_for_fork.append(lock)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._open.has_children = True
        while self._locked_for_fork:
            self._locked_for_fork.pop().release()

    def after_fork_in_child(self) -> None:
        """Start with locks and connections of our own; the parent's stay open, unused."""
        self._locked_for_fork.clear()
        self._write_lock, self._read_lock = OwnLock(), OwnLock()
        self._open.leave_to_parent()

    # -- locks -------------------------------------------------------------------------------

    def _locks(self) -> tuple[OwnLock, OwnLock]:
        if self._open.pid != os.getpid():  # forked by something that told nobody
            self.after_fork_in_child()
        return self._write_lock, self._read_lock

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one, in this process and among all, that writes or opens the file."""
        deadline = time.monotonic() + self._timeout_s
        with self._bounded(self._locks()[0], deadline):
            is_locked = False
            try:
                is_locked = self._file_lock(deadline)
                yield
            finally:
                if is_locked:
                    self._open.file_lock.release()

    def _file_lock(self, deadline: float) -> bool:
        try:
            is_locked = self._open.file_lock.acquire(deadline)
        except OSError as error:
            raise BudgetStoreError(f"{self.path}: its lock file cannot be used: {error}") from error
        if not is_locked:
            raise self._busy("another process")
        return True

    @contextmanager
    def _bounded(self, lock: OwnLock, deadline: float) -> Iterator[None]:
        if lock.is_mine():  # a signal's handler
            raise BudgetStoreError(f"{self.path}: {AMID_A_STEP}")
        try:
            if not lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
                raise self._busy("another thread")
            yield
        finally:
            if lock.is_mine():
                lock.release()

    def _busy(self, who: str) -> BudgetStoreError:
        return BudgetStoreError(
            f"{self.path}: {who} has been writing for {self._timeout_s} s (timeout_s)"
        )

    # -- errors ------------------------------------------------------------------------------

    def _raise_as_ours(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise BudgetStoreError(
                f"{self.path}: a sum would pass what the ledger can count to, or it is damaged: "
                f"{error}"
            ) from error
        if isinstance(error, sqlite3.Error):
            raise BudgetStoreError(f"{self.path}: {error}") from error
        if isinstance(error, UnicodeDecodeError):  # what SQLite says of it is not text either
            raise BudgetStoreError(f"{self.path}: is damaged: {error}") from error
        if isinstance(error, BudgetStoreError) and not str(error).startswith(str(self.path)):
            raise BudgetStoreError(f"{self.path}: {error}") from error
        if isinstance(error, OverflowError):
            raise ValueError(f"a number is too large for the ledger: {error}") from error

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._raise_as_ours(error)

    # -- opening -----------------------------------------------------------------------------

    def _check_place(self) -> None:
        """Raise `BudgetStoreError` where no ledger can be."""
        if sqlite3.sqlite_version_info < EARLIEST_SQLITE:
            needed = ".".join(map(str, EARLIEST_SQLITE))
            raise BudgetStoreError(
                f"{self.path}: needs SQLite {needed} or newer; this Python has "
                f"{sqlite3.sqlite_version}"
            )
        _check_folder(self.path)
        if self.path.is_dir():
            raise BudgetStoreError(f"{self.path}: is a folder; name a file in it")
        found = None if self._allow_network else network_file_system(self.path.parent)
        if found is not None:
            raise BudgetStoreError(
                f"{self.path}: is on a {found} file system, where processes cannot share a SQLite "
                f"file safely; name a local file, or use PostgreSQL or Redis"
            )

    def _connect(self) -> None:
        """Open the file, under all locks; make it a ledger if it is new."""
        for tries_left in reversed(range(_OPENINGS)):
            writer, reader = self._opened()
            self._open.writer, self._open.reader = writer, reader
            self.names.forget()
            self._version_seen = -1  # versions of one connection mean nothing for another
            self._open.file = self._file()
            try:
                self._open.presence.show()
                break
            except FileNotFoundError as error:  # whoever left last has tidied up meanwhile
                self._open.presence.forget()
                self._open.writer = self._open.reader = None
                reader.close()
                writer.close()
                if not tries_left:
                    raise BudgetStoreError(f"{self.path}: {error}") from error
            except OSError as error:
                self._open.abandon()
                raise BudgetStoreError(f"{self.path}: {error}") from error

    def _opened(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        with self._errors_as_ours():
            writer = self._connection()
            try:
                self._migrate(writer)
                writer.execute(f"PRAGMA synchronous={self._synchronous}")
                writer.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
                self._check_ledger(writer)
                reader = self._connection()
                reader.execute("PRAGMA query_only=ON")
                reader.execute("SELECT count(*) FROM meta").fetchone()
            except BaseException:
                writer.close()
                raise
        return writer, reader

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )

    def _migrate(self, writer: sqlite3.Connection) -> None:
        version = self._version(writer)
        if not version:
            writer.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        (mode,) = writer.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            (mode,) = writer.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise BudgetStoreError(f"{self.path}: SQLite cannot use WAL mode here, only {mode}")
        if version == len(MIGRATIONS):
            return
        writer.execute("PRAGMA synchronous=FULL")
        writer.execute("BEGIN IMMEDIATE")
        for migration in MIGRATIONS[version:]:
            for statement in _statements(migration):
                writer.execute(statement)
        writer.execute("INSERT OR IGNORE INTO meta VALUES ('ledger_id', ?)", (uuid.uuid4().hex,))
        writer.execute(f"PRAGMA application_id={APPLICATION_ID}")
        writer.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        writer.execute("COMMIT")
        # A power cut must not take the tables away with the log that they are in.
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _version(self, writer: sqlite3.Connection) -> int:
        """Return how many migrations the file has; raises if it is no ledger of ours."""
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        (application,) = writer.execute("PRAGMA application_id").fetchone()
        (tables,) = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (tables or version or application):
            raise BudgetStoreError(
                f"{self.path}: is a SQLite database of something else; name a new file"
            )
        if version > len(MIGRATIONS):
            raise BudgetStoreError(
                f"{self.path}: was written by a newer costtrace (schema {version}, known here up "
                f"to {len(MIGRATIONS)}): install that version"
            )
        return int(version)

    def _check_ledger(self, writer: sqlite3.Connection) -> None:
        found = writer.execute(READ_META, ("ledger_id",)).fetchone()
        ledger_id = None if found is None else str(found[0])
        if self._ledger_id not in (None, ledger_id):
            raise BudgetStoreError(f"{self.path}: is another ledger than it was; open it anew")
        self._ledger_id = ledger_id

    def _reconnect_if_stale(self) -> None:
        """Open the file again after a fork; under all locks. Never start a ledger from nothing."""
        if self._is_closed:
            raise BudgetStoreError(f"{self.path}: this store is closed")
        if self._is_stale():
            if not self.path.exists():
                raise BudgetStoreError(f"{self.path}: the ledger's file is gone")
            if self._open.writer is not None:
                raise BudgetStoreError(f"{self.path}: was replaced by another file; open it anew")
            self._connect()

    def _is_stale(self) -> bool:
        return self._open.writer is None or self._open.file != self._file()

    def _file(self) -> int:
        """Return what tells the file from another one of the same name."""
        try:
            return os.stat(self.path).st_ino
        except FileNotFoundError:
            return 0


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise BudgetStoreError(f"{path}: the folder {path.parent} does not exist: create it")


def _copy(source: sqlite3.Connection, file: Path) -> None:
    """Copy a database as it is now into a file that stands by itself, without a log beside it."""
    with closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""

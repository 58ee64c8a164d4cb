"""One connection to PostgreSQL, set up as a ledger needs it, and made a ledger if it is new."""

from __future__ import annotations

import inspect
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, Literal

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.dbapi_driver import (
    PARAMSTYLES,
    as_ours,
    as_python,
    paramstyle_of,
    values_for,
    written_for,
)
from costtrace.stores.postgres_functions import ALL_LOCK
from costtrace.stores.postgres_schema import EARLIEST_POSTGRES, META_TABLE, MIGRATIONS

_WANTED = "a function that returns a new, open PEP 249 connection to PostgreSQL each time"
_NEEDED = ("cursor", "commit", "rollback", "close")
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

ABOUT = """SELECT version(), current_setting('server_version_num'),
    current_setting('server_encoding'), current_setting('transaction_isolation')"""
SETTINGS = """SELECT set_config('search_path', ?, false), set_config('statement_timeout', ?, false),
    set_config('idle_in_transaction_session_timeout', ?, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('jit', 'off', false)"""
# Steps look a few rows up by key. PostgreSQL would plan some of their statements anew each time,
# which takes longer than the statements do; and a plan that was made for an empty table must not
# read a full one from end to end.
PLANNED_ONCE = """SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('enable_seqscan', 'off', false)"""
NOTE = "SELECT set_config('costtrace.transaction', 'open', true)"
READ_NOTE = "SELECT current_setting('costtrace.transaction', true)"
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
BEGIN_ALONE = "BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
SCHEMA_EXISTS = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
TABLES = """SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = ? AND relkind IN ('r', 'v', 'p')"""
READ_META = "SELECT value FROM meta WHERE name = ?"
ADD_META = "INSERT INTO meta VALUES (?, ?)"
SET_META = "UPDATE meta SET value = ? WHERE name = ?"


class Rows(list[tuple[Any, ...]]):
    """The rows that a statement answered with, or how many it changed."""

    rowcount = -1

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the first row."""
        return self[0] if self else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self


class Link:
    """An open connection; used by one thread at a time."""

    def __init__(
        self,
        connection: Any,
        *,
        schema: str,
        paramstyle: str | None,
        statement_s: float,
        is_planned_once: bool,
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._style = paramstyle or paramstyle_of(connection)
        self._cursor: Any = None
        self._is_autocommit = False
        self._needs_isolation = False
        self._calls: dict[str, str] = {}
        self._check_server()
        self._set_up(statement_s, is_planned_once)

    # -- statements --------------------------------------------------------------------------

    def run(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """Execute one statement with `?` for its values, and take all of its rows."""
        if self._cursor is None:
            self._cursor = self._connection.cursor()
        cursor = self._cursor
        if values:
            cursor.execute(written_for(self._style, statement), values_for(self._style, values))
        else:
            cursor.execute(statement)
        rows = Rows() if cursor.description is None else Rows(map(as_python, cursor.fetchall()))
        rows.rowcount = cursor.rowcount
        return rows

    def alone(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """Execute one statement as a transaction of its own."""
        if self._is_autocommit:
            return self.run(statement, values)
        try:
            if self._needs_isolation:
                self.run(READ_COMMITTED)
            rows = self.run(statement, values)
            self._connection.commit()
        except BaseException:
            self._undo()
            raise
        return rows

    def call(self, step: str, payload: str) -> str:
        """Have one of our functions do a step; payload and answer are JSON texts."""
        rows = self.alone(f'SELECT "{self._schema}".{step}(?)', (payload,))
        return str(rows[0][0])

    @contextmanager
    def transaction(self, *, is_snapshot: bool = False) -> Iterator[Callable[..., Rows]]:
        """Run several statements as one; a snapshot sees one state and changes nothing."""
        try:
            if self._is_autocommit:
                self.run(BEGIN_SNAPSHOT if is_snapshot else BEGIN_ALONE)
            else:
                self.run(SNAPSHOT if is_snapshot else READ_COMMITTED)
            yield self.run
            if self._is_autocommit:
                self.run("COMMIT")
            else:
                self._connection.commit()
        except BaseException:
            self._undo()
            raise

    def interrupt(self) -> None:
        """Cut the connection from another thread, so that nobody waits for it any more."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):
            self._connection.close()

    def is_of(self, connection: object) -> bool:
        """Return whether this is the connection."""
        return self._connection is connection

    def _undo(self) -> None:
        with suppress(Exception):
            if self._is_autocommit:
                self.run("ROLLBACK")
            else:
                self._connection.rollback()

    # -- setting up --------------------------------------------------------------------------

    def _check_server(self) -> None:
        kind = f"{type(self._connection).__module__}.{type(self._connection).__qualname__}"
        try:
            version, number, encoding, _ = self.run(ABOUT)[0]
        except Exception as error:
            if getattr(error, "sqlstate", None) or "closed" in str(error).lower():
                raise as_ours(error, f"connect returned a {kind} that cannot be used") from error
            raise ValueError(
                f"DBAPIStore speaks to PostgreSQL only, but the {kind} that connect returned does "
                f"not answer like it ({error}); wanted is {_WANTED}"
            ) from error
        if not version.startswith("PostgreSQL") or int(number) < EARLIEST_POSTGRES:
            raise ValueError(
                f"DBAPIStore speaks to PostgreSQL {EARLIEST_POSTGRES // 10000} or newer, not to "
                f"{version[:80]}"
            )
        if encoding != "UTF8":
            raise ValueError(f"the database must have the encoding UTF8, not {encoding}")

    def _set_up(self, statement_s: float, is_planned_once: bool) -> None:
        """Prefer one round trip for a step: a connection of ours commits by itself if it can."""
        connection = self._connection
        connection.rollback()
        if getattr(connection, "autocommit", None) is False:
            with suppress(Exception):
                connection.autocommit = True
        milliseconds = str(max(int(statement_s * 1000), 1))
        idle = str(max(int(statement_s * 2000), 1000))
        self.run(SETTINGS, (f'"{self._schema}"', milliseconds, idle))
        if is_planned_once:
            self.run(PLANNED_ONCE)
        connection.commit()
        self.run(NOTE)
        self._is_autocommit = self.run(READ_NOTE)[0][0] != "open"
        connection.commit()
        if not self._is_autocommit:
            self._needs_isolation = self.run(ABOUT)[0][3] != "read committed"
            connection.commit()

    def migrate(self) -> None:
        """Make the schema a ledger, or an older ledger a new one."""
        with self.transaction() as run:
            run(f"SELECT pg_advisory_xact_lock({ALL_LOCK}, {schema_lock(self._schema)})")
            if not run(SCHEMA_EXISTS, (self._schema,)):
                run(f'CREATE SCHEMA "{self._schema}"')
            tables = {name for (name,) in run(TABLES, (self._schema,))}
            if tables and "meta" not in tables:
                raise self._error("has tables of something else; name another schema")
            if not tables:
                run(META_TABLE)
                for values in (
                    ("application", "costtrace"),
                    ("schema_version", "0"),
                    ("ledger_id", uuid.uuid4().hex),
                ):
                    run(ADD_META, values)
            version = self._version(run)
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    run(statement)
            run(SET_META, (str(len(MIGRATIONS)), "schema_version"))

    def check_version(self) -> None:
        """Raise `BudgetStoreError` where this is no ledger of ours, or a newer one."""
        with self.transaction(is_snapshot=True) as run:
            if self._version(run) < len(MIGRATIONS):
                raise self._error("is of an older costtrace now than when it was opened")

    def is_ready(self) -> bool:
        """Return whether the schema needs no migration; nothing is locked or changed."""
        with self.transaction(is_snapshot=True) as run:
            tables = {name for (name,) in run(TABLES, (self._schema,))}
            return "meta" in tables and self._version(run) == len(MIGRATIONS)

    def ledger_id(self) -> str:
        """Return what tells this ledger from every other one."""
        return str(self.alone(READ_META, ("ledger_id",))[0][0])

    def _version(self, run: Callable[..., Rows]) -> int:
        """Return how many migrations the schema has."""
        about = run(READ_META, ("application",)).fetchone()
        if about is None or about[0] != "costtrace":
            raise self._error("has tables of something else; name another schema")
        version = int(run(READ_META, ("schema_version",))[0][0])
        if version > len(MIGRATIONS):
            raise self._error(
                f"was written by a newer costtrace (schema {version}, known here up to "
                f"{len(MIGRATIONS)}): install that version"
            )
        return version

    def _error(self, why: str) -> BudgetStoreError:
        return BudgetStoreError(f"schema {self._schema!r} {why}")


class Connector:
    """Opens links with the function that the user passed. Safe from any thread."""

    def __init__(self, connect: Any, *, schema: str, paramstyle: str | None) -> None:
        if not callable(connect):
            raise TypeError(f"connect must be {_WANTED}, not {connect!r}")
        if not isinstance(schema, str) or not _SCHEMA_NAME.fullmatch(schema):
            raise ValueError(f"schema must be a name of letters, digits and _, not {schema!r}")
        if paramstyle is not None and paramstyle not in PARAMSTYLES:
            known = ", ".join(PARAMSTYLES)
            raise ValueError(f"paramstyle must be one of {known}, not {paramstyle!r}")
        self._connect, self.schema, self._paramstyle = connect, schema, paramstyle
        self._last: Any = None
        self._has_opened = False

    def open(self, statement_s: float, *, is_planned_once: bool = False) -> Link:
        """Open a connection, for steps one `is_planned_once`.

        Raises `TypeError` or `ValueError` for what is none of PostgreSQL. Once there was one that
        is, whatever goes wrong with another is an outage.
        """
        try:
            link = self._opened(statement_s, is_planned_once)
        except BudgetStoreError:
            raise
        except Exception as error:
            if isinstance(error, (TypeError, ValueError)) and not self._has_opened:
                raise
            raise as_ours(error, "a new connection cannot be used") from error
        self._has_opened = True
        return link

    def _opened(self, statement_s: float, is_planned_once: bool) -> Link:
        try:
            connection = self._connect()
        except Exception as error:
            raise as_ours(error, "connect failed") from error
        self._check_object(connection)
        if connection is self._last:
            raise BudgetStoreError(f"connect returned the same connection again, not {_WANTED}")
        self._last = connection
        try:
            return Link(
                connection,
                schema=self.schema,
                paramstyle=self._paramstyle,
                statement_s=statement_s,
                is_planned_once=is_planned_once,
            )
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise

    def _check_object(self, connection: Any) -> None:
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        if inspect.isawaitable(connection) or inspect.iscoroutinefunction(
            getattr(connection, "commit", None)
        ):
            if inspect.iscoroutine(connection):
                connection.close()
            raise TypeError(f"connect must be {_WANTED}; an asynchronous one ({kind}) is not")
        missing = [name for name in _NEEDED if not callable(getattr(connection, name, None))]
        if missing:
            raise TypeError(
                f"connect must be {_WANTED}, but what it returned ({kind}) has no "
                f"{missing[0]}() method"
            )


def schema_lock(schema: str) -> int:
    """Return the number by which a schema is locked as a whole."""
    return number_of(schema)


def number_of(text: str) -> int:
    """Return a text as a number of 32 bits, for advisory locks."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big", signed=True)


Step = Literal["reserve", "settle", "release", "renew", "lapse", "drop_owner", "prune"]

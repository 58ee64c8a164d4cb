"""PostgreSQL and Redis for the tests, started when first needed, in folders of their own.

A machine without the programs skips what needs them; with COSTTRACE_TESTS_NO_SKIP=1 it fails.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from waiting import wait_until
from workers import ending_with_us

TABLES = (
    *("label", "owner", "payers", "hold", "entry"),
    *("total", "minute", "balance", "alert", "budget"),
)


def missing(what: str) -> Any:
    """Skip, or fail where nothing may be skipped."""
    if os.environ.get("COSTTRACE_TESTS_NO_SKIP") == "1":
        pytest.fail(f"{what} is not installed, and COSTTRACE_TESTS_NO_SKIP=1")
    pytest.skip(f"{what} is not installed")


class Server:
    """A server process in a folder of its own."""

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"costtrace-{name}-"))
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def remove(self) -> None:
        """Stop it for good."""
        with suppress(Exception):
            self.resume()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """The server's process and its children."""
        assert self.process is not None
        found = [self.process.pid]
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):  # it may have ended meanwhile
                stat = Path("/proc", name, "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == self.process.pid:
                    found.append(int(name))
        return found

    def signal(self, number: int) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nobody answers."""
        self._stop()
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A stretch in which it does not answer."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def kill(self) -> None:
        """End it without any notice."""
        if self.process is not None:
            self._stop()
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _stop(self) -> None:
        """Stop the process itself: a child that is born from now on would be in no list."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] in "TtZX")


class PostgresServer(Server):
    """PostgreSQL of the newest version that is installed."""

    def __init__(self, *settings: str) -> None:
        super().__init__("postgres")
        self.programs = max(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
        )
        self.settings = settings
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            self.account = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        self.data = self.folder / "data"
        made = [self.programs / "initdb", "-D", self.data, "-A", "trust", "-U", "costtrace"]
        subprocess.run(
            [*made, "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self.account,
        )

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=costtrace dbname=postgres"

    def start(self) -> None:
        """Start it and wait until it answers.

        After a crash it gives up at once while a process of the old one is still about to end.
        """
        self._launch()

        def is_ready() -> bool:
            if self.process is None or self.process.poll() is not None:
                self._launch()
            return self.is_ready()

        wait_until(is_ready)

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *ending_with_us(),
                    self.programs / "postgres",
                    *("-D", self.data, "-p", str(self.port), "-k", ""),
                    *(part for setting in self.settings for part in ("-c", setting)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.folder,
                **self.account,
            )

    def is_ready(self) -> bool:
        import psycopg

        try:
            self.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def kill(self) -> None:
        """End all of it at once, as a crash does; started again it recovers."""
        super().kill()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def connect(self) -> Any:
        """A connection by psycopg."""
        import psycopg

        return psycopg.connect(self.dsn)

    def execute(self, *statements: str) -> list[Any]:
        """Execute statements; return the rows of the last one."""
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def empty(self, schema: str) -> None:
        """Make a ledger that may exist already an empty one."""
        if self.execute(f"SELECT to_regclass('{schema}.budget')")[0][0] is None:
            return
        self.execute(
            *(f"DELETE FROM {schema}.{table}" for table in TABLES),
            f"DELETE FROM {schema}.meta WHERE name LIKE 'pruned%' OR name LIKE 'taken%'",
        )

    def drop(self, schema: str) -> None:
        self.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


class RedisServer(Server):
    """Redis; it forgets everything when it ends, unless it is told to keep a log."""

    def __init__(self, *settings: str) -> None:
        super().__init__("redis")
        self.settings = settings

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *ending_with_us(),
                "redis-server",
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--dir", self.folder, *self.settings),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.is_ready)

    def is_ready(self) -> bool:
        import redis

        try:
            return bool(self.client(retry=None).ping())
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> Any:
        """A client by redis-py."""
        import redis

        return redis.Redis(host="127.0.0.1", port=self.port, **options)


@lru_cache(maxsize=1)
def started_postgres() -> PostgresServer:
    """The PostgreSQL of this test run; no power will fail, so it need not wait for the disk."""
    server = PostgresServer("fsync=off", "full_page_writes=off", "max_connections=200")
    server.start()
    return server


@lru_cache(maxsize=1)
def started_redis() -> RedisServer:
    """The Redis of this test run."""
    server = RedisServer()
    server.start()
    return server


def check_postgres() -> None:
    """Skip where PostgreSQL or its driver is missing."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        missing("PostgreSQL")
    check_package("psycopg")


def check_redis() -> None:
    """Skip where Redis or its client is missing."""
    if shutil.which("redis-server") is None:
        missing("redis-server")
    check_package("redis")


def check_package(name: str) -> None:
    """Skip where a package is missing."""
    try:
        __import__(name)
    except ImportError:
        missing(f"the package {name}")


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """A PostgreSQL server."""
    check_postgres()
    return started_postgres()


@pytest.fixture(scope="session")
def redis_server() -> RedisServer:
    """A Redis server."""
    check_redis()
    return started_redis()

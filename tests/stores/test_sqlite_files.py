"""The file of a ledger: what it may be, what becomes of it, and what is said when it cannot be."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from store_calls import ALICE, entry, hold, limit
from store_interrupts import interrupted_at
from workers import ROOT

from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetStoreError
from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS, Balance, Watch
from costtrace.stores.filelock import Presence
from costtrace.stores.mounts import network_file_system


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger can be."""
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    """A ledger with one call of 700."""
    store = SQLiteStore(path, synchronous="NORMAL", timeout_s=0.5)
    store.settle(entry(700), ALICE)
    yield store
    store.close()


def test_ledger_outlives_its_process(path: Path) -> None:
    """What was written is there when the file is opened again, and one file is left."""
    first = SQLiteStore(path)
    held, settled = entry(100), entry(7)
    first.reserve(hold(held, limit(1000)))
    first.settle(settled, ALICE)
    first.close()
    assert sorted(os.listdir(path.parent)) == ["ledger.db", "ledger.db.lock"]

    again = SQLiteStore(path)
    assert list(again.entries()) == [settled]
    assert again.balance("user:alice", ALWAYS) == Balance(7, 100, 15, 15, 1, 1)
    again.settle(held, ALICE)
    assert again.verify() == []
    again.close()


def test_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory moves nothing."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("ledger.db", synchronous="NORMAL")
    monkeypatch.chdir("/")

    assert store.path == tmp_path / "ledger.db"
    store.settle(entry(1), ALICE)
    store.close()


@pytest.mark.parametrize("wrong", ["", ":memory:", "a\0b"])
def test_path_must_name_a_file(wrong: str) -> None:
    """What is no file is a clear error that says what to use."""
    with pytest.raises(ValueError, match=r"path must name a file.*MemoryStore"):
        SQLiteStore(wrong)


@pytest.mark.parametrize("wrong", [b"ledger.db", None, 3])
def test_path_must_be_a_text(wrong: Any) -> None:
    """Other types are refused."""
    with pytest.raises(TypeError):
        SQLiteStore(wrong)


@pytest.mark.parametrize(
    "wrong", [{"synchronous": "OFF"}, {"synchronous": "full"}, {"timeout_s": 0}, {"timeout_s": -1}]
)
def test_wrong_settings_are_refused(path: Path, wrong: dict[str, Any]) -> None:
    """Settings are checked before a file is touched."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SQLiteStore(path, **wrong)
    assert not path.exists()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """Folders are not made silently."""
    with pytest.raises(BudgetStoreError, match=f"the folder {tmp_path / 'no'} does not exist"):
        SQLiteStore(tmp_path / "no" / "ledger.db")
    with pytest.raises(BudgetStoreError, match="is a folder"):
        SQLiteStore(tmp_path)


def test_file_of_something_else_is_never_overwritten(path: Path) -> None:
    """A text, another program's database: the error names the file, which stays as it is."""
    path.write_bytes(b"not a database, but important" * 100)
    before = path.read_bytes()
    with pytest.raises(BudgetStoreError, match=r"ledger\.db: file is not a database"):
        SQLiteStore(path)
    assert path.read_bytes() == before

    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE entry (a)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(BudgetStoreError, match="database of something else"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_empty_file_becomes_a_ledger(path: Path) -> None:
    """A file that `mktemp` made is fine."""
    path.touch()
    store = SQLiteStore(path, synchronous="NORMAL")
    assert store.sums().entries == 0
    store.close()


def test_newer_ledger_is_left_alone(path: Path, store: SQLiteStore) -> None:
    """A file that a later version wrote is not touched by this one."""
    store.close()
    shell = sqlite3.connect(path)
    shell.execute("PRAGMA user_version = 99")
    shell.close()

    with pytest.raises(BudgetStoreError, match=r"newer costtrace \(schema 99"):
        SQLiteStore(path)


def test_truncated_ledger_is_said(path: Path, store: SQLiteStore) -> None:
    """A file that lost its end is an error, never a smaller total."""
    for _ in range(50):
        store.settle(entry(1), ALICE)
    store.close()
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(BudgetStoreError, match=r"ledger\.db: database disk image is malformed"):
        SQLiteStore(path).sums()


def test_deleted_or_replaced_ledger_is_not_started_anew(
    path: Path, tmp_path: Path, store: SQLiteStore
) -> None:
    """A budget must not begin again from nothing because a file was taken away."""
    other = SQLiteStore(tmp_path / "other.db", synchronous="NORMAL")
    other.close()
    aside = tmp_path / "aside.db"
    path.rename(aside)
    with pytest.raises(BudgetStoreError, match="file is gone"):
        store.settle(entry(1), ALICE)
    shutil.copy(tmp_path / "other.db", path)
    with pytest.raises(BudgetStoreError, match="replaced by another file"):
        store.balance("ledger", ALWAYS)

    aside.rename(path)
    assert store.balance("ledger", ALWAYS).spent_pico == 700


def test_closed_store_says_so(store: SQLiteStore) -> None:
    """A closed store is not opened again behind one's back."""
    store.close()
    with pytest.raises(BudgetStoreError, match="is closed"):
        store.release("call")
    with pytest.raises(BudgetStoreError, match="is closed"):
        store.sums()


def test_backup_is_a_ledger_of_its_own(path: Path, tmp_path: Path, store: SQLiteStore) -> None:
    """A copy made while the ledger is open has everything, and replaces nothing."""
    copy = tmp_path / "copy.db"
    store.backup(copy)
    store.settle(entry(1), ALICE)
    with pytest.raises(BudgetStoreError, match="never replaces"):
        store.backup(copy)

    copied = SQLiteStore(copy, synchronous="NORMAL")
    assert copied.balance("user:alice", ALWAYS).spent_pico == 700
    assert copied.verify() == []
    copied.close()


def test_shell_reads_the_ledger(path: Path, store: SQLiteStore) -> None:
    """The views show dollars and dates to anyone with SQLite."""
    store.reserve(hold(entry(5, user_id="bob"), owners=("ledger", "user:bob")))
    shell = sqlite3.connect(path)

    assert shell.execute(
        "SELECT at, function_name, user_id, model, cost_usd FROM costs"
    ).fetchall() == [("2026-11-22 12:00:30", "answer", "alice", "gpt-4o-mini", 7e-10)]
    assert shell.execute("SELECT user_id, reserved_usd FROM holds").fetchall() == [("bob", 5e-12)]
    assert shell.execute("SELECT owner, day, spent_usd, calls FROM spent_by_owner").fetchall() == [
        ("ledger", "2026-11-22", 7e-10, 1),
        ("user:alice", "2026-11-22", 7e-10, 1),
    ]
    shell.close()


def test_full_disk_changes_nothing_and_passes(path: Path) -> None:
    """Without room a call is refused whole; with room again the same store goes on."""
    store = SQLiteStore(path)
    with file_size_limit(path.with_name(path.name + "-wal").stat().st_size + 20_000):
        admitted = 0
        full = ""
        while not full and admitted < 1000:
            try:
                store.reserve(hold(entry(10), limit(10**6)))
                admitted += 1
            except BudgetStoreError as error:
                full = str(error)
        assert re.search(r"ledger\.db: (disk I/O error|database or disk is full)", full)
        assert store.balance("user:alice", ALWAYS).reserved_pico == admitted * 10

    store.settle(entry(1), ALICE)
    assert store.balance("user:alice", ALWAYS).reserved_pico == admitted * 10
    assert store.verify() == []
    store.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk without room."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_read_only_ledger_is_said(path: Path, store: SQLiteStore) -> None:
    """A file that may be read but not written is an error that names it."""
    store.close()
    if os.geteuid() == 0:
        script = f"""if 1:
            import os
            from costtrace.stores import SQLiteStore
            os.setgid(65534); os.setuid(65534)
            try:
                SQLiteStore({str(path)!r}).release("x")
            except Exception as error:
                print(type(error).__name__, error)
        """
        for folder in (path.parent, *path.parent.parents):
            if folder != Path("/tmp") and Path("/tmp") in folder.parents:
                folder.chmod(folder.stat().st_mode | 0o055)
        path.chmod(0o444)
        path.with_name("ledger.db.lock").chmod(0o666)
        said = subprocess.run(
            [sys.executable, "-B", "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert said.startswith("BudgetStoreError"), said
        assert str(path) in said
    else:
        path.chmod(0o444)
        with pytest.raises(BudgetStoreError, match=r"ledger\.db"):
            SQLiteStore(path).release("x")


def test_network_file_system_is_found(tmp_path: Path) -> None:
    """The innermost mount decides; network file systems are named, local ones are fine."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:5 / {str(tmp_path).replace(' ', chr(92) + '040')} rw shared:1 - nfs4 host:/x rw\n"
        f"3 2 0:6 / {tmp_path}/local rw - tmpfs tmpfs rw\n"
        f"4 2 0:7 / {tmp_path}/ssh rw - fuse.sshfs me@host rw\n"
    )
    for name in ("local", "ssh", "deep"):
        (tmp_path / name).mkdir()

    assert network_file_system(tmp_path, mounts) == "nfs4"
    assert network_file_system(tmp_path / "deep", mounts) == "nfs4"
    assert network_file_system(tmp_path / "local", mounts) is None
    assert network_file_system(tmp_path / "ssh", mounts) == "fuse.sshfs"
    assert network_file_system(Path("/"), mounts) is None
    assert network_file_system(Path("/"), tmp_path / "none") is None


def test_stores_load_sqlite_only_when_asked() -> None:
    """Importing the package, or the memory store, loads no database."""
    script = (
        "import sys, costtrace.stores; costtrace.stores.MemoryStore();"
        "assert 'sqlite3' not in sys.modules; costtrace.stores.SQLiteStore;"
        "assert 'sqlite3' in sys.modules; assert 'asyncio' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


def test_interruption_anywhere_leaves_a_sound_store(tmp_path: Path) -> None:
    """Ctrl-C at any line of any step: no transaction stays open, and the step can be done again."""
    steps: list[Callable[[SQLiteStore, CostEntry], object]] = [
        lambda store, call: store.reserve(hold(call, limit(10**6))),
        lambda store, call: store.settle(call, ALICE, [Watch("user:alice", ALWAYS, 1, "k")]),
    ]
    for step in steps:
        store = SQLiteStore(tmp_path / f"{steps.index(step)}.db", synchronous="NORMAL")
        line = 0
        while True:
            call = entry(100)
            was_interrupted = interrupted_at(line, partial(step, store, call))
            assert store.verify() == []
            if not was_interrupted:
                break
            line += 1
            store.reserve(hold(entry(1), limit(10**6)))
            store.settle(call, ALICE)
            assert store.balance("user:alice", ALWAYS).spent_pico == line * 100
        assert line > 50
        store.close()


@pytest.mark.parametrize("times", [1, 2])
def test_file_is_opened_again_when_others_tidied_up_meanwhile(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last process to leave deletes the shared memory that this one was about to lock."""
    path, left, show = tmp_path / "ledger.db", [times], Presence.show

    def shown_late(presence: Presence) -> None:
        if left[0]:
            left[0] -= 1
            path.with_name("ledger.db-shm").unlink()
        show(presence)

    monkeypatch.setattr(Presence, "show", shown_late)
    store = SQLiteStore(path)
    store.settle(entry(5), ("ledger",))
    assert store.balance("ledger", ALWAYS).spent_pico == 5
    assert store.verify() == []
    store.close()

    again = SQLiteStore(path)
    assert again.sums().calls == 1
    again.close()


def test_file_whose_shared_memory_always_goes_away_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which file, and leaves nothing open."""

    def shown(_: Presence) -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr(Presence, "show", shown)
    with pytest.raises(BudgetStoreError, match=r"ledger.db: gone"):
        SQLiteStore(tmp_path / "ledger.db")

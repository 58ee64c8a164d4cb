"""What a store cannot take outlives the process: in a file, entered once, by whoever comes next."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from spool_workers import heard, started, told
from waiting import wait_until

from costtrace import BudgetStoreError, CostLedger, MemoryStore, SQLiteStore, budget
from costtrace.accounting import backlog, spool
from costtrace.testing import LoopbackProvider

TIMEOUT_S = 0.3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "costs.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes and does not end."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def opened(path: Path, **options: Any) -> CostLedger:
    return CostLedger(store=SQLiteStore(path, timeout_s=TIMEOUT_S), **options)


def record(ledger: CostLedger, *call_ids: str) -> None:
    for call_id in call_ids:
        ledger.record("gpt-4o-mini", "f", "alice", 1_000, 0, call_id=call_id)


def spools(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def beside(path: Path) -> Path:
    return path.with_name(path.name + "-spool")


def left_behind(path: Path, count: int = 3, prefix: str = "dead") -> Path:
    """A spool whose process was killed with so many calls in it; the store is there again."""
    CostLedger(path=path).close()
    before = set(spools(beside(path)))
    worker = started("record", "sqlite", path, prefix, count)
    assert heard(worker) == "open"
    with locked(path):
        told(worker)
        while heard(worker) != "all":
            pass
        worker.kill()
        worker.communicate()
    (left,) = set(spools(beside(path))) - before
    return left


def call_ids(ledger: CostLedger) -> list[str]:
    assert ledger.verify() == []
    return sorted(entry.call_id for entry in ledger.entries)


# this process


def test_nothing_is_made_before_something_fails(path: Path):
    """A ledger whose store works has no spool, and no folder for one."""
    with opened(path) as ledger:
        record(ledger, "a")
        ledger.flush()
    assert not [one for one in path.parent.iterdir() if "spool" in one.name]
    assert list(Path(os.environ["XDG_STATE_HOME"]).rglob("*.spool*")) == []


def test_what_waits_is_on_the_disk_until_it_is_written(path: Path):
    """A locked file: each call is in the spool at once, then in the ledger, and the spool gone."""
    with opened(path) as ledger:
        with locked(path):
            record(ledger, "a", "b", "c")
            (one,) = spools(beside(path))
            assert [f'"call_id":"{name}"' in one.read_text() for name in "abc"] == [True] * 3
            assert (ledger.health().waiting, ledger.health().unspooled) == (3, 0)
            assert ledger.flush() is False
        assert ledger.flush() is True
        assert call_ids(ledger) == ["a", "b", "c"]
        assert not beside(path).exists()
        assert (ledger.health().waiting, ledger.health().lost) == (0, 0)


def test_it_is_written_without_another_call(path: Path):
    """Somebody looks every half second whether the store is back."""
    with opened(path) as ledger:
        with locked(path):
            record(ledger, "a", "b")
        wait_until(lambda: ledger.health().waiting == 0)
        assert call_ids(ledger) == ["a", "b"]


def test_only_one_call_waits_for_a_store_that_hangs(path: Path):
    """The first waits for the deadline; the next ones are told at once, and so is a hard limit."""
    with opened(path) as ledger, locked(path):
        before = time.monotonic()
        record(ledger, "a")
        assert time.monotonic() - before >= TIMEOUT_S
        took = []
        for number in range(20):
            before = time.monotonic()
            record(ledger, f"b{number}")
            with pytest.raises(BudgetStoreError, match="locked"):
                budget("alice", 1, ledger=ledger).authorize("0.01")
            took.append(time.monotonic() - before)
        assert sorted(took)[10] < 0.05
        assert sum(one >= TIMEOUT_S for one in took) <= 2  # the machine may have been elsewhere
        assert ledger.health().waiting == 21


def test_a_hard_limit_is_held_again_when_the_store_is_back(path: Path):
    """Refused while it is away, allowed afterwards, and nothing of it stays reserved."""
    with opened(path) as ledger:
        b = budget("alice", 1, ledger=ledger)
        with locked(path), pytest.raises(BudgetStoreError):
            b.authorize("0.9")

        def allowed() -> bool:
            try:
                b.authorize("0.9").release()
            except BudgetStoreError:
                return False
            return True

        wait_until(allowed)
        assert (ledger.flush(), b.reserved_usd) == (True, 0)


def test_what_comes_while_it_is_written_keeps_its_order(path: Path, clock: Any):
    """An entry and its corrections, made while the store is away, come out as the last one."""
    with opened(path, clock=clock) as ledger:
        with locked(path):
            b = budget("alice", ledger=ledger)
            hold = b.authorize("0.5")
            hold.settle("0.25")
            record(ledger, "x")
        assert ledger.flush()
        assert [entry.call_id for entry in ledger.entries][-1] == "x"
        assert str(b.spent_usd) == "0.25015"


def test_neither_prompts_nor_keys_are_in_it(path: Path, provider: LoopbackProvider):
    """Of a real call only its entry is kept, in a file that nobody else may read."""
    with opened(path) as ledger:
        client = provider.openai(api_key="sk-very-secret")
        with locked(path), budget("alice", ledger=ledger):
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "my-own-prompt"}]
            )
            (one,) = spools(beside(path))
            text = one.read_text()
            assert stat.S_IMODE(one.stat().st_mode) == 0o600
            assert stat.S_IMODE(beside(path).stat().st_mode) == 0o700
        answer = provider.default.text
        assert "gpt-4o-mini" in text
        assert not [word for word in ("very-secret", "my-own", answer) if word and word in text]


def test_a_child_leaves_its_parents_spool_alone(path: Path):
    """Forked while something waits: the parent writes it; the child has a spool of its own."""
    with opened(path) as ledger:
        with locked(path):
            record(ledger, "parent")
            pid = os.fork()
            if pid == 0:
                try:
                    assert ledger.health().waiting == 0
                    record(ledger, "child")
                    os._exit(0 if len(spools(beside(path))) == 2 else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(pid, 0)[1] == 0
        assert ledger.flush()
        assert call_ids(ledger) == ["child", "parent"]
        assert ledger.health().recovered == 1


def test_a_closed_ledger_leaves_what_waits_to_the_next(path: Path):
    """Closing does not fail, and the same process may open it again."""
    ledger = opened(path)
    with locked(path):
        record(ledger, "a")
        ledger.close()
        assert len(spools(beside(path))) == 1
    with opened(path) as ledger:
        assert call_ids(ledger) == ["a"]
        assert ledger.health().recovered == 1


def test_a_ledger_that_nobody_uses_any_more_leaves_it_too(path: Path):
    """Forgotten, not closed, as by `configure`: the next one in the same process enters it."""
    ledger = opened(path)
    with locked(path):
        record(ledger, "a")
        del ledger
        gc.collect()
    with opened(path) as ledger:
        assert ledger.flush()
        assert call_ids(ledger) == ["a"]


# dead processes


def test_killed_while_the_store_was_away_nothing_is_lost(path: Path):
    """The next one that opens the ledger enters it, before anybody asks for a total."""
    left = left_behind(path)
    with opened(path) as ledger:
        assert call_ids(ledger) == ["dead-0", "dead-1", "dead-2"]
        assert ledger.health().recovered == 3
        assert not left.exists()
    with opened(path) as ledger:
        assert len(ledger.entries) == 3
        assert ledger.health().recovered == 0


def test_the_spool_of_a_living_process_is_left_alone(path: Path):
    """It is locked; a process that ends before the store is back leaves it to the next."""
    CostLedger(path=path).close()
    worker = started("record", "sqlite", path, "live", 1)
    heard(worker)
    with locked(path):
        told(worker)
        assert heard(worker) == "live-0"
        os.kill(worker.pid, 19)  # SIGSTOP: it lives, and does nothing
    try:
        with opened(path) as ledger:
            assert ledger.health().recovered == 0
            os.kill(worker.pid, 9)
            worker.communicate()
            assert ledger.flush()
            assert call_ids(ledger) == ["live-0"]
    finally:
        worker.kill()


def test_a_tail_that_is_cut_off_is_counted_and_takes_nothing_along(path: Path):
    """Killed in the middle of a line, anywhere: the lines before it are entered."""
    left = left_behind(path)
    data = left.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    for end in (last + 1, last + 9, last + 20, len(data) - 2, len(data) - 1):
        copy = path.with_name(f"copy-{end}.db")
        SQLiteStore(copy).close()
        beside(copy).mkdir(mode=0o700)
        (beside(copy) / left.name).write_bytes(data[:end])
        with opened(copy) as ledger:
            assert call_ids(ledger) == ["dead-0", "dead-1"]
            assert (ledger.health().torn, ledger.health().recovered) == (1, 2)
            assert not ledger.health().is_good
        assert not beside(copy).exists()


def test_a_damaged_line_is_told_and_the_file_kept(path: Path, caplog: pytest.LogCaptureFixture):
    """What can be read is entered, what cannot is never guessed at."""
    left = left_behind(path)
    data = bytearray(left.read_bytes())
    data[data.find(b'"dead-1"') + 3] ^= 1
    left.write_bytes(data)
    with opened(path) as ledger:
        assert call_ids(ledger) == ["dead-0", "dead-2"]
        assert ledger.health().lost == 1
    (kept,) = spools(beside(path))
    assert kept.name == left.name + ".damaged"
    assert str(kept) in caplog.text
    with opened(path) as ledger:
        assert ledger.health().lost == 0
        assert len(ledger.entries) == 2


def test_what_a_newer_version_wrote_is_left_to_it(path: Path):
    """An entry with a field that this version does not know is not entered without it."""
    left = left_behind(path)
    *others, last = left.read_bytes().splitlines(keepends=True)
    text = last.split(b" ", 2)[2].strip().replace(b'"settle":{', b'"settle":{"mood":"good",')
    line = b"%08x %d %s\n" % (zlib.crc32(text), len(text), text)
    left.write_bytes(b"".join(others) + line)
    with opened(path) as ledger:
        assert len(ledger.entries) == 0
        assert ledger.flush()
    assert left.exists()


def test_two_processes_that_find_the_same_spool_enter_it_once(path: Path):
    """Four start together on three spools: each step is done by one of them."""
    for number in range(3):
        left = left_behind(path, 8, f"dead{number}")
        left.rename(left.with_suffix(".hidden"))  # from the next one
    for hidden in spools(beside(path)):
        hidden.rename(hidden.with_suffix(".spool"))
    workers = [started("adopt", "sqlite", path) for _ in range(4)]
    for worker in workers:
        assert heard(worker) == "ready"
    for worker in workers:
        told(worker)
    found = [int(heard(worker)) for worker in workers]
    for worker in workers:
        worker.communicate()
    assert sum(found) == 24
    with opened(path) as ledger:
        assert len(set(call_ids(ledger))) == len(ledger.entries) == 24
    assert not beside(path).exists()


class Stopping:
    """A real store that takes so many steps, and then none."""

    def __init__(self, store: SQLiteStore, takes: int) -> None:
        self.inner, self.takes = store, takes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        if self.takes == 0:
            raise BudgetStoreError("the network is gone")
        self.takes -= 1
        return self.inner.settle(*args, **kwargs)


def test_a_spool_that_was_entered_in_part_is_gone_on_with(path: Path):
    """The store fails in the middle of it: the next process does the rest, and only that."""
    left = left_behind(path, 5)
    ledger = CostLedger(store=Stopping(SQLiteStore(path), 2))  # type: ignore[arg-type]
    assert (ledger.health().recovered, left.exists()) == (2, True)
    ledger.close()
    with opened(path) as ledger:
        assert ledger.health().recovered == 3
        assert len(call_ids(ledger)) == 5


def test_alerts_of_what_a_dead_process_left_are_sent(path: Path):
    """Who enters it crosses the threshold."""
    left_behind(path, 9)
    heard_alerts: list[Any] = []
    with opened(path, budget_usd="0.0015", on_alert=heard_alerts.append) as ledger:
        ledger.flush()
    assert len(heard_alerts) == 1


def test_a_file_that_was_replaced_gets_what_waited(path: Path):
    """The ledger's file was damaged and a copy of it is put in its place."""
    with opened(path) as ledger:
        record(ledger, "a")
        ledger.backup(path.with_name("copy.db"))
        path.with_name("copy.db").replace(path)
        record(ledger, "b", "c")
        assert (ledger.health().waiting, ledger.flush()) == (2, False)
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    with opened(path) as ledger:
        assert call_ids(ledger) == ["a", "b", "c"]


# where it lies


def test_the_user_names_the_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As an option or in the environment; several ledgers may share it."""
    monkeypatch.setenv("COSTTRACE_SPOOL", str(tmp_path / "all"))
    other = tmp_path / "other.db"
    for where in (path, other):
        ledger = opened(where)
        with locked(where):
            record(ledger, where.name)
            ledger.close()
    assert len(spools(tmp_path / "all")) == 2
    with opened(path, spool=tmp_path / "own") as ledger:
        assert len(ledger.entries) == 0
    for where in (path, other):
        with opened(where) as ledger:
            assert call_ids(ledger) == [where.name]
    assert spools(tmp_path / "all") == []


def test_where_the_files_folder_cannot_be_used_there_is_another(path: Path):
    """Beside the file is a file of that name: the state folder of this user takes it."""
    beside(path).write_text("in the way")
    state = Path(os.environ["XDG_STATE_HOME"], "costtrace", "spool")
    with opened(path) as ledger:
        with locked(path):
            record(ledger, "a")
            (one,) = spools(state)
            assert stat.S_IMODE(state.stat().st_mode) == 0o700
        ledger.flush()
        assert (one.exists(), call_ids(ledger)) == (False, ["a"])


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_a_folder_that_others_may_write_to_is_not_used(path: Path, tmp_path: Path, trap: str):
    """Nor is a link followed: neither to write, nor to read what somebody put there."""
    left = left_behind(path)
    folder = beside(path)
    if trap == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.chmod(0o777)
    with opened(path) as ledger:
        with locked(path):
            record(ledger, "a")
            assert len(spools(folder)) == 1
        ledger.flush()
        assert call_ids(ledger) == ["a"]
    assert left.exists()


@pytest.mark.parametrize("trap", ["symbolic", "hard", "fifo"])
def test_a_spool_that_is_a_link_is_not_read(path: Path, tmp_path: Path, trap: str):
    """Nor one that would make us wait."""
    left = left_behind(path)
    target = tmp_path / "target"
    left.rename(target)
    if trap == "symbolic":
        left.symlink_to(target)
    elif trap == "hard":
        left.hardlink_to(target)
    else:
        os.mkfifo(left)
    with opened(path) as ledger:
        assert (len(ledger.entries), ledger.flush()) == (0, True)


def test_options_that_make_no_sense_are_errors(path: Path, tmp_path: Path):
    """Before anything is opened."""
    for wrong, kind in ((True, TypeError), (7, TypeError), ("", ValueError)):
        with pytest.raises(kind, match="spool"):
            CostLedger(path=path, spool=wrong)

    class Nameless(MemoryStore):
        is_blocking = True

    with pytest.raises(TypeError, match="identity"):
        CostLedger(store=Nameless(), spool=tmp_path)
    CostLedger(spool=tmp_path).close()  # a ledger in memory never has to wait


# bounds


def test_without_a_spool_what_waits_is_counted_as_such(path: Path):
    """`spool=False`: in memory alone."""
    with opened(path, spool=False) as ledger:
        with locked(path):
            record(ledger, "a", "b")
            assert (ledger.health().waiting, ledger.health().unspooled) == (2, 2)
        assert ledger.flush()
        assert (ledger.health().unspooled, call_ids(ledger)) == (0, ["a", "b"])
    assert not beside(path).exists()


def test_a_spool_holds_no_more_than_it_may(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Beyond it entries wait in memory alone, which is counted and said once."""
    monkeypatch.setattr(spool, "MOST_BYTES", 1500)
    with opened(path) as ledger:
        with locked(path):
            record(ledger, *map(str, range(10)))
            (one,) = spools(beside(path))
            assert one.stat().st_size <= 1500
            assert ledger.health().waiting == 10
            assert 0 < ledger.health().unspooled < 10
        assert ledger.flush()
        assert len(call_ids(ledger)) == 10
        assert (ledger.health().unspooled, ledger.health().lost) == (0, 0)
    assert caplog.text.count("in memory alone") == 1
    assert not beside(path).exists()


def test_memory_holds_no_more_than_it_may(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """What neither can keep is counted as lost, and said once."""
    monkeypatch.setattr(backlog, "MOST_WAITING", 5)
    with opened(path) as ledger:
        with locked(path):
            record(ledger, *map(str, range(8)))
            assert (ledger.health().waiting, ledger.health().lost) == (5, 3)
        assert ledger.flush()
        assert call_ids(ledger) == list("01234")
        assert not ledger.health().is_good
    assert caplog.text.count("an entry is lost") == 1


def test_refused_calls_do_not_take_the_place_of_entries(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Holds that were probably never made are given back only as far as there is room."""
    monkeypatch.setattr(backlog, "MOST_UNCERTAIN", 3)
    store = Stopping(SQLiteStore(path), 0)
    store.reserve = store.settle  # type: ignore[attr-defined]
    with CostLedger(store=store, spool=False) as ledger:  # type: ignore[arg-type]
        record(ledger, "a")
        for _ in range(10):
            with pytest.raises(BudgetStoreError):
                budget("alice", 1, ledger=ledger).authorize("0.1")
        assert (ledger.health().waiting, ledger.health().lost) == (3, 0)
        store.takes = 100
        assert ledger.flush()


def test_a_full_disk_takes_nothing_from_the_ledger(path: Path):
    """No room for the file from some call on; when there is room again, all of them are there."""
    CostLedger(path=path).close()
    worker = started("fill", path, 120)
    waiting, unspooled, is_written = heard(worker).split()
    assert (int(waiting) > 20, unspooled, is_written) == (True, "0", "False")
    assert heard(worker).split() == ["True", "120", "0"]
    worker.communicate()

"""Bytes of a ledger's files that are not as they were written: never silently another total."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_calls import ALICE, DAY, entry, hold, limit, rich_entry

from costtrace.exceptions import BudgetStoreError
from costtrace.stores import SQLiteStore
from costtrace.stores.base import ALWAYS, Sums

FLIPS = 200


def opened(path: Path) -> SQLiteStore:
    return SQLiteStore(path, synchronous="NORMAL", timeout_s=10)


def spend(store: SQLiteStore, name: str, count: int) -> None:
    """Make calls of three users, of which every tenth stays held; some have every field."""
    for number in range(count):
        user = f"{name}{number % 3}"
        owners, known = ("ledger", f"user:{user}"), {"call_id": f"{name}-{number}", "user_id": user}
        call = entry(number * 7, **known) if number % 4 else rich_entry(grade="reported", **known)
        store.reserve(hold(call, limit(10**9, DAY, owners[1]), owners=owners))
        if number % 10:
            store.settle(call, owners)


def totals_of(store: SQLiteStore) -> list[object]:
    """Every total and balance that somebody may look at."""
    owners = ["ledger", *(f"user:{name}{n}" for name in "ab" for n in range(3))]
    sums = [store.totals([by]) for by in ("user_id", "function_name", "model", "day")]
    return [store.sums(), sums, [store.balance(o, span) for o in owners for span in (ALWAYS, DAY)]]


def tried(step: Callable[[], Any], path: Path) -> Any:
    """What a step answers; None for an error, which names the file."""
    try:
        return step()
    except BudgetStoreError as error:
        if not str(error).startswith(str(path)):
            raise
        return None


def is_noticed(store: SQLiteStore, expected: list[object]) -> bool:
    """Whether totals are as expected, or an error or a finding of `verify`."""
    path = store.path
    totals, found = tried(lambda: totals_of(store), path), tried(store.verify, path)
    return totals in (None, expected) or found != []


def use(store: SQLiteStore) -> None:
    """Read all, reserve, settle, close: whatever goes wrong says which file it is."""
    for step in (
        lambda: list(store.entries()),
        store.provisional,
        lambda: store.reserve(hold(entry(1), limit(10**9))),
        lambda: store.settle(entry(1), ALICE),
        store.close,
    ):
        tried(step, store.path)


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The same with another byte in one place."""
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ chance.randrange(1, 256)]) + content[at + 1 :]


def copies(folder: Path, main: bytes) -> Iterator[Path]:
    """Two hundred times a file with this content and nothing beside it."""
    path = folder / "damaged.db"
    for _ in range(FLIPS):
        for leftover in folder.glob("damaged.db*"):
            leftover.unlink()
        path.write_bytes(main)
        yield path


def test_flipped_byte_is_an_error_or_a_finding(tmp_path: Path) -> None:
    """Two hundred files, one byte each: nothing else is added up, and nothing is written over."""
    store, chance, refused = opened(tmp_path / "ledger.db"), random.Random(12), 0
    spend(store, "a", 120)
    expected = totals_of(store)
    store.backup(tmp_path / "whole.db")
    store.close()
    whole = (tmp_path / "whole.db").read_bytes()

    for path in copies(tmp_path, whole):
        content = flipped(whole, chance)
        path.write_bytes(content)
        again = tried(lambda path=path: opened(path), path)
        if again is None:
            refused += 1
            assert path.read_bytes() == content
        else:
            assert is_noticed(again, expected)
            use(again)
    assert 0 < refused < FLIPS / 4


def test_name_is_found_wherever_it_was_changed(tmp_path: Path) -> None:
    """In the index alone it would be an owner that nobody finds, with a fresh zero to spend."""
    store = opened(tmp_path / "ledger.db")
    spend(store, "a", 30)
    expected = totals_of(store)
    store.backup(tmp_path / "whole.db")
    store.close()
    whole = (tmp_path / "whole.db").read_bytes()

    places = [match.start() for match in re.finditer(b"user:a1", whole)]
    assert len(places) >= 2  # the table's, and its index's
    for place, path in zip(places, copies(tmp_path, whole), strict=False):
        path.write_bytes(whole[:place] + b"user:z1" + whole[place + 7 :])
        again = opened(path)
        assert is_noticed(again, expected)
        assert tried(again.verify, path) != []
        use(again)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_log_gives_the_state_of_a_commit(tmp_path: Path, damage: str) -> None:
    """After a crash the log ends anywhere, or has another byte: all before that place counts."""
    live, chance = opened(tmp_path / "live.db"), random.Random(12)
    spend(live, "a", 60)
    live.flush()
    states = [live.sums()]
    for number in range(40):
        live.settle(entry(number), ALICE)
        states.append(live.sums())
    main, log = (tmp_path / "live.db").read_bytes(), (tmp_path / "live.db-wal").read_bytes()
    live.close()

    found: set[int] = set()
    for path in copies(tmp_path, main):
        is_cut = damage == "cut"
        left = log[: chance.randrange(len(log))] if is_cut else flipped(log, chance)
        path.with_name("damaged.db-wal").write_bytes(left)
        store = opened(path)
        found.add(states.index(store.sums()))
        assert store.verify() == []
        store.close()
    assert len(found) > 10


def test_byte_that_is_flipped_in_the_log_under_a_reader_is_found(tmp_path: Path) -> None:
    """While the ledger is open nobody checks the log's sums again: `verify` does, or an error."""
    for seed in range(40):
        chance, path = random.Random(seed), tmp_path / f"{seed}.db"
        store = opened(path)
        spend(store, "a", 30)
        expected, log = totals_of(store), path.with_name(f"{seed}.db-wal")
        damaged = flipped(log.read_bytes(), chance)
        with log.open("r+b") as file:
            file.write(damaged)

        other = opened(path)
        assert is_noticed(other, expected)
        use(other)
        tried(store.close, path)


def test_log_of_another_ledger_is_found(tmp_path: Path) -> None:
    """Beside a ledger lies what another one, in use for a while, has not yet taken in."""
    mine, other = opened(tmp_path / "mine.db"), opened(tmp_path / "other.db")
    spend(mine, "a", 300)
    expected = totals_of(mine)
    mine.close()
    spend(other, "b", 200)
    other.close()
    other = opened(tmp_path / "other.db")
    spend(other, "a", 30)
    shutil.copy(tmp_path / "other.db-wal", tmp_path / "mine.db-wal")
    other.close()

    again = tried(lambda: opened(tmp_path / "mine.db"), tmp_path / "mine.db")
    if again is not None:
        assert is_noticed(again, expected)
        use(again)


def test_older_file_beside_a_newer_log_is_found(tmp_path: Path) -> None:
    """Somebody put yesterday's copy back and left today's log where it was."""
    states: list[Sums] = []
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    for name in ("a", "b", "c"):
        store = opened(path)
        spend(store, name, 100)
        states.append(store.sums())
        if name == "c":
            shutil.copy(tmp_path / "ledger.db-wal", tmp_path / "copy.db-wal")
        store.close()
        if name == "a":
            shutil.copy(path, copy)

    again = tried(lambda: opened(copy), copy)
    if again is not None:
        found = tried(again.verify, copy)
        assert tried(again.sums, copy) in (None, *states) or found != []
        assert found != []
        use(again)

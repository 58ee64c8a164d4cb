"""Users are forgotten: under a pseudonym every sum stays, and the name is nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))
from homes import KINDS, empty_home
from servers import started_postgres, started_redis

from costtrace import CostLedger, budget

NAME = "alice.liddell@example.org"


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], Any]]:
    """Each kind, with what opens an empty store."""
    return request.param, empty_home(request.param, "forgetful", tmp_path)


@pytest.fixture
def ledger(home: tuple[str, Callable[[], Any]]) -> Iterator[CostLedger]:
    """A ledger in which a user has entries, holds, budgets of all windows, blocks and alerts."""
    with CostLedger(store=home[1](), budget_usd=1) as ledger:
        for window in ("day", "block", None):
            with (
                budget("team", 3, ledger=ledger),
                budget(NAME, 1, window=window, alert_at=(0.1, 0.2), ledger=ledger) as b,
            ):
                b.record("0.25")
        for number in range(300):  # more than a page of them
            ledger.record("gpt-4o", f"f{number % 7}", NAME, 1000 + number, 10)
        ledger.record("gpt-4o", "f", "bob", 1000, 10)
        ledger.hold = budget(NAME, 9, ledger=ledger).authorize("0.125")  # type: ignore[attr-defined]
        yield ledger
        assert ledger.verify() == []


def sums(ledger: CostLedger, *users: str) -> Any:
    """What must stay as it is."""
    from costtrace.stores.base import ALWAYS

    by = ("function_name", "model", "day", "call_path")
    return (
        [ledger.totals((each,)) for each in by],
        ledger.total_cost,
        [ledger.spent(user_id=user) for user in users],
        [ledger.store.balance(f"user:{user}", ALWAYS) for user in users],
        len(ledger.store.budgets()),
    )


def found_in(kind: str, folder: Path, name: str) -> list[str]:
    """Where a home still names somebody."""
    if kind == "sqlite":
        files = [file for file in folder.iterdir() if name.encode() in file.read_bytes()]
        return [file.name for file in files]
    if kind == "postgres":
        server = started_postgres()
        tables = server.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') "
            "AND relnamespace = 'forgetful'::regnamespace"
        )
        return [
            table
            for (table,) in tables
            for (row,) in server.execute(f"SELECT CAST(t AS text) FROM forgetful.{table} AS t")
            if name in row
        ]
    if kind == "redis":
        with started_redis().client() as client:
            keys = client.keys("*forgetful*")
            texts = [(key, client.execute_command("DUMP", key)) for key in keys]
            texts += [(key, str(whole(client, key)).encode()) for key in keys]
        return [str(key) for key, text in texts if name.encode() in key + text]
    return []


def whole(client: Any, key: bytes) -> Any:
    """All that a key of Redis holds."""
    kind = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1)
    return client.smembers(key) if kind == b"set" else client.get(key)


def test_name_is_nowhere_and_every_sum_stays(
    ledger: CostLedger, home: tuple[str, Any], tmp_path: Path
) -> None:
    """In rows, keys, logs and free pages; balances and budgets are the pseudonym's."""
    kind = home[0]
    assert kind == "memory" or found_in(kind, tmp_path, NAME)
    before = sums(ledger, NAME, "team", "bob")

    done = ledger.forget(NAME)

    assert (done.entries, done.is_known) == (303, True)
    assert done.pseudonym.startswith("gone-")
    assert sums(ledger, done.pseudonym, "team", "bob") == before
    assert sums(ledger, NAME)[2:4] == sums(ledger, "nobody")[2:4]
    assert found_in(kind, tmp_path, NAME) == []
    assert NAME not in str([*ledger.entries, ledger.store.latched(), ledger.store.budgets()])
    ledger.hold.release()  # type: ignore[attr-defined]
    assert found_in(kind, tmp_path, NAME) == []


def test_forgetting_again_changes_nothing(ledger: CostLedger) -> None:
    """Nobody of that name is known any more; a new call of the user is a new user's."""
    first = ledger.forget(NAME)
    again = ledger.forget(NAME)
    assert (again.entries, again.is_known) == (0, False)

    ledger.record("gpt-4o", "f", NAME, 1000, 10)
    third = ledger.forget(NAME)

    assert (third.entries, third.is_known) == (1, True)
    assert third.pseudonym != first.pseudonym
    assert ledger.spent(user_id=first.pseudonym) > ledger.spent(user_id=third.pseudonym) > 0


def test_nobody_and_somebody_else_cannot_be_forgotten(ledger: CostLedger) -> None:
    """Those without a name, a name that is in use, and what is no name."""
    for user, pseudonym, said in (
        ("anon", None, "nobody to forget"),
        (NAME, "bob", "two users would become one"),
        (NAME, NAME, "two users would become one"),
        ("", None, "user_id must not be empty"),
    ):
        with pytest.raises(ValueError, match=said):
            ledger.forget(user, pseudonym)
    assert ledger.forget("mallory").is_known is False
    assert ledger.totals("user_id")[0].key == NAME


def test_who_comes_back_under_the_same_budget_is_watched_again():
    """Whoever was forgotten begins anew: the limit is whole, and 90% of it is told of."""
    told: list[str] = []
    ledger = CostLedger()
    b = budget("alice", 1, on_alert=lambda alert: told.append(str(alert.user_id)), ledger=ledger)
    with b:
        b.authorize("0.5").settle("0.5")
        ledger.forget("alice")
        b.authorize("0.95").settle("0.95")
    assert told == ["alice"]
    assert b.spent_usd == Decimal("0.95")

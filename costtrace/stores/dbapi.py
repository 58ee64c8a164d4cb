"""The store in PostgreSQL, through any PEP 249 driver: many machines, durable."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from costtrace.entry import CostEntry, Total
from costtrace.exceptions import BudgetStoreError
from costtrace.stores import dbapi_upkeep as upkeep
from costtrace.stores.base import (
    EVERYTHING,
    Balance,
    BudgetRecord,
    Crossing,
    Dimension,
    Hold,
    Query,
    Refusal,
    Span,
    Sums,
    Watch,
)
from costtrace.stores.clock import checked_timeout
from costtrace.stores.dbapi_link import Connector, Rows, Step, schema_lock
from costtrace.stores.dbapi_moves import DBAPIMoves
from costtrace.stores.dbapi_payload import (
    release_payload,
    renew_payload,
    reserve_payload,
    settle_payload,
)
from costtrace.stores.dbapi_session import Session, unanswered_as_ours
from costtrace.stores.grouping import check_query, dimensions
from costtrace.stores.lanes import Lane
from costtrace.stores.payloads import crossings, digest_of, owner_digest
from costtrace.stores.questions import Questions
from costtrace.stores.rows import (
    CEILING,
    balance_of,
    check_text,
    conflict,
    facts_of,
    lease_us,
    refusal,
    to_us,
    too_old,
)

_LAPSED_AT_ONCE, _PRUNED_AT_ONCE = 500, 1000
_LAPSED_BY_RESERVE = 64
_SET_UP_S = 30.0
_QUESTION_S = 60.0
_MOST_VOIDS = 10_000
T = TypeVar("T")

BALANCE = """SELECT r.* FROM owner, LATERAL running(owner.id, CAST(? AS bigint),
    CAST(? AS bigint), CAST(? AS boolean)) AS r WHERE digest = CAST(? AS uuid)"""


class DBAPIStore(DBAPIMoves):
    """Keeps everything in one schema of a PostgreSQL database.

    `connect` takes no arguments and returns a new PEP 249 connection each time; each process opens
    its own, at most one for steps and one for questions. The schema is made, or brought up to date,
    when the store is opened; the role needs the right to create it, or to create tables in it. A
    step that is not done within `timeout_s` raises `BudgetStoreError`; a question about the whole
    ledger may take a minute. A wrong `connect` raises `TypeError` or `ValueError` at once. What is
    acknowledged is as durable as `synchronous_commit` says. Between the database and this store
    there may be a pool of sessions, but none that deals out single transactions.
    """

    is_blocking = True

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        timeout_s: float = 2.0,
        schema: str = "costtrace",
        paramstyle: str | None = None,
    ) -> None:
        checked_timeout(timeout_s)
        connector = Connector(connect, schema=schema, paramstyle=paramstyle)
        self._schema, self._timeout_s = schema, timeout_s
        self._now_us: Callable[[], int] | None = None
        self._voids = voids = deque[tuple[str, str]](maxlen=_MOST_VOIDS)
        self._is_closed = False
        setup: Lane[Session] = Lane(lambda: Session(connector, _SET_UP_S, deque()))
        try:
            with unanswered_as_ours("PostgreSQL"):
                self.identity = f"postgresql:{setup.run(Session.set_up, _SET_UP_S)}"
                """What tells this ledger from every other one."""
        finally:
            setup.close()
        self._steps = Lane(lambda: Session(connector, timeout_s, voids, is_for_steps=True))
        self._questions = Lane(lambda: Session(connector, _QUESTION_S, deque()))

    def use_clock(self, now_us: Callable[[], int]) -> None:
        """Take leases' time from this clock (microseconds since the epoch), not the server's."""
        self._now_us = now_us

    # -- steps -------------------------------------------------------------------------------

    def reserve(self, hold: Hold) -> Refusal | None:
        """Hold the worst case on every owner, or, if a limit would be passed, on none."""
        facts = facts_of(hold.entry)
        payload = reserve_payload(hold, facts, os.urandom(8).hex())
        call_id = hold.entry.call_id
        word, *said = self._reserve(payload)
        if word == "refused":
            limit = hold.limits[said[0]]
            return refusal(limit, balance_of(said[1:4], said[4:7]), facts.charge)
        if word == "over":
            raise conflict(call_id, "is settled or lapsed already")
        if word == "other":
            raise conflict(call_id, "is held already, with another amount or other owners")
        if word == "old":
            raise too_old(call_id, facts.timestamp_us, said[0])
        return None

    def settle(
        self,
        entry: CostEntry,
        owners: tuple[str, ...],
        watches: Sequence[Watch] = (),
        *,
        amend: bool = False,
        rest: Hold | None = None,
        frees: str = "",
    ) -> list[Crossing]:
        """Replace the call's hold, or its provisional charge, by what it did cost."""
        if rest is not None:
            self.reserve(rest)
        facts = facts_of(entry)
        by_digest = {digest_of(check_text(watch.key, "a watch's key")): watch for watch in watches}
        payload = settle_payload(facts, owners, by_digest, amend)
        word, *said = self._step("settle", payload)
        if frees and word not in ("other", "old"):
            self.release(frees)
        if word == "other":
            raise conflict(entry.call_id, "is settled already, with another cost")
        if word == "old":
            raise too_old(entry.call_id, facts.timestamp_us, said[0])
        return crossings(by_digest, said[0]) if said else []

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back: nothing was billed. False if unknown."""
        return bool(self._step("release", release_payload(call_id))[0])

    def renew(self, process: str, lease_s: float) -> int:
        """Put off the lapse of all holds of a process that still stand; return how many."""
        return int(self._step("renew", renew_payload(process, lease_us(lease_s)))[0])

    def lapse(self) -> int:
        """Charge every hold whose lease has run out as its worst case; return how many."""
        return self._in_parts("lapse", {"at_most": _LAPSED_AT_ONCE})

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span."""
        end_us = CEILING if span.is_rolling else span.end_us
        digest = owner_digest(check_text(owner, "owner"))
        row = self._statement(BALANCE, (span.start_us, end_us, span.is_rolling, digest)).fetchone()
        return Balance() if row is None else balance_of(row[:3], row[3:])

    # -- alerts, budgets, owners -------------------------------------------------------------

    def undelivered(self, older_than_s: float) -> list[Crossing]:
        """Return crossings latched longer ago than this and never delivered."""
        now_us = None if self._now_us is None else self._now_us()
        values = (now_us, int(older_than_s * 1_000_000), now_us)
        return upkeep.crossings_of(self._statement(upkeep.HAND_OUT, values))

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that the alerts of these watches have been sent."""
        for key in keys:
            self._statement(upkeep.DELIVERED, (digest_of(key),))

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms; the last ones of a user and window count."""
        self._statement(upkeep.DEFINE, upkeep.budget_values(budget))

    def budgets(self) -> list[BudgetRecord]:
        """Return the budgets that were ever defined."""
        return upkeep.budgets_of(self._statement(upkeep.BUDGETS, ()))

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner that nobody will ask about again (a block)."""
        self._step("drop_owner", {"owner": owner_digest(check_text(owner, "owner"))})

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has here; return how many entries that were.

        Everybody else waits meanwhile.
        """
        check_text(user_id, "user_id"), check_text(new_user_id, "new_user_id")
        lock = schema_lock(self._schema)
        return self._ask(lambda run: upkeep.rename_user(run, lock, user_id, new_user_id), False)

    def prune(self, before: datetime, *, at_most: int | None = None) -> int:
        """Let go of settled entries authorized before; totals and balances stay exact."""
        payload = {"before_us": to_us(before, "before"), "at_most": _PRUNED_AT_ONCE}
        return self._in_parts("prune", payload, at_most)

    # -- questions ---------------------------------------------------------------------------

    def entries(
        self, query: Query = EVERYTHING, *, newest_first: bool = False
    ) -> Iterator[CostEntry]:
        """Yield entries in the order they came into the ledger, lapsed ones included."""
        check_query(query)
        return self._entries(query, newest_first)

    def sums(self, query: Query = EVERYTHING) -> Sums:
        """Return the sum of the matching entries."""
        check_query(query)
        return self._ask(lambda run: Questions(run).sums(query))

    def totals(self, by: Sequence[Dimension], query: Query = EVERYTHING) -> list[Total]:
        """Return one total for each group, dearest first; `key` is always a tuple."""
        check_query(query)
        by = dimensions(by)
        return self._ask(lambda run: Questions(run).totals(by, query))

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case because their fate is unknown."""
        return self._ask(lambda run: Questions(run).provisional())

    def verify(self) -> list[str]:
        """Check every running balance against the calls; say what does not agree."""
        return self._ask(lambda run: Questions(run).differences())

    def flush(self) -> None:
        """Do nothing: what was settled is as durable as the database makes it."""

    def close(self) -> None:
        """Close the connections; closing again does nothing."""
        self._is_closed = True
        self._steps.close()
        self._questions.close()

    # -- the server --------------------------------------------------------------------------

    def _reserve(self, payload: dict[str, Any]) -> list[Any]:
        """Have a hold made; where it fails, it is undone as soon as the server answers."""
        sent: list[str] = []
        try:
            answer = self._step("reserve", payload, sent)
            if answer[0] == "due":
                self._step("lapse", {"at_most": _LAPSED_BY_RESERVE})
                answer = self._step("reserve", {**payload, "has_lapsed": True}, sent)
        except BaseException:
            if sent:
                self._voids.append((payload["call"]["call_id"], payload["attempt"]))
            raise
        return answer

    def _step(
        self, name: Step, payload: dict[str, Any], sent: list[str] | None = None
    ) -> list[Any]:
        now_us = None if self._now_us is None else self._now_us()
        deadline = time.monotonic() + self._timeout_s
        self._check_open()
        with unanswered_as_ours("PostgreSQL"):
            return self._steps.run(
                lambda session: session.step(name, {**payload, "now_us": now_us}, deadline, sent),
                self._timeout_s,
            )

    def _statement(self, statement: str, values: tuple[Any, ...]) -> Rows:
        deadline = time.monotonic() + self._timeout_s
        self._check_open()
        with unanswered_as_ours("PostgreSQL"):
            return self._steps.run(
                lambda session: session.statement(statement, values, deadline), self._timeout_s
            )

    def _ask(self, work: Callable[[Callable[..., Rows]], T], is_snapshot: bool = True) -> T:
        deadline = time.monotonic() + _QUESTION_S
        self._check_open()
        with unanswered_as_ours("PostgreSQL"):
            return self._questions.run(
                lambda session: session.transaction(work, deadline, is_snapshot=is_snapshot),
                _QUESTION_S,
            )

    def _check_open(self) -> None:
        if self._is_closed:
            raise BudgetStoreError("PostgreSQL: this store is closed")

    def _in_parts(self, name: Step, payload: dict[str, Any], at_most: int | None = None) -> int:
        """Do something in several transactions, so that others need not wait long."""
        done = 0
        while (at_most is None or done < at_most) and (part := self._step(name, payload)[0]):
            done += part
        return done

    def _some_entries(
        self, query: Query, first: int, last: int, newest_first: bool
    ) -> tuple[list[CostEntry], int | None]:
        return self._ask(lambda run: Questions(run).some_entries(query, first, last, newest_first))

    def _entries(self, query: Query, newest_first: bool) -> Iterator[CostEntry]:
        first, last = self._ask(lambda run: Questions(run).entry_range(query))
        while first <= last:
            found, seen = self._some_entries(query, first, last, newest_first)
            yield from found
            if seen is None:
                return
            first, last = (first, seen - 1) if newest_first else (seen + 1, last)

"""The store in Redis, on a client that the user passes: many machines, fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from costtrace.entry import CostEntry, Total
from costtrace.exceptions import StoreResetError
from costtrace.stores import redis_upkeep as upkeep
from costtrace.stores.base import (
    EVERYTHING,
    LEDGER,
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
    user_owner,
)
from costtrace.stores.clock import checked_timeout
from costtrace.stores.grouping import check_query, dimensions
from costtrace.stores.payloads import crossings, digest_of, owner_digest
from costtrace.stores.redis_link import RedisLink
from costtrace.stores.redis_moves import RedisMoves
from costtrace.stores.redis_payload import reserve_payload, settle_payload, span_payload
from costtrace.stores.redis_questions import RedisAudit, RedisQuestions
from costtrace.stores.rows import (
    balance_of,
    check_text,
    conflict,
    facts_of,
    lease_us,
    refusal,
    to_us,
    too_old,
)

_LAPSED_AT_ONCE = 100
_SET_UP_S = 5.0


class RedisStore(RedisMoves):
    """Keeps everything in one namespace of a Redis server, or of a cluster's one node.

    `client` is a synchronous client such as `redis.Redis`; it stays the user's, with all its
    settings, and must be safe from threads. A step that is not done within `timeout_s` raises
    `BudgetStoreError`, whatever the client would wait; a wrong client raises `TypeError` at once.
    What is acknowledged is as durable as Redis was set up to be: without a log a restart loses
    everything, with `appendonly yes` a crash may lose the last second or two, with `appendfsync
    always` nothing; a replica that takes over may lack what was acknowledged last. A server that
    has lost its memory is noticed: every step raises `StoreResetError` until `reseed` was called.
    Needs Redis 5.

    Totals are kept; a question for entries reads all of them, page by page, and looks at its
    conditions here.
    """

    is_blocking = True

    def __init__(
        self, client: Any, *, namespace: str = "costtrace", timeout_s: float = 0.25
    ) -> None:
        checked_timeout(timeout_s)
        if not isinstance(namespace, str) or not namespace or set(namespace) & set("{}"):
            raise ValueError(f"namespace must be a text without braces, not {namespace!r}")
        self._link = RedisLink(
            client, namespace=check_text(namespace, "namespace"), timeout_s=timeout_s
        )
        self._now_us: Callable[[], int] | None = None
        self._link.open(max(timeout_s, _SET_UP_S))

    @property
    def identity(self) -> str:
        """What tells this ledger from every other one, also from a later one on the same server."""
        return f"redis:{self._link.namespace}:{self._link.generation}"

    def use_clock(self, now_us: Callable[[], int]) -> None:
        """Take leases' time from this clock (microseconds since the epoch), not the server's."""
        self._now_us = now_us

    # -- steps -------------------------------------------------------------------------------

    def reserve(self, hold: Hold) -> Refusal | None:
        """Hold the worst case on every owner, or, if a limit would be passed, on none."""
        facts = facts_of(hold.entry)
        attempt = os.urandom(8).hex()
        payload = reserve_payload(hold, facts, attempt)
        call_id = hold.entry.call_id
        word, *said = self._link.reserve(self._timed(payload), call_id, attempt)
        if word == "refused":
            limit, *balance = map(int, said)
            return refusal(hold.limits[limit], balance_of(balance[:3], balance[3:]), facts.charge)
        if word == "over":
            raise conflict(call_id, "is settled or lapsed already")
        if word == "other":
            raise conflict(call_id, "is held already, with another amount or other owners")
        if word == "old":
            raise too_old(call_id, facts.timestamp_us, int(said[0]))
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
        word, *said = self._ask("settle", settle_payload(facts, owners, by_digest, amend))
        if frees and word not in ("other", "old"):
            self.release(frees)
        if word == "other":
            raise conflict(entry.call_id, "is settled already, with another cost")
        if word == "old":
            raise too_old(entry.call_id, facts.timestamp_us, int(said[0]))
        return crossings(by_digest, list(zip(said[::2], said[1::2], strict=True)))

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back: nothing was billed. False if unknown."""
        return bool(self._ask("release", {"id": check_text(call_id, "call_id")})[0] == "yes")

    def renew(self, process: str, lease_s: float) -> int:
        """Put off the lapse of all holds of a process that still stand; return how many."""
        payload = {
            "process": digest_of(check_text(process, "process")),
            "lease": str(lease_us(lease_s)),
        }
        return int(self._ask("renew", payload)[0])

    def lapse(self) -> int:
        """Charge every hold whose lease has run out as its worst case; return how many."""
        lapsed = 0
        while part := int(self._ask("lapse", {"at_most": _LAPSED_AT_ONCE})[0]):
            lapsed += part
        return lapsed

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span."""
        digest = owner_digest(check_text(owner, "owner"))
        sums = [
            int(number)
            for number in self._ask("balance", {"owner": digest, "span": span_payload(span)})
        ]
        return balance_of(sums[:3], sums[3:])

    # -- alerts, budgets, owners -------------------------------------------------------------

    def undelivered(self, older_than_s: float) -> list[Crossing]:
        """Return crossings latched longer ago than this and never delivered."""
        payload = {"older_us": str(int(older_than_s * 1_000_000))}
        found = map(upkeep.crossing_of, self._ask("undelivered", payload))
        return sorted(found, key=lambda crossing: crossing.watch.key)

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that the alerts of these watches have been sent."""
        self._ask("delivered", {"digests": [digest_of(key) for key in keys]})

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms; the last ones of a user and window count."""
        field = upkeep.budget_field(budget.user_id, budget.window)
        self._ask("define", {"field": field, "budget": upkeep.budget_json(budget)})

    def budgets(self) -> list[BudgetRecord]:
        """Return the budgets that were ever defined."""
        return [upkeep.budget_of_json(text) for text in self._ask("budgets", {})]

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner that nobody will ask about again (a block)."""
        upkeep.drop(self._link, check_text(owner, "owner"))

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has here; return how many entries that were.

        In several steps; broken off, it is completed by doing it again. Two users of whom some
        calls were charged to both make Redis look at every entry at once.
        """
        check_text(user_id, "user_id"), check_text(new_user_id, "new_user_id")
        return upkeep.rename_user(self._link, user_id, new_user_id)

    def prune(self, before: datetime, *, at_most: int | None = None) -> int:
        """Let go of settled entries authorized before; totals and balances stay exact."""
        before_us, pruned, skip = to_us(before, "before"), 0, 0
        while True:
            answer = self._ask("prune", {"before": str(before_us), "skip": skip})
            gone, skipped, seen = map(int, answer)
            pruned, skip = pruned + gone, skip + skipped
            if not seen or (at_most is not None and pruned >= at_most):
                return pruned

    # -- questions ---------------------------------------------------------------------------

    def entries(
        self, query: Query = EVERYTHING, *, newest_first: bool = False
    ) -> Iterator[CostEntry]:
        """Yield entries in the order they came into the ledger, lapsed ones included."""
        check_query(query)
        return RedisQuestions(self._link).entries(query, newest_first)

    def sums(self, query: Query = EVERYTHING) -> Sums:
        """Return the sum of the matching entries."""
        check_query(query)
        return RedisQuestions(self._link).sums(query)

    def totals(self, by: Sequence[Dimension], query: Query = EVERYTHING) -> list[Total]:
        """Return one total for each group, dearest first; `key` is always a tuple."""
        check_query(query)
        return RedisQuestions(self._link).totals(dimensions(by), query)

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case because their fate is unknown."""
        return RedisQuestions(self._link).provisional()

    def verify(self) -> list[str]:
        """Check every running balance against the calls; say what does not agree.

        Raises `BudgetStoreError` when the ledger is written to all the time meanwhile.
        """
        return RedisAudit(self._link).differences()

    def reseed(
        self,
        entries: Iterable[CostEntry] = (),
        owners_of: Callable[[CostEntry], tuple[str, ...]] | None = None,
    ) -> int:
        """Go on after the server has lost its memory; enter what is known elsewhere.

        Each process that raises `StoreResetError` has to call this; only one needs to bring the
        entries, and an entry that two bring counts once. Its owners are the ledger and its user
        unless `owners_of` says more. Returns how many entries were brought. What the server still
        has of a ledger that is not whole is removed.
        """
        try:
            self._link.open(_SET_UP_S)
            self._ask("about", {})
        except StoreResetError:
            self._link.forget(_SET_UP_S)
            self._link.open(_SET_UP_S)
        brought = 0
        for entry in entries:
            owners = (LEDGER, user_owner(entry.user_id)) if owners_of is None else owners_of(entry)
            self.settle(entry, owners)
            brought += 1
        return brought

    def flush(self) -> None:
        """Do nothing: what was settled is as durable as Redis was set up to make it."""

    def close(self) -> None:
        """Let go of the client, which stays open; closing again does nothing."""
        self._link.close()

    def _ask(self, script: str, payload: dict[str, Any]) -> list[Any]:
        return self._link.ask(script, self._timed(payload))

    def _timed(self, payload: dict[str, Any]) -> dict[str, Any]:
        return payload if self._now_us is None else {**payload, "now": str(self._now_us())}

"""What a store must do: the words it is spoken to with, and the protocol itself.

A store is the only authority on money. It keeps three things: the *calls* (one row each, first as a
hold, then as an entry of the ledger), the *balances* of those who pay, and the *alerts* that have
fired. Every method is one atomic step.

Who pays is an *owner*, a text: `user:alice`, `block:<id>` (one `with` alone) or `ledger`. A call is
charged to each of its owners, at the time it was authorized. What an owner has spent between two
instants is therefore the sum of its calls authorized between them, whichever budgets were open: a
store may keep running balances for spans that it was asked about, but never another truth.

States of a call, and what moves it:

    (none) --reserve--> HELD --settle--> SETTLED
                         |--release--> (gone; nothing was billed)
                         '--its lease runs out--> LAPSED, charged as its worst case until it is
                                                  settled late, released late or resolved

A hold that nobody resolves is never freed: the provider may well have billed the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from costtrace.entry import CostEntry, Total
from costtrace.money import Picodollars
from costtrace.records import quickly_made

LEDGER = "ledger"
"""The owner that every call is charged to."""
ALWAYS_START, ALWAYS_END = -(2**62), 2**62
"""The span of a budget without a window, in microseconds since the epoch."""

Dimension: TypeAlias = str
"""`function_name`, `user_id`, `model`, `provider`, `operation`, `service_tier`, `status`, `grade`,
`day` (UTC, `2026-11-22`), `call_path` (names joined by ` > `) or `tag:<name>`."""


def user_owner(user_id: str) -> str:
    """Return the owner that a user's calls are charged to."""
    return f"user:{user_id}"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: microseconds since the epoch, `start_us` inclusive, `end_us` exclusive.

    `is_rolling` marks a span whose start moves with the clock: nobody asks for the same one twice,
    so it is summed from the calls instead of kept as a running balance. It
    has no end: a thread whose clock was read a little later may already have reserved.
    """

    start_us: int = ALWAYS_START
    end_us: int = ALWAYS_END
    is_rolling: bool = False


ALWAYS = Span()


@quickly_made()
@dataclass(frozen=True, slots=True)
class Limit:
    """What an owner may have spent and reserved in a span; None where that is not limited."""

    owner: str
    span: Span
    pico: Picodollars | None = None
    tokens: int | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What an owner has spent and what is reserved for it, in one span."""

    spent_pico: Picodollars = 0
    reserved_pico: Picodollars = 0
    spent_tokens: int = 0
    reserved_tokens: int = 0
    spent_calls: int = 0
    reserved_calls: int = 0


@quickly_made()
@dataclass(frozen=True, slots=True)
class Hold:
    """The worst case of a call that is about to be sent.

    `entry` is what the ledger gets if nobody ever settles the call: its cost, tokens and one call
    are what is reserved. It lapses `lease_s` seconds after its last renewal by `process`.
    """

    entry: CostEntry
    owners: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    lease_s: float = 60.0
    process: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that a hold would have passed, and where that owner stood."""

    limit: Limit
    balance: Balance
    unit: Literal["usd", "tokens", "calls"]


@dataclass(frozen=True, slots=True)
class Watch:
    """A threshold to look at when a call is settled; it fires once for each `key`."""

    owner: str
    span: Span
    threshold_pico: Picodollars
    key: str


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold that was crossed, and what had been spent when it was."""

    watch: Watch
    spent_pico: Picodollars


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A budget as it was last used, for those who read the store from outside."""

    user_id: str | None
    """None for the ledger's own."""
    window: str | None
    tz: str | None
    limit_pico: Picodollars | None
    alert_at: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries: all conditions hold; None asks for nothing. Times are aware datetimes."""

    user_id: str | None = None
    function_name: str | None = None
    model: str | None = None
    provider: str | None = None
    since: datetime | None = None
    """Inclusive."""
    until: datetime | None = None
    """Exclusive."""
    tags: Mapping[str, str] = field(default_factory=dict)
    call_id: str | None = None
    response_id: str | None = None


EVERYTHING = Query()


@dataclass(frozen=True, slots=True)
class Sums:
    """The totals of all entries that match, as one row."""

    entries: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    unpriced_calls: int


@runtime_checkable
class Store(Protocol):
    """Where money is kept. Safe from any thread; each method is one atomic step.

    A method that cannot do its work raises `BudgetStoreError` and has then changed nothing that
    it knows of; doing it again is safe, since every change is known by its call id. One that also
    has an `identity`, a text that tells its ledger from every other one, gets what it could not
    take from whichever process opens it next.
    """

    is_blocking: bool
    """Whether calls may wait for a disk or a network, and so do not belong on an event loop."""

    def use_clock(self, now_us: Callable[[], int]) -> None:
        """Take leases' time from this clock (microseconds since the epoch), not the store's own."""

    def reserve(self, hold: Hold) -> Refusal | None:
        """Hold the worst case on every owner, or, if a limit would be passed, on none.

        The same hold again (call id, amount and owners) changes nothing. Raises
        `CallConflictError` when the id belongs to a call that differs or is no longer held.
        Holds that are due lapse first, at most 64 of them.
        """

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
        """Replace the call's hold, or its provisional charge, by what it did cost.

        For a call that goes on, `rest` is held in the same step, without asking any limit: what it
        may still cost, a part of what was held for it. `frees` is the id of an earlier rest, which
        is given back in this step. A server's store may take three steps, of which the one that
        reserves comes first and the one that gives back last: never too little is reserved.

        The owners of a hold are those it was reserved with; `owners` serves a call never held (one
        recorded afterwards, or whose hold is unknown here): spend is never dropped. Settled
        already: the same cost again changes nothing; another cost raises `CallConflictError`
        unless `amend`, which replaces the entry and moves the difference. A call stays charged at
        the time it was first known with, whatever `entry.timestamp` says. Returns the thresholds
        that this step crossed, each `key` once in the store's life; a crossing is kept as
        undelivered until `delivered`.
        """

    def release(self, call_id: str) -> bool:
        """Give a hold, or a provisional charge, back: nothing was billed. False if unknown."""

    def renew(self, process: str, lease_s: float) -> int:
        """Put off the lapse of all holds of a process that still stand; return how many."""

    def lapse(self) -> int:
        """Charge every hold whose lease has run out as its worst case; return how many."""

    def balance(self, owner: str, span: Span) -> Balance:
        """Return what the owner has spent and reserved in the span."""

    def undelivered(self, older_than_s: float) -> list[Crossing]:
        """Return crossings latched longer ago than this and never delivered: their process died.

        Each is handed out to one asker only until `older_than_s` has passed again.
        """

    def delivered(self, keys: Sequence[str]) -> None:
        """Note that the alerts of these watches have been sent."""

    def entries(
        self, query: Query = EVERYTHING, *, newest_first: bool = False
    ) -> Iterator[CostEntry]:
        """Yield entries in the order they came into the ledger, lapsed ones included."""

    def sums(self, query: Query = EVERYTHING) -> Sums:
        """Return the sum of the matching entries."""

    def totals(self, by: Sequence[Dimension], query: Query = EVERYTHING) -> list[Total]:
        """Return one total for each group, dearest first; `key` is always a tuple.

        Raises `ValueError` for an unknown dimension.
        """

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged as their worst case because their fate is unknown."""

    def define(self, budget: BudgetRecord) -> None:
        """Remember a budget's terms; the last ones of a user and window count."""

    def budgets(self) -> list[BudgetRecord]:
        """Return the budgets that were ever defined."""

    def drop(self, owner: str) -> None:
        """Forget what was charged to an owner that nobody will ask about again (a block).

        Its entries stay in the ledger, charged to their other owners.
        """

    def rename_user(self, user_id: str, new_user_id: str) -> int:
        """Put another name on all that a user has here; return how many entries that were."""

    def prune(self, before: datetime, *, at_most: int | None = None) -> int:
        """Let go of settled entries authorized before; return how many those were.

        With `at_most` it stops after about so many, the oldest ones as far as that is cheap.

        What they add to each total and balance stays, known by day and by minute. Provisional
        charges stay too. From then on a call of that time whose id is not kept is refused with
        `CallConflictError`: it may have been counted already.
        """

    def verify(self) -> list[str]:
        """Check every running balance against the calls; say what does not agree."""

    def flush(self) -> None:
        """Make all that was settled durable before returning."""

    def close(self) -> None:
        """Let go of files, connections and threads; closing again does nothing."""

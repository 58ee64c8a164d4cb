"""`budget`: who pays for the calls that are made inside, and how much they may cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from costtrace.accounting.charges import Charges
from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.open_budget import OpenBudget, open_budgets
from costtrace.accounting.recording import new_call_id
from costtrace.accounting.steps import take
from costtrace.accounting.terms import (
    BudgetTerms,
    OnAlert,
    OnExceed,
    OnStoreError,
    OnUnknownModel,
    WindowName,
    budget_terms,
    checked_tags,
)
from costtrace.api.by_hand import Hold, holding, manual_entry
from costtrace.api.opening import check_function, scoped
from costtrace.api.tracking import checked_ledger
from costtrace.entry import CostEntry
from costtrace.instant import to_us
from costtrace.instrumentation import flush
from costtrace.instrumentation.offload import take_off_loop
from costtrace.money import Money, Picodollars, to_pico, to_usd
from costtrace.scopes import Scope, current, enter, leave
from costtrace.scopes.leaf import Visit, task_here
from costtrace.stores.base import Balance

F = TypeVar("F", bound=Callable[..., Any])


def budget(
    user_id: str,
    limit: Money | None = None,
    *,
    window: WindowName | timedelta | None = None,
    tz: str | tzinfo | None = None,
    per_call: Money | None = None,
    max_tokens: int | None = None,
    max_calls: int | None = None,
    alert_at: float | Iterable[float] | None = 0.9,
    on_alert: OnAlert | None = None,
    on_exceed: OnExceed = "raise",
    wait: float = 0,
    cover_retries: bool = True,
    ask_provider: bool = False,
    on_unknown_model: OnUnknownModel | None = None,
    on_store_error: OnStoreError | None = None,
    tags: Mapping[str, str] | None = None,
    ledger: CostLedger | None = None,
) -> Budget:
    """Charge the SDK calls made inside to a user, and refuse those that could pass the limit.

    `limit` is US dollars in the `window`: None (all that this user ever spent in the ledger),
    `"block"` (this one `with`), `"hour"`, `"day"`, `"week"`, `"month"` (of the calendar, in UTC or
    `tz`) or a `timedelta` (rolling). `limit=None` only attributes, `limit=0` blocks every paid
    call. `per_call` bounds one call, `max_tokens` and `max_calls` the window's tokens and calls.

    A call that does not fit is refused with `BudgetExceededError` before it is sent; with
    `on_exceed="fit"` it is sent with the `max_tokens` that fits, with `"warn"` as it is. `wait` is
    for how many seconds a call waits for others in flight to give back what they do not need.
    With `ask_provider`, a call of Claude or Responses that does not fit by the bound of its bytes
    is counted by the provider before it is refused: free, one round trip, by the same client.
    `alert_at` is the share of the limit at which an `Alert` is logged and given to `on_alert`.

    >>> with budget("alice", 5.00, window="month") as b:
    ...     print(b.remaining_usd)
    5
    """
    terms = budget_terms(
        user_id,
        limit,
        window=window,
        tz=tz,
        per_call=per_call,
        max_tokens=max_tokens,
        max_calls=max_calls,
        alert_at=alert_at,
        on_alert=on_alert,
        on_exceed=on_exceed,
        wait=wait,
        cover_retries=cover_retries,
        ask_provider=ask_provider,
        on_unknown_model=on_unknown_model,
        on_store_error=on_store_error,
    )
    return Budget(terms, checked_tags(tags), checked_ledger(ledger))


class Budget:
    """A user's budget: `with`, `async with`, a decorator, or by hand for other providers.

    Usable again, and from many threads and tasks at once. Its amounts are those of its user and
    window in its ledger, whoever has spent them.
    """

    def __init__(
        self, terms: BudgetTerms, tags: Mapping[str, str], ledger: CostLedger | None
    ) -> None:
        self._terms = terms
        self._tags = tags
        self._ledger = ledger
        self._entered: dict[Scope, Visit] = {}
        self._blocks = Blocks()
        self._last: OpenBudget | None = None
        self._holds: WeakKeyDictionary[Any, list[Hold]] = WeakKeyDictionary()

    # where it stands

    @property
    def user_id(self) -> str:
        """Whose budget it is."""
        return str(self._terms.user_id)

    @property
    def limit_usd(self) -> Decimal | None:
        """The limit in US dollars; None where the budget only attributes."""
        return None if self._terms.limit_pico is None else to_usd(self._terms.limit_pico)

    @property
    def spent_usd(self) -> Decimal:
        """What was spent in the present window, US dollars."""
        return to_usd(self._balance().spent_pico)

    @property
    def reserved_usd(self) -> Decimal:
        """What is reserved for calls in flight, US dollars."""
        return to_usd(self._balance().reserved_pico)

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left: limit less spent less reserved, never below 0; None without a limit."""
        if self._terms.limit_pico is None:
            return None
        balance = self._balance()
        left = self._terms.limit_pico - balance.spent_pico - balance.reserved_pico
        return to_usd(max(left, 0))

    @property
    def resets_at(self) -> datetime | None:
        """When the present window ends, aware UTC; None where nothing resets."""
        return self._terms.window.resets_at(to_us(self._open_here().ledger.now()))

    def remaining(self) -> Decimal | None:
        """Return `remaining_usd`."""
        return self.remaining_usd

    def __repr__(self) -> str:
        window = f" a {self._terms.window.name}" if self._terms.window.name else ""
        limit = "without limit" if self.limit_usd is None else f"{self.limit_usd} USD{window}"
        return f"<Budget of {self._terms.user_id!r}, {limit}>"

    # as a scope

    def __enter__(self) -> Budget:
        scope = self.scope(current(), None)
        self._entered[scope] = enter(scope)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = current()
        while scope is not None and scope not in self._entered:
            scope = scope.parent
        if scope is None:  # left from elsewhere than it was entered
            scope = next(reversed(list(self._entered)), None)
        visit = None if scope is None else self._entered.pop(scope, None)
        if scope is not None and visit is not None:
            try:
                self.closing(scope)
            finally:
                leave(visit)

    async def __aenter__(self) -> Budget:
        return self.__enter__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(error_type, error, traceback)

    def __call__(self, function: F) -> F:
        """Charge what a function's calls make; each call of it enters the budget anew."""
        check_function(function, "a budget")
        wrapped: F = scoped(function, self)
        return wrapped

    def scope(self, parent: Scope | None, function: object) -> Scope:
        """Return the scope of one entry."""
        self._last = opened = self._opened(self._ledger_at(parent))
        return Scope(
            parent,
            budget=opened,
            user_id=self._terms.user_id,
            tags=self._tags,
            ledger=self._ledger,
        )

    def _opened(self, ledger: CostLedger) -> OpenBudget:
        """Return it as one entry sees it: a block counts for that entry alone."""
        terms = self._terms
        if terms.window.name == "block":
            terms = terms.for_block(new_call_id())
            self._blocks.open(ledger, terms.owner)
        ledger.postings.define(terms)
        return OpenBudget(ledger, terms)

    def closing(self, scope: Scope) -> None:
        """Enter what is still open in a scope that is being left."""
        flush(scope)
        opened = open_budgets(scope.budgets)[-1]
        opened.ledger.postings.collect()
        if opened.terms.block_id:
            self._blocks.close(opened.terms.owner)

    # by hand

    def authorize(self, estimated_cost: Money) -> Hold:
        """Reserve the worst case of a call that costtrace does not see itself, in US dollars.

        Every budget around, and this one, must agree; else `BudgetExceededError`. Settle the hold
        with what the call did cost, or release it if nothing was billed.
        """
        charges, entry = self._charges(to_pico(estimated_cost, "estimated_cost"))
        is_on_loop = task_here() is not None  # waiting would hold up those who are waited for
        return self._hold(charges, take(holding(charges, entry, may_wait=not is_on_loop)))

    async def aauthorize(self, estimated_cost: Money) -> Hold:
        """As `authorize`, without holding up the event loop, also while it waits."""
        charges, entry = self._charges(to_pico(estimated_cost, "estimated_cost"))
        undo = partial(charges.release, entry.call_id)
        steps = holding(charges, entry, may_wait=True)
        return self._hold(charges, await take_off_loop(steps, charges.payers.is_blocking, undo))

    def record(self, actual_cost: Money) -> None:
        """Enter what a call did cost, US dollars.

        Settles the hold that the same thread or task authorized last, if one is open; else the
        cost is simply added, whatever the limit.
        """
        amount = to_pico(actual_cost, "actual_cost")
        open_holds = self._holds.get(_work(), [])
        for hold in reversed(open_holds.copy()):
            if hold.settle(to_usd(amount)):
                return
        charges, entry = self._charges(amount)
        charges.enter(entry)

    def _hold(self, charges: Charges, entry: CostEntry) -> Hold:
        work = _work()
        holds = self._holds.setdefault(work, [])
        hold = Hold(charges, entry, partial(_forget, holds))
        holds.append(hold)
        return hold

    def _charges(self, amount: Picodollars) -> tuple[Charges, CostEntry]:
        scope = current()
        opened = self._open_here()
        budgets = open_budgets(scope.budgets) if scope is not None else []
        if opened not in budgets:
            budgets.append(opened)
            scope = Scope(scope, user_id=self._terms.user_id, tags=self._tags)
        home = self._ledger_at(scope)
        return Charges(home, budgets), manual_entry(home, scope, to_usd(amount))

    def _balance(self) -> Balance:
        opened = self._open_here()
        store = opened.ledger.store
        span = opened.terms.span(to_us(opened.ledger.now()))
        return store.balance(opened.terms.owner, span)

    def _open_here(self) -> OpenBudget:
        """Return this budget as entered by the present work, else as entered last, or at all."""
        scope = current()
        while scope is not None:
            if scope in self._entered:
                return open_budgets(scope.budgets)[-1]
            scope = scope.parent
        if self._last is None:
            self._last = self._opened(self._ledger_at(current()))
        return self._last

    def _ledger_at(self, scope: Scope | None) -> CostLedger:
        if self._ledger is not None:
            return self._ledger
        named = scope.ledger if scope is not None else None
        return named if isinstance(named, CostLedger) else default_ledger()


class Blocks:
    """The blocks of one budget. Each is forgotten when it is over and no longer the last one."""

    def __init__(self) -> None:
        self._open: dict[str, CostLedger] = {}
        self._over: dict[str, CostLedger] = {}

    def open(self, ledger: CostLedger, owner: str) -> None:
        """Begin a block, and forget those that are over."""
        self._open[owner] = ledger
        self._forget()

    def close(self, owner: str) -> None:
        """End a block: it can still be asked about, until the next one begins."""
        if (ledger := self._open.pop(owner, None)) is not None:
            self._over[owner] = ledger

    def _forget(self) -> None:
        while self._over:
            with suppress(KeyError):  # another thread was faster
                owner, ledger = self._over.popitem()
                ledger.postings.dropped.put(partial(ledger.postings.drop, owner))

    def __del__(self) -> None:
        self._over.update(self._open)
        self._forget()


class _Thread:
    """Stands for a thread, whose own number is used again when it has ended."""


_here = threading.local()


def _work() -> object:
    """Return what tells the present piece of work from others: its task, or its thread."""
    task = task_here()
    if task is not None:
        return task
    if not hasattr(_here, "thread"):
        _here.thread = _Thread()
    return _here.thread


def _forget(holds: list[Hold], hold: Hold) -> None:
    if hold in holds:
        holds.remove(hold)

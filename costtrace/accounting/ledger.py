"""The ledger: every call that was made, what it cost, and who pays for it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO

from costtrace.accounting.alerts import AlertBook
from costtrace.accounting.asking import Entries, query_of
from costtrace.accounting.health import Health
from costtrace.accounting.keeping import Keeping
from costtrace.accounting.options import (
    checked_clock,
    checked_prices,
    checked_spool,
    checked_store,
)
from costtrace.accounting.postings import Postings
from costtrace.accounting.recording import recorded_entry, resolved_entry, unpriced_part
from costtrace.accounting.retention import checked_days
from costtrace.accounting.terms import (
    BudgetTerms,
    OnAlert,
    OnStoreError,
    Severity,
    callback,
    checked_id,
    one_of,
    shares,
)
from costtrace.accounting.window import Window
from costtrace.caller import stack_level
from costtrace.entry import CostEntry, Total
from costtrace.exceptions import BudgetStoreError, UnpricedModelWarning
from costtrace.instant import to_us
from costtrace.money import Money, to_pico, to_usd
from costtrace.pricing import PriceTable
from costtrace.sinks import LogSink, Sink
from costtrace.stores.base import Store, Sums

if TYPE_CHECKING:  # who asks for reports and advice loads them; most processes never do
    from costtrace.accounting.advice import Advice
    from costtrace.accounting.tightness import Tightness

log = logging.getLogger("costtrace")


class CostLedger(Keeping):
    """Every call, priced and attributed, in memory or in a store that outlives the process.

    `budget_usd` limits all calls together; with `on_exceed="alert"` (the default) it only warns,
    with `"raise"` a call that may pass it is refused, and so is one that cannot be held to it since
    the store is away, unless `on_store_error="allow"`. `path` names a SQLite file, `store` any
    other store; without either the ledger lives in memory. What the store cannot take for a while
    waits in a file, and is written when it is back, by this process or the next one: in the folder
    `spool`, by default beside the SQLite file or among the state files of this user; with False in
    memory alone. `clock` returns aware UTC datetimes.
    With `keep_days`, entries of calls older than that go, bit by bit, and only what they add to
    the sums of each day and minute stays: totals and budgets are exact as ever. A call of before
    then cannot come in any more, since it may have been counted: `CallConflictError`.
    Safe from any thread; a context manager that closes it.

    >>> ledger = CostLedger()
    >>> ledger.record("gpt-4o-mini", "answer", "alice", 1_000, 100)
    Decimal('0.00021')
    """

    def __init__(
        self,
        budget_usd: Money | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        store: Store | None = None,
        prices: PriceTable | str | os.PathLike[str] | None = None,
        alert_at: float | tuple[float, ...] | list[float] | None = 0.9,
        on_alert: OnAlert | None = None,
        on_exceed: Severity = "alert",
        clock: Callable[[], datetime] | None = None,
        on_store_error: OnStoreError | None = None,
        keep_days: int | None = None,
        spool: str | os.PathLike[str] | Literal[False] | None = None,
    ) -> None:
        one_of("on_exceed", on_exceed, ("alert", "raise", "fit", "warn"))
        days = checked_days(keep_days)
        refuses = on_exceed in ("raise", "fit")
        on_store_error = on_store_error or ("refuse" if refuses else "allow")
        one_of("on_store_error", on_store_error, ("refuse", "allow"))
        own = BudgetTerms(
            user_id=None,
            limit_pico=None if budget_usd is None else to_pico(budget_usd, "budget_usd"),
            window=Window.of(None),
            alert_at=shares(alert_at),
            on_exceed=on_exceed,
            on_unknown_model="refuse" if refuses else "allow",
            on_store_error=on_store_error,
        )
        self._now = checked_clock(clock)
        self._unpriced: set[str] = set()
        self._prices = checked_prices(prices)
        self.sinks: list[Sink] = [LogSink()]
        """Who gets each finished entry and each alert; add your own."""
        self._alerts = AlertBook([hear] if (hear := callback(on_alert)) else [], self.sinks)
        self._store = checked_store(path, store)
        if clock is not None:
            self._store.use_clock(lambda: to_us(self._now(), "the clock's answer"))
        self.postings = Postings(
            self._store, own, self._alerts, self._now, checked_spool(spool, self._store)
        )
        if days is not None:
            self.postings.keep(days)

    @property
    def store(self) -> Store:
        """Where the money is kept, with all in it that is known by now."""
        self.postings.collect()
        return self._store

    @property
    def prices(self) -> PriceTable:
        """The prices that new entries are priced by."""
        if self._prices is None:
            self._prices = PriceTable.bundled()
            self._prices.warn_if_stale(self._now().date())
        return self._prices

    @property
    def budget_usd(self) -> Decimal | None:
        """The limit of all calls together; None without one."""
        limit = self.postings.own.limit_pico
        return None if limit is None else to_usd(limit)

    def now(self) -> datetime:
        """Return the ledger's time, aware UTC."""
        return self._now()

    # entering

    def record(
        self,
        model: str,
        function_name: str,
        user_id: str,
        prompt_tokens: int,
        completion_tokens: int,
        **details: Any,
    ) -> Decimal | None:
        """Enter a call that was made elsewhere; return its cost, None if its price is unknown.

        `details` are the other fields of `CostEntry`: `usage=` for cached and other tokens,
        `service_tier="batch"` for a batch, `timestamp=` for when it was, `cost_usd=` where it is
        known from elsewhere. `call_id=` makes it safe to repeat: the same id is one entry, and
        one that is known already at another cost raises `CallConflictError`.
        """
        entry = recorded_entry(
            self.prices,
            self._now,
            model,
            checked_id("function_name", function_name),
            checked_id("user_id", user_id),
            prompt_tokens,
            completion_tokens,
            details,
        )
        owners = self.postings.limits.owners(entry.user_id, ())
        self.enter(entry, owners, must_be_new=True)
        return entry.cost_usd

    def enter(
        self,
        entry: CostEntry,
        owners: tuple[str, ...],
        *,
        amend: bool = False,
        must_be_new: bool = False,
        rest: CostEntry | None = None,
        frees: str = "",
    ) -> None:
        """Settle a call and pass it on to the sinks.

        `rest` stays reserved for it, where it goes on, and `frees` is the id of an earlier rest.

        With `must_be_new`, an id that is known at another cost raises `CallConflictError`.
        """
        self.postings.settle(
            entry, owners, amend=amend, must_be_new=must_be_new, rest=rest, frees=frees
        )
        for sink in self.sinks:
            try:
                sink.entry(entry)
            except Exception:
                log.exception("a sink failed to take an entry")
        if entry.cost_usd is None:
            self._warn_unpriced(entry)

    def _warn_unpriced(self, entry: CostEntry) -> None:
        """Warn, once for each model and tier, that its calls have no known cost."""
        what = unpriced_part(self.prices, entry)
        if what not in self._unpriced:
            self._unpriced.add(what)
            warnings.warn(
                f"no price is known for {what}: its calls have the cost None and are in no "
                "sum of money; give one with PriceTable.with_prices()",
                UnpricedModelWarning,
                stacklevel=stack_level(),
            )

    def resolve(self, call_id: str, actual: Money) -> None:
        """Correct a call that is charged at its reservation because its fate was unknown.

        `actual` is what it did cost, in US dollars. Raises `KeyError` for a call that is not
        provisional.
        """
        amount = to_usd(to_pico(actual, "actual"))
        for entry in self.store.provisional():
            if entry.call_id == call_id:
                break
        else:
            raise KeyError(f"no provisional call {call_id!r}: provisional() lists them")
        owners = self.postings.limits.owners(entry.user_id, ())
        self.postings.settle(resolved_entry(entry, amount), owners, amend=True)

    # asking

    @property
    def entries(self) -> Entries:
        """All entries, in the order they came in; iterable, with a length."""
        return Entries(self.store)

    @property
    def total_cost(self) -> Decimal:
        """The known cost of all calls, US dollars."""
        return self._sums().cost_usd

    @property
    def total_tokens(self) -> int:
        """All tokens sent and generated."""
        sums = self._sums()
        return sums.prompt_tokens + sums.completion_tokens

    @property
    def unpriced_calls(self) -> int:
        """How many calls have no known cost, and so are in no sum of money."""
        return self._sums().unpriced_calls

    def spent(
        self,
        user_id: str | None = None,
        function_name: str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Decimal:
        """Return the known cost in US dollars of the calls that match, `until` exclusive.

        Calls of unknown cost are left out; `unpriced_calls` tells how many there are.
        """
        return self._sums(
            user_id=user_id, function_name=function_name, model=model, since=since, until=until
        ).cost_usd

    def totals(self, by: str | tuple[str, ...] = "function_name", **filters: Any) -> list[Total]:
        """Return one total for each group, dearest first; together they are the whole, exactly.

        `by` is `function_name`, `user_id`, `model`, `provider`, `operation`, `service_tier`,
        `status`, `grade`, `day` (UTC), `call_path`, `"tag:name"` or a tuple of those, whose rows
        have a tuple as `key`. `filters` are those of `spent`, `provider` and `tags`.
        """
        several = (by,) if isinstance(by, str) else tuple(by)
        rows = self.store.totals(several, query_of(filters))
        if not isinstance(by, str):
            return rows
        return [replace(row, key=row.key[0]) for row in rows]

    def top(self, n: int = 10, by: str | tuple[str, ...] = "function_name") -> list[Total]:
        """Return the `n` dearest groups."""
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an int, not {n!r}")
        if n < 0:
            raise ValueError(f"n must not be negative, but is {n}")
        return self.totals(by)[:n]

    def provisional(self) -> list[CostEntry]:
        """Return the calls that are charged at their reservation because their fate is unknown."""
        return self.store.provisional()

    def advise(self, since: datetime | None = None, until: datetime | None = None) -> list[Advice]:
        """Return what would have cost less, the largest saving first; see `costtrace.advise`."""
        from costtrace.accounting.advice import advise

        return advise(self, since, until)

    # reporting

    def render(self, format: str = "text", **filters: Any) -> str:  # noqa: A002
        """Return the report as `text`, `json`, `csv`, `markdown` or `html`."""
        from costtrace.accounting.summaries import summary_of
        from costtrace.reports import render

        summary = summary_of(
            self.store,
            query_of(filters),
            now=self.now(),
            own_limit=self.postings.own.limit_pico,
            prices_date=self.prices.as_of,
        )
        return render(summary, format)

    def report(
        self,
        file: TextIO | None = None,
        format: str = "text",  # noqa: A002
        **filters: Any,
    ) -> None:
        """Write the report to `file`, standard output by default: what `render` returns.

        `file` is open for text, a file with `newline=""` for csv; it stays open.
        """
        if file is not None and not callable(getattr(file, "write", None)):
            raise TypeError(
                f"file must be open for writing text, not {type(file).__name__} {file!r}"
            )
        (sys.stdout if file is None else file).write(self.render(format, **filters))

    def _repr_html_(self) -> str:
        return self.render("html")

    def __repr__(self) -> str:
        try:
            sums = self._sums()
        except BudgetStoreError as error:  # a debugger must be able to show a ledger that is closed
            return f"<CostLedger: {error}>"
        return f"<CostLedger of {sums.entries} entries, {sums.cost_usd} USD>"

    def tightness(self, **filters: Any) -> list[Tightness]:
        """Return, for each model, what was reserved for its calls and what they did cost.

        Of the calls that were reserved and reported their usage; the one with the most reserved
        first. `filters` are those of `totals`.
        """
        from costtrace.accounting.tightness import tightness_of

        return tightness_of(self.store.entries(query_of(filters)))

    def health(self) -> Health:
        """Return what went wrong by now in this process without harming any call, as counts."""
        return self.postings.health()

    # hearing

    def on_alert(self, hear: OnAlert) -> OnAlert:
        """Call `hear` with each `Alert` of this ledger and its users from now on; a decorator."""
        if callback(hear) is None:
            raise TypeError("on_alert takes a callable")
        self._alerts.callbacks.append(hear)
        return hear

    # keeping

    def flush(self) -> bool:
        """Write all that waits and make it durable; return whether nothing waits any more.

        Of this process, or of others that died. Raises `BudgetStoreError` when all was written
        and the store cannot make it durable.
        """
        is_written = self.postings.drain()
        if is_written:
            self.store.flush()
        return is_written

    def close(self) -> None:
        """Write what waits and let go of files and connections; closing again does nothing.

        What the store cannot take now is left in its spool to whoever next opens the ledger.
        """
        self.postings.close()
        self._store.close()

    def __enter__(self) -> CostLedger:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _sums(self, **filters: Any) -> Sums:
        return self.store.sums(query_of(filters))

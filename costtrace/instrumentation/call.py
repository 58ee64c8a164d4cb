"""One billable call, from before it is sent until its cost stands in the ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from costtrace.accounting.charges import Charges
from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.recording import new_call_id
from costtrace.entry import CostEntry, Grade, Status
from costtrace.instrumentation.estimate import Estimate
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.instrumentation.valuing import valued
from costtrace.money import Picodollars, to_usd
from costtrace.pricing import cost, place_of
from costtrace.providers import Provider, Reading, Request
from costtrace.scopes import Scope
from costtrace.usage import Usage

log = logging.getLogger("costtrace")
NOWHERE = Scope()
"""Stands for the scope of a call outside of any."""
_NO_USAGE = Usage()


class Call:
    """What is known of one call. It is settled once, and corrected at most once after that.

    It is bound to its scope when it is sent: whoever reads its answer, wherever, does not matter.
    """

    def __init__(self, provider: Provider, request: Request, scope: Scope | None) -> None:
        self.provider = provider
        self.request = request
        self.scope = scope
        self.call_id = new_call_id()
        home = scope.ledger if scope is not None else None
        self.ledger: CostLedger = home if isinstance(home, CostLedger) else default_ledger()
        self.timestamp = self.ledger.now()
        self.charges = Charges(self.ledger, scope.budgets if scope else ())
        self.estimate = Estimate(request, self.ledger.prices, self.timestamp)
        self.reserved: CostEntry | None = None
        self.reserved_each: Picodollars | None = None
        self.reserved_attempts = 1
        self._rest_id = ""
        self.attempts = 1
        self.unknown_attempts = 0
        """Attempts before the last one that may have been billed without an answer."""
        self.reading: Reading | None = None
        self.is_answered = False
        self._started = time.perf_counter()
        self._lock = threading.RLock()
        self._is_entering = False
        self._entered: CostEntry | None = None
        self._is_final = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be learned of it."""
        return self._is_final

    @property
    def entered(self) -> CostEntry | None:
        """What stands in the ledger for it; None as long as it is under way."""
        return self._entered

    # entries

    def entry(
        self,
        *,
        usage: Usage,
        model: str | None = None,
        service_tier: str | None = None,
        region: str | None = None,
        reserved_usd: Decimal | None = None,
        cost_usd: Decimal | None = None,
        status: Status = "ok",
        grade: Grade = "reported",
        duration_s: float | None = None,
        response_id: str | None = None,
        price_id: str | None = None,
        gateway_cost_usd: Decimal | None = None,
    ) -> CostEntry:
        """Return an entry of this call with these facts."""
        request, reserved = self.request, self.reserved
        scope = self.scope or NOWHERE
        return CostEntry(
            model=model or request.model,
            function_name=scope.function_name,
            user_id=scope.user_id,
            usage=usage,
            timestamp=self.timestamp,
            call_id=self.call_id,
            provider=request.provider,
            operation=request.operation,
            request_model=request.model,
            call_path=scope.call_path,
            tags=scope.tags,
            service_tier=service_tier or request.tier,
            region=region or request.region,
            streamed=request.is_stream,
            reserved_usd=reserved_usd if reserved is None else reserved.cost_usd,
            attempts=self.attempts,
            cost_usd=cost_usd,
            status=status,
            grade=grade,
            duration_s=duration_s,
            response_id=response_id,
            price_id=price_id,
            gateway_cost_usd=gateway_cost_usd,
        )

    def worst_entry(self, worst: Picodollars | None, usage: Usage) -> CostEntry:
        """Return what the ledger gets if this call's fate is never known."""
        amount = None if worst is None else to_usd(worst)
        return self.entry(
            usage=usage,
            cost_usd=amount,
            reserved_usd=amount,
            status="partial",
            grade="assumed" if worst is not None else "unpriced",
            price_id=self.estimate.price_id,
        )

    # what may happen to it

    def settle(self, reading: Reading, status: Status = "ok") -> None:
        """Enter what an answer says that was consumed."""
        self._enter(partial(self._from_reading, reading, status), is_final=True)

    def settle_pending(self, reading: Reading) -> None:
        """Enter the worst case of work that goes on in the background, until its usage is read."""
        self._enter(lambda: self._assumed(1, reading), is_final=False)

    def settle_partial(self, reading: Reading, *, is_final: bool, goes_on: bool = False) -> None:
        """Enter what is known of an answer that was left before its end.

        Not final where the rest may still be read: its cost is then corrected. While it goes on,
        what it may still cost stays reserved.
        """
        self._enter(
            lambda: self._from_reading(reading, "partial"), is_final=is_final, goes_on=goes_on
        )

    def fail(self) -> None:
        """Enter that the provider refused or failed it before doing work: it cost nothing."""
        self._enter(
            lambda: self.entry(
                status="error", cost_usd=Decimal(0), duration_s=self._duration(), usage=_NO_USAGE
            ),
            is_final=True,
        )

    def assume(self, status: Status = "partial") -> None:
        """Enter the worst case: it was sent, and may have been billed without an answer."""
        attempts, self.unknown_attempts = self.unknown_attempts + 1, 0
        self._enter(lambda: replace(self._assumed(attempts), status=status), is_final=True)

    def end(self) -> None:
        """Learn nothing more of it: what it did cost was entered by somebody else."""
        with self._lock:
            if self._is_entering:
                self._put_off(self.end)
                return
            self._is_final = True
            rest_id, self._rest_id = self._rest_id, ""
        if rest_id:
            self.charges.release(rest_id)

    def release(self) -> None:
        """Give back what was reserved: nothing was sent, and there is no entry."""
        with self._lock:
            self._is_final = True
        if self.reserved is not None:
            self.charges.release(self.call_id)

    def _enter(
        self, make: Callable[[], CostEntry], *, is_final: bool, goes_on: bool = False
    ) -> None:
        is_ours = False
        try:
            with self._lock:
                if self._is_entering:
                    self._put_off(partial(self._enter, make, is_final=is_final, goes_on=goes_on))
                    return
                if self._is_final:
                    return
                amend = self._entered is not None
                is_ours = self._is_entering = True
                self._is_final = is_final
                entry = self._made(make)
                if amend and entry == self._entered and (goes_on or not self._rest_id):
                    return
                self._entered = entry
                frees, rest = self._rest_id, self._rest(entry) if goes_on else None
                self._rest_id = "" if rest is None else rest.call_id
            if self.unknown_attempts and not amend:
                self._enter_lost_attempts()  # first, while the reservation still covers them
            try:
                self.charges.enter(entry, amend=amend, rest=rest, frees=frees)
            except Exception as error:
                swallowed("enter a call", error)
        finally:
            if is_ours:
                self._is_entering = False

    def _put_off(self, step: Callable[[], None]) -> None:
        """Let a step come after the one that is under way, on whose end it may build.

        It is another thread's, or one that the handler of a signal has broken into.
        """
        self.ledger.postings.dropped.put(step)

    def _rest(self, entry: CostEntry) -> CostEntry | None:
        """Return what of its reservation a call that goes on has not used by now."""
        reserved = self.reserved
        if reserved is None or reserved.cost_usd is None:
            return None
        sent = max(reserved.usage.input_tokens - entry.usage.input_tokens, 0)
        made = max(reserved.usage.output_tokens - entry.usage.output_tokens, 0)
        return replace(
            reserved,
            call_id=new_call_id(),
            adjusts=self.call_id,
            cost_usd=max(reserved.cost_usd - (entry.cost_usd or 0), Decimal(0)),
            usage=Usage(sent, made),
        )

    def _made(self, make: Callable[[], CostEntry]) -> CostEntry:
        """Return the entry; the worst case where a fault of ours keeps it from being known."""
        try:
            return make()
        except Exception as error:
            swallowed("price a call", error)
            return self._assumed(1)

    def _enter_lost_attempts(self) -> None:
        """Charge the attempts that were cut or timed out before the one that was answered."""
        lost = self._assumed(self.unknown_attempts)
        with guard("enter lost attempts"):
            self.charges.enter(replace(lost, call_id=f"{self.call_id}+lost", adjusts=self.call_id))

    def _assumed(self, attempts: int, reading: Reading | None = None) -> CostEntry:
        worst, usage = self.estimate.worst_case()
        if self.reserved is not None:
            worst = self.reserved_each
        amount = None if worst is None else to_usd(worst * attempts)
        return self.entry(
            model=(reading and reading.model) or self.request.model,
            response_id=None if reading is None else reading.response_id,
            usage=usage,
            cost_usd=amount,
            status="partial",
            grade="assumed" if amount is not None else "unpriced",
            duration_s=self._duration(),
            price_id=self.estimate.price_id,
        )

    def _from_reading(self, reading: Reading, status: Status) -> CostEntry:
        request = self.request
        usage, grade = self._usage(reading, status)
        model = reading.model or request.model
        tier = reading.tier or request.tier
        region = reading.region or request.region or place_of(request.model)
        price = amount = None
        if grade != "assumed":
            price = self.ledger.prices.price(
                model,
                self.timestamp,
                provider=request.provider,
                tier=tier,
                input_tokens=usage.input_tokens,
                region=region,
                operation=request.operation,
            )
            amount = None if reading.parts else cost(usage, price)
        entry = self.entry(
            model=model,
            usage=usage,
            service_tier=tier,
            region=region,
            cost_usd=None if amount is None else to_usd(amount),
            status=status,
            grade=grade,
            duration_s=time.perf_counter() - self._started,
            response_id=reading.response_id,
            price_id=None if amount is None or price is None else price.id,
            gateway_cost_usd=reading.gateway_cost,
        )
        if amount is not None:
            return entry
        return self._unpriced(entry) if grade == "assumed" else self._priced(entry, reading)

    def _usage(self, reading: Reading, status: Status) -> tuple[Usage, Grade]:
        """Return the usage that an answer tells of, or what can be counted in its place."""
        if reading.usage is not None and reading.is_complete:
            return reading.usage, "reported"
        is_counted = reading.usage is not None or self.estimate.counted_input is not None
        return self.estimate.counted(reading), "estimated" if is_counted else "assumed"

    def _priced(self, entry: CostEntry, reading: Reading) -> CostEntry:
        """Return the entry with its cost; work done at another model's price is added."""
        entry = valued(self.ledger.prices, entry, reading.parts)
        return self._unpriced(entry) if entry.cost_usd is None else entry

    def _unpriced(self, entry: CostEntry) -> CostEntry:
        """Return an entry whose usage has no price: it costs the worst case, where one is known."""
        if self.estimate.is_dearest and self.estimate.price is not None:
            amount = cost(entry.usage, self.estimate.price)
        elif self.reserved is not None:
            amount = self.reserved_each
        else:
            amount = self.estimate.worst_case()[0]
        if amount is None:
            return replace(entry, cost_usd=None, grade="unpriced")
        price_id = self.estimate.price_id
        return replace(entry, cost_usd=to_usd(amount), grade="assumed", price_id=price_id)

    def _duration(self) -> float:
        return time.perf_counter() - self._started

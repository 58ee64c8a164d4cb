"""Every error and warning of costtrace, in one tree.

CosttraceError
    BudgetExceededError     the call was not sent: it could take a budget past its limit
    UnknownPriceError       nobody knows what a call costs: not sent under a limit, not estimated
    BudgetStoreError        the call was not sent: the store that keeps the budget does not answer
        StoreResetError     ... or it has lost its memory
    PriceTableError         a price file or table is wrong (also a ValueError)
    CallConflictError       a call id was used again for something else
    HandoffError            a scope from another process is refused (also a ValueError)
CosttraceWarning
    UnpricedModelWarning    a model without a known price was used; its cost is None
    UncoveredCallWarning    a billable call passed that costtrace does not understand
    InstrumentationWarning  an SDK could not be patched as expected
    StalePricesWarning      the price table is old
    SharedBudgetWarning     several processes keep one budget in memory, each its own
    EvictingStoreWarning    the store may throw away what it was told
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from costtrace.money import exact_sum, format_apart, format_usd


class CosttraceError(Exception):
    """The root of all errors that costtrace raises on purpose."""


class BudgetExceededError(CosttraceError):
    """The call was not sent: its worst case does not fit into what is left of a budget.

    Amounts are US dollars. `user_id` is None for the ledger's own budget; `resets_at` (aware UTC)
    is None where the budget never resets. `reason` says which limit it was, where it was not that
    of the window's money: of tokens, of calls, or of what one call may cost. No subclass of an SDK
    error, so nothing retries it.
    """

    def __init__(
        self,
        user_id: str | None,
        limit_usd: Decimal | None,
        spent_usd: Decimal,
        reserved_usd: Decimal,
        requested_usd: Decimal,
        window: str | None = None,
        resets_at: datetime | None = None,
        model: str = "",
        function_name: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(
            user_id,
            limit_usd,
            spent_usd,
            reserved_usd,
            requested_usd,
            window,
            resets_at,
            model,
            function_name,
            reason,
        )
        self.user_id = user_id
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = reserved_usd
        self.requested_usd = requested_usd
        self.window = window
        self.resets_at = resets_at
        self.model = model
        self.function_name = function_name
        self.reason = reason

    @property
    def remaining_usd(self) -> Decimal | None:
        """What was left when the call was refused; None where the limit is not one of money."""
        if self.limit_usd is None:
            return None
        taken = exact_sum((self.spent_usd, self.reserved_usd))
        return max(exact_sum((self.limit_usd, taken.copy_negate())), Decimal(0))

    def __str__(self) -> str:
        who = "the ledger" if self.user_id is None else f"user {self.user_id!r}"
        named = (part for part in (self.model, self.function_name) if part not in ("", "unknown"))
        where = " in ".join(named)
        parts = [f"budget of {who} exceeded" + (f" by {where}" if where else "")]
        if self.reason:  # it was not the money that ran out
            parts.append(self.reason)
        elif self.limit_usd is not None:
            asked, left = format_apart(self.requested_usd, self.remaining_usd or Decimal(0))
            parts.append(
                f"the call may cost {asked}, {left} of {format_usd(self.limit_usd)} is left "
                f"({format_usd(self.spent_usd)} spent, {format_usd(self.reserved_usd)} reserved)"
            )
        if self.resets_at is not None:
            parts.append(f"resets at {self.resets_at:%Y-%m-%d %H:%M} UTC")
        return "; ".join(parts)


class UnknownPriceError(CosttraceError):
    """No price is known for a model: nothing was sent, or nothing can be estimated.

    `user_id` is the user whose limit holds, None where it is the ledger's own. `is_limited` is
    False where no call was meant, as in `estimate_cost`. `similar` is the known name that is most
    like the model's, None where none is near.
    """

    def __init__(
        self,
        model: str,
        user_id: str | None = None,
        is_limited: bool = True,
        similar: str | None = None,
    ) -> None:
        super().__init__(model, user_id, is_limited, similar)
        self.model = model
        self.user_id = user_id
        self.is_limited = is_limited
        self.similar = similar

    def __str__(self) -> str:
        unknown = f"no price is known for {self.model!r}"
        if self.similar is not None:
            unknown += f" (did you mean {self.similar!r}?)"
        if not self.is_limited:
            return f"{unknown}: give one with PriceTable.with_prices()"
        return (
            f"{unknown}, so its call cannot be held to the budget of "
            f"{'the ledger' if self.user_id is None else f'user {self.user_id!r}'}: give one with "
            f'PriceTable.with_prices(), or choose on_unknown_model="assume_max" or "allow"'
        )


class BudgetStoreError(CosttraceError):
    """The call was not sent: the store that keeps the budget could not be reached in time."""


class StoreResetError(BudgetStoreError):
    """The server that keeps the ledger has lost its memory, or a part of it.

    It was flushed, restarted without persistence, threw keys away, or is another one now. Nothing
    is admitted against a fresh zero: `RedisStore.reseed` enters what is known elsewhere and goes
    on.
    """


class PriceTableError(CosttraceError, ValueError):
    """A price table is wrong; the text says where, what, and what would be right."""


class CallConflictError(CosttraceError):
    """A call id was used again for a call that differs, or that is already settled."""


class HandoffError(CosttraceError, ValueError):
    """A scope that another process handed over was altered, has expired, or has another secret."""


class CosttraceWarning(UserWarning):
    """The root of all warnings of costtrace."""


class UnpricedModelWarning(CosttraceWarning):
    """A model without a known price was used; its calls have the cost None, never zero."""


class UncoveredCallWarning(CosttraceWarning):
    """A billable call was made that costtrace does not understand; it is in no total."""


class InstrumentationWarning(CosttraceWarning):
    """An SDK, or a part of it, could not be patched; its calls are not seen."""


class StalePricesWarning(CosttraceWarning):
    """The price table has not been updated for a long time."""


class SharedBudgetWarning(CosttraceWarning):
    """Several processes keep a budget in memory: each of them allows the whole limit."""


class EvictingStoreWarning(CosttraceWarning):
    """A server is set up to throw keys away when its memory is full; the ledger is among them."""

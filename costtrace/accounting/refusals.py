"""Refusals: which limit a call would pass, and what its caller is told."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from costtrace.accounting.headroom import Headroom, has_reserved
from costtrace.accounting.terms import BudgetTerms
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError
from costtrace.instant import to_us
from costtrace.money import format_apart, to_pico, to_usd
from costtrace.stores.base import Balance, Limit, Refusal


@dataclass(frozen=True, slots=True)
class Refused:
    """A reservation that was not made: whose terms refused it, and where they stood."""

    terms: BudgetTerms
    refusal: Refusal

    @property
    def headroom(self) -> Headroom:
        """What was left of the limit for another call."""
        return Headroom.left(self.refusal.limit, self.refusal.balance)

    @property
    def may_pass_later(self) -> bool:
        """Whether calls in flight may give back enough, so that waiting makes sense."""
        return has_reserved(self.refusal.balance)

    def error(self, entry: CostEntry) -> BudgetExceededError:
        """Return what the caller is told."""
        refusal, terms = self.refusal, self.terms
        return BudgetExceededError(
            user_id=terms.user_id,
            limit_usd=None if refusal.limit.pico is None else to_usd(refusal.limit.pico),
            spent_usd=to_usd(refusal.balance.spent_pico),
            reserved_usd=to_usd(refusal.balance.reserved_pico),
            requested_usd=entry.cost_usd or Decimal(0),
            window=terms.window.name,
            resets_at=terms.window.resets_at(to_us(entry.timestamp)),
            model=entry.request_model or entry.model,
            function_name=entry.function_name,
            reason=_reason(refusal, entry),
        )


def _reason(refusal: Refusal, entry: CostEntry) -> str:
    """Return in words what the amounts of an error do not say."""
    balance, limit = refusal.balance, refusal.limit
    if refusal.unit == "tokens":
        return (
            f"the call may use {entry.usage.total_tokens} tokens, {balance.spent_tokens} spent "
            f"and {balance.reserved_tokens} reserved of {limit.tokens}"
        )
    if refusal.unit == "calls":
        return (
            f"calls: {balance.spent_calls} made and {balance.reserved_calls} in flight, "
            f"of {limit.calls}"
        )
    return ""


def too_dear(terms: BudgetTerms, entry: CostEntry) -> BudgetExceededError | None:
    """Return the error of a call that alone may cost more than one call may; None if it may not."""
    if terms.per_call_pico is None or to_pico(entry.cost_usd or 0) <= terms.per_call_pico:
        return None
    allowed, asked = to_usd(terms.per_call_pico), entry.cost_usd or Decimal(0)
    at_most, may_cost = format_apart(allowed, asked)
    return BudgetExceededError(
        user_id=terms.user_id,
        limit_usd=allowed,
        spent_usd=Decimal(0),
        reserved_usd=Decimal(0),
        requested_usd=asked,
        model=entry.request_model or entry.model,
        function_name=entry.function_name,
        reason=f"the call may cost {may_cost}, and each {at_most} at most (per_call)",
    )


def passed(
    limit: Limit, balance: Balance, entry: CostEntry
) -> Literal["usd", "tokens", "calls"] | None:
    """Return the unit in which an entry would pass a limit; None where it fits."""
    asked = to_pico(entry.cost_usd or 0)
    spent, tokens = balance.spent_pico, balance.spent_tokens
    if limit.pico is not None and spent + balance.reserved_pico + asked > limit.pico:
        return "usd"
    tokens += balance.reserved_tokens + entry.usage.total_tokens
    if limit.tokens is not None and tokens > limit.tokens:
        return "tokens"
    if limit.calls is not None and balance.spent_calls + balance.reserved_calls >= limit.calls:
        return "calls"
    return None

"""Authorizing a call: its worst case is reserved, or it is refused before it is sent.

The rules are written once, as a generator of the steps that ask a store or wait; whoever drives
it runs them on the spot or off the event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from costtrace.accounting.charges import FIRST_WAIT_S, LONGEST_WAIT_S
from costtrace.accounting.postings import Headroom, Refused, too_dear
from costtrace.accounting.terms import BudgetTerms
from costtrace.entry import CostEntry
from costtrace.exceptions import CosttraceError, UnknownPriceError
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.outgoing import Outgoing
from costtrace.money import Picodollars

log = logging.getLogger("costtrace")
RACES = 8
"""Times that a reservation is tried anew because others took what had just been there."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A step that waits for calls in flight to give back what they do not need."""

    seconds: float


Step: TypeAlias = "Callable[[], Any] | Wait"
Steps: TypeAlias = "Generator[Step, Any, Any]"


def authorization(call: Call, outgoing: Outgoing) -> Steps:
    """Yield the steps that authorize a call; raises when it is refused.

    Afterwards the call holds its reservation, and the request says what it must not pass: its cap
    of output tokens and its retries.
    """
    if any(terms.on_exceed == "warn" and terms.has_limit for terms in call.charges.terms):
        yield partial(call.charges.observe, call.worst_entry(*call.estimate.worst_case()))
    hard = [terms for terms in call.charges.terms if terms.is_hard]
    if not hard:
        return
    _check_price(call, hard)
    deadline = time.monotonic() + max(one.wait_s for one in hard)
    pause = FIRST_WAIT_S
    while True:
        error = yield from _attempt(call, outgoing, hard)
        if error is None:
            return
        left = deadline - time.monotonic()
        if left <= 0 or not error.may_pass_later:
            raise error.error
        yield Wait(min(pause, left))
        pause = min(pause * 2, LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a call cannot be sent now."""

    error: CosttraceError
    may_pass_later: bool
    headroom_pico: Picodollars | None = None
    can_fit: bool = False


def _check_price(call: Call, hard: list[BudgetTerms]) -> None:
    """Refuse a model that nobody knows the price of, or assume one, as the budgets say."""
    if call.estimate.bound is not None:
        return
    for terms in hard:
        if terms.on_unknown_model == "refuse":
            raise UnknownPriceError(call.request.model, terms.user_id)
    if any(terms.on_unknown_model == "assume_max" for terms in hard):
        call.estimate.assume_dearest()


def _attempt(call: Call, outgoing: Outgoing, hard: list[BudgetTerms]) -> Steps:
    """Try once to reserve the call; return why it failed, or None."""
    failure: _Failure | None = None
    for input_tokens in call.estimate.inputs():
        cap = call.request.output_cap
        if cap is None and call.estimate.can_be_capped:
            failure = yield from _without_cap(call, outgoing, hard, input_tokens)
        else:
            most = call.estimate.largest_output if cap is None else cap
            failure = yield from _with_cap(call, outgoing, hard, input_tokens, most)
        if failure is None:
            return None
    if failure is not None and failure.can_fit and call.estimate.can_be_capped:
        return (yield from _fitted(call, outgoing, hard, failure))
    return failure


def _with_cap(
    call: Call, outgoing: Outgoing, hard: list[BudgetTerms], input_tokens: int, output_tokens: int
) -> Steps:
    """Reserve a call whose output is bounded, for as many attempts as can be paid for."""
    worst = call.estimate.worst(input_tokens, output_tokens)
    attempts = _attempts(outgoing, hard)
    for _ in range(RACES):
        entry = _worst_entry(call, worst, attempts, input_tokens, output_tokens)
        if (failure := _per_call(call, hard, entry, worst)) is None:
            refused = yield from call.charges.reserving(entry)
            if refused is None:
                _accept(call, outgoing, hard, entry, worst, attempts)
                return None
            failure = _failure(refused, _worst_entry(call, worst, 1, input_tokens, output_tokens))
        if attempts == 1:
            return failure
        headroom = failure.headroom_pico
        covered = headroom // worst if worst and headroom is not None else 1
        attempts = max(1, min(attempts - 1, covered))
    return failure


def _without_cap(
    call: Call, outgoing: Outgoing, hard: list[BudgetTerms], input_tokens: int
) -> Steps:
    """Reserve a call that leaves its output to the model: it takes at most half of what remains.

    So calls in parallel get a half, a quarter, an eighth: none is starved, and none overspends.
    """
    estimate = call.estimate
    failure: _Failure | None = None
    for _ in range(RACES):
        headroom: Headroom = yield partial(call.charges.headroom, call.timestamp)
        half = headroom.half(hard)
        most = estimate.largest_output
        worst = estimate.worst(input_tokens, most)
        cap = _affordable(call, half, input_tokens, most)
        if cap < 1:
            entry = _worst_entry(call, worst, 1, input_tokens, most)
            refused = yield from call.charges.reserving(entry)  # to learn who refuses, and why
            if refused is None:  # meanwhile there is room
                _accept(call, outgoing, hard, entry, worst, 1)
                return None
            return _failure(refused, entry)
        worst = estimate.worst(input_tokens, cap)
        attempts = _attempts(outgoing, hard)
        if worst and half.pico is not None:
            attempts = max(1, min(attempts, half.pico // worst))
        entry = _worst_entry(call, worst, attempts, input_tokens, cap)
        refused = yield from call.charges.reserving(entry)
        if refused is None:
            if cap < most:
                outgoing.set(call.provider.capped(call.request, cap))
            _accept(call, outgoing, hard, entry, worst, attempts)
            return None
        failure = _failure(refused, entry)
    return failure


def _fitted(call: Call, outgoing: Outgoing, hard: list[BudgetTerms], failure: _Failure) -> Steps:
    """Reserve what is left and lower the request's own cap to it."""
    *_, input_tokens = call.estimate.inputs()  # the most precise leaves the most for the answer
    for _ in range(RACES):
        headroom: Headroom = yield partial(call.charges.headroom, call.timestamp)
        wanted = call.request.output_cap or call.estimate.largest_output
        cap = _affordable(call, headroom.whole(hard), input_tokens, wanted)
        if cap < 1:
            return failure
        worst = call.estimate.worst(input_tokens, cap)
        entry = _worst_entry(call, worst, 1, input_tokens, cap)
        if (yield from call.charges.reserving(entry)) is None:
            outgoing.set(call.provider.capped(call.request, cap))
            _accept(call, outgoing, hard, entry, worst, 1)
            return None
    return failure


def _affordable(call: Call, room: Headroom, input_tokens: int, most: int) -> int:
    """Return how many tokens each choice may have within `room`; 0 if not even the input fits."""
    cap: int | None = most
    if room.pico is not None and call.estimate.bound is not None:
        cap = call.estimate.output_for(room.pico, input_tokens)
    if cap is None:
        return 0
    if room.tokens is not None:
        cap = min(cap, (room.tokens - input_tokens) // call.request.choices)
    return max(0, min(cap, most))


def _attempts(outgoing: Outgoing, hard: list[BudgetTerms]) -> int:
    return outgoing.max_retries + 1 if any(one.cover_retries for one in hard) else 1


def _worst_entry(
    call: Call, worst: Picodollars | None, attempts: int, input_tokens: int, output_tokens: int
) -> CostEntry:
    usage = call.estimate.usage(input_tokens * attempts, output_tokens * attempts)
    return call.worst_entry(None if worst is None else worst * attempts, usage)


def _per_call(
    call: Call, hard: list[BudgetTerms], entry: CostEntry, worst: Picodollars | None
) -> _Failure | None:
    """Return why a call is too dear for one call, if it is."""
    for terms in hard:
        if terms.per_call_pico is None or entry.cost_usd is None:
            continue
        error = too_dear(terms, entry)
        if error.requested_usd > (error.limit_usd or 0):
            return _Failure(error, False, terms.per_call_pico, can_fit=terms.on_exceed == "fit")
    return None


def _failure(refused: Refused, entry: CostEntry) -> _Failure:
    return _Failure(
        refused.error(entry),
        refused.may_pass_later,
        refused.headroom_pico,
        can_fit=refused.terms.on_exceed == "fit",
    )


def _accept(
    call: Call,
    outgoing: Outgoing,
    hard: list[BudgetTerms],
    entry: CostEntry,
    worst: Picodollars | None,
    attempts: int,
) -> None:
    """Note what was reserved, and let the SDK try no more often than that."""
    call.reserved = entry
    call.reserved_each = worst
    call.reserved_attempts = attempts
    if attempts <= outgoing.max_retries and any(one.cover_retries for one in hard):
        outgoing.set_max_retries(attempts - 1)

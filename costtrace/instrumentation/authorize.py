"""Authorizing a call: its worst case is reserved, or it is refused before it is sent.

The rules are written once, as a generator of the steps that ask a store or wait; whoever drives
it runs them on the spot or off the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from costtrace.accounting.headroom import Headroom
from costtrace.accounting.lines import patiently
from costtrace.accounting.refusals import Refused, too_dear
from costtrace.accounting.steps import Steps, take
from costtrace.entry import CostEntry
from costtrace.exceptions import BudgetExceededError, CosttraceError, UnknownPriceError
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.offload import take_off_loop
from costtrace.instrumentation.outgoing import Adjustable
from costtrace.instrumentation.uploads import upload_size
from costtrace.money import Picodollars

RACES = 8
"""Times that a reservation is tried anew because others took what had just been there."""
ENOUGH = 256
"""Output tokens below which a call that may wait does so, rather than ask for a shorter answer."""


def authorize(call: Call, outgoing: Adjustable) -> None:
    """Authorize a call in this thread; raises when it is refused.

    Afterwards the call holds its reservation, and the request says what it must not pass: its cap
    of output tokens and its retries.
    """
    pending = _Authorization(call, outgoing)
    if not pending.is_done_at_once():
        take(pending.steps())


async def authorize_async(call: Call, outgoing: Adjustable) -> None:
    """Do the same on an event loop, which nothing may hold up."""
    pending, is_blocking = _Authorization(call, outgoing), call.charges.payers.is_blocking
    if is_blocking or not pending.is_done_at_once():
        undo = partial(call.charges.release, call.call_id)
        await take_off_loop(pending.steps(), is_blocking, undo)


@dataclass(frozen=True, slots=True)
class _Rejection:
    """Why a call cannot be sent now."""

    error: CosttraceError
    owner: str = ""
    wait_s: float = 0.0
    may_pass_later: bool = False
    room: Headroom | None = None
    can_fit: bool = False


class _Worst(NamedTuple):
    """What a call may come to: its tokens, and what one attempt of it costs at most."""

    input_tokens: int
    output_tokens: int
    pico: Picodollars | None


class _Authorization:
    """One call on its way to being sent."""

    def __init__(self, call: Call, outgoing: Adjustable) -> None:
        self.call = call
        self.outgoing = outgoing
        self.charges = call.charges
        self.payers = call.charges.payers
        self.estimate = call.estimate
        self.hard = self.payers.hard
        self._has_asked = False

    def is_done_at_once(self) -> bool:
        """Reserve a call that is far from all limits, in the one store that it is entered in."""
        payers = self.payers
        if payers.is_observed or payers.wait_s or payers.others or self._files:
            return False
        if not self.hard:
            return True
        self._check_price()
        worst, attempts = self._worst_far_from_limits(), self._wanted
        if worst is None:
            return False
        entry = self._entry(worst, attempts)
        is_held = self.charges.is_held_at_home(entry)
        if is_held:
            self._accept(entry, worst, attempts, None)
        return is_held

    def steps(self) -> Steps:
        """Yield the steps that authorize the call; they raise when it is refused."""
        payers = self.payers
        if files := self._files:
            self.estimate.uploads = len(files)
            self.estimate.upload_bytes = upload_size(files) or self.estimate.upload_bytes
        if payers.is_observed:
            yield self._observe
        if not self.hard:
            return
        self._check_price()
        wait_s = payers.wait_s
        if wait_s:
            attempt = patiently(self._again, wait_s, self.call.ledger.postings.lines, payers.owners)
        else:
            worst = self._worst_far_from_limits()
            if worst is not None and (yield from self._reserved(worst, self._wanted)) is None:
                return
            attempt = self._attempt(may_wait=False)
        rejection: _Rejection | None = yield from attempt
        if rejection is not None:
            raise rejection.error

    def _worst_far_from_limits(self) -> _Worst | None:
        """Return the worst case of a call that is far from all limits, as nearly all are."""
        estimate, cap = self.estimate, self.call.request.output_cap
        worst = self._worst(estimate.quick_input, estimate.largest_output if cap is None else cap)
        return worst if self._is_far(worst, self._wanted) else None

    def _again(self, may_wait: bool) -> Steps:
        """Try once more; a call belongs to the window in which it is authorized."""
        self.call.timestamp = self.call.ledger.now()
        return self._attempt(may_wait)

    def _check_price(self) -> None:
        """Refuse a model that nobody knows the price of, or assume one, as the budgets say."""
        if self.estimate.is_priced:
            return
        for terms in self.hard:
            if terms.on_unknown_model == "refuse":
                model = self.call.request.model
                similar = self.call.ledger.prices.similar(model)
                raise UnknownPriceError(model, terms.user_id, similar=similar)
        if any(terms.on_unknown_model == "assume_max" for terms in self.hard):
            self.estimate.assume_dearest()

    def _attempt(self, may_wait: bool) -> Steps:
        """Try to reserve the call; come to why that failed, or to None."""
        rejection = yield from self._attempt_as_bounded(may_wait)
        if rejection is not None and (yield from self._counted_by_provider()):
            rejection = yield from self._attempt_as_bounded(may_wait)
        if rejection is not None and rejection.can_fit and self.estimate.can_be_capped:
            return (yield from self._fitted(rejection, may_wait))
        return rejection

    def _attempt_as_bounded(self, may_wait: bool) -> Steps:
        """Try it by the bounds that are at hand, the most precise one last."""
        cap, estimate = self.call.request.output_cap, self.estimate
        if cap is None and estimate.can_be_capped:
            return (yield from self._without_cap(may_wait))
        most = estimate.largest_output if cap is None else cap
        for input_tokens in estimate.inputs():
            rejection = yield from self._with_cap(self._worst(input_tokens, most))
            if rejection is None:
                break
        return rejection

    def _counted_by_provider(self) -> Steps:
        """Ask the provider to count the prompt, once and where a budget allows it."""
        client, is_allowed = self.outgoing.client, any(terms.ask_provider for terms in self.hard)
        if self._has_asked or client is None or not is_allowed:
            return False
        self._has_asked = True
        return (yield self.estimate.ask(client))

    def _with_cap(self, worst: _Worst) -> Steps:
        """Reserve a call whose output is bounded, for as many attempts as can be paid for."""
        if (rejection := self._per_call(worst)) is not None:
            return rejection
        attempts = wanted = self._wanted
        if wanted > 1 and not self._is_far(worst, wanted):
            room: Headroom = yield self._look
            attempts = self._attempts(room.bounded(self.hard), worst)
        for _ in range(RACES):
            rejection = yield from self._reserved(worst, attempts)
            if rejection is None or attempts == 1:
                return rejection
            room = rejection.room or Headroom()
            attempts = min(attempts - 1, self._attempts(room.bounded(self.hard), worst))
        return (yield from self._reserved(worst, 1))

    def _without_cap(self, may_wait: bool) -> Steps:
        """Reserve a call that leaves its output to the model, for at most half of what is left.

        So calls in parallel get a half, a quarter, an eighth: none is starved, and none overspends.
        """
        estimate, rejection = self.estimate, None
        most, wanted = estimate.largest_output, self._wanted
        worst = self._worst(estimate.quick_input, most)
        if self._is_far(worst, wanted):
            rejection = yield from self._reserved(worst, wanted)
            if rejection is None:
                return None
        for _ in range(RACES):
            room: Headroom = yield self._look
            half = room.half().bounded(self.hard)
            cap = self._affordable(half, input_tokens := estimate.quick_input, most)
            if cap < most:  # what the prompt does not take is left to the answer: count it
                cap = self._affordable(half, input_tokens := estimate.closest_input, most)
            if may_wait and room.is_shared and cap < self._enough(input_tokens, most):
                return self._too_short(room, cap)
            if cap < 1:
                return (yield from self._refused(input_tokens, most))
            worst = self._worst(input_tokens, cap)
            attempts = self._attempts(half, worst)
            rejection = yield from self._reserved(worst, attempts, cap if cap < most else None)
            if rejection is None:
                return None
        return rejection

    def _refused(self, input_tokens: int, most: int) -> Steps:
        """Find out who refuses a call whose prompt alone takes more than half of what is left."""
        rejection = self._per_call(self._worst(input_tokens, 1))
        if rejection is None:
            rejection = yield from self._reserved(self._worst(input_tokens, most), 1)
        return rejection

    def _fitted(self, rejection: _Rejection, may_wait: bool) -> Steps:
        """Reserve what is left and lower the request's own cap to it."""
        input_tokens = self.estimate.closest_input
        wanted = self.call.request.output_cap or self.estimate.largest_output
        for _ in range(RACES):
            room: Headroom = yield self._look
            cap = self._affordable(room.bounded(self.hard), input_tokens, wanted)
            if may_wait and room.is_shared and cap < self._enough(input_tokens, wanted):
                return self._too_short(room, cap)
            if cap < 1:
                return rejection
            worst = self._worst(input_tokens, cap)
            if (yield from self._reserved(worst, 1, cap)) is None:
                return None
        return rejection

    # parts

    @property
    def _files(self) -> Any:
        return getattr(self.outgoing.options, "files", None)

    @property
    def _wanted(self) -> int:
        """The attempts that the SDK may make, where they are to be covered."""
        return self.outgoing.max_retries + 1 if self.payers.covers_retries else 1

    def _look(self) -> Headroom:
        return self.charges.look(self.call.timestamp)

    def _is_far(self, worst: _Worst, attempts: int) -> bool:
        """Tell whether the limits are so far away that nobody has to look how far."""
        if worst.pico is None or self.payers.bounds_each_call:
            return False
        return self.charges.is_plentiful(worst.pico * attempts)

    def _worst(self, input_tokens: int, output_tokens: int) -> _Worst:
        pico = self.estimate.worst(input_tokens, output_tokens)
        return _Worst(input_tokens, output_tokens, pico)

    def _entry(self, worst: _Worst, attempts: int) -> CostEntry:
        """Return what the ledger gets if the fate of so many attempts is never known."""
        usage = self.estimate.usage(worst.input_tokens * attempts, worst.output_tokens * attempts)
        pico = None if worst.pico is None else worst.pico * attempts
        return self.call.worst_entry(pico, usage)

    def _attempts(self, room: Headroom, worst: _Worst) -> int:
        tokens = worst.input_tokens + worst.output_tokens * self.call.request.choices
        return room.attempts(self._wanted, worst.pico, tokens)

    def _affordable(self, room: Headroom, input_tokens: int, most: int) -> int:
        """Return how many tokens each choice may have in `room`; 0 if not even the input fits."""
        cap: int | None = most
        if room.pico is not None and self.estimate.bound is not None:
            cap = self.estimate.output_for(room.pico, input_tokens)
        if cap is None:
            return 0
        if room.tokens is not None:
            cap = min(cap, (room.tokens - input_tokens) // self.call.request.choices)
        return max(0, min(cap, most))

    def _reserved(self, worst: _Worst, attempts: int, cap: int | None = None) -> Steps:
        """Reserve so many attempts, and note it; come to why it failed, or to None."""
        entry = self._entry(worst, attempts)
        refused: Refused | None = yield from self.charges.reserving(entry)
        if refused is None:
            self._accept(entry, worst, attempts, cap)
            return None
        return _Rejection(
            refused.error(entry if attempts == 1 else self._entry(worst, 1)),
            refused.refusal.limit.owner,
            refused.terms.wait_s,
            refused.may_pass_later,
            refused.headroom,
            can_fit=refused.terms.on_exceed == "fit",
        )

    def _per_call(self, worst: _Worst) -> _Rejection | None:
        """Return why a call is too dear for one call, if it is."""
        if worst.pico is None or not self.payers.bounds_each_call:
            return None
        for terms in self.hard:
            if terms.per_call_pico is not None:
                error = too_dear(terms, self._entry(worst, 1))
                if error is not None:
                    return _Rejection(error, terms.owner, can_fit=terms.on_exceed == "fit")
        return None

    def _enough(self, input_tokens: int, wanted: int) -> int:
        """Return how long an answer has to be allowed to be, for a call that could wait instead."""
        allowed = self._affordable(Headroom().bounded(self.hard), input_tokens, wanted)
        return min(ENOUGH, allowed)

    def _too_short(self, room: Headroom, cap: int) -> _Rejection:
        """Return that what is left now makes a short answer, and others may give back more."""
        error = CosttraceError(f"{cap} output tokens are left")  # made anew when time is up
        return _Rejection(error, room.owner, self.payers.wait_s, may_pass_later=True)

    def _accept(self, entry: CostEntry, worst: _Worst, attempts: int, cap: int | None) -> None:
        """Note what was reserved, and let the SDK ask for no more than that."""
        call, outgoing = self.call, self.outgoing
        call.reserved = entry
        call.reserved_each = worst.pico
        call.reserved_attempts = attempts
        if cap is not None:
            outgoing.set(call.provider.capped(call.request, cap))
        if attempts <= outgoing.max_retries and self.payers.covers_retries:
            outgoing.set_max_retries(attempts - 1)

    # budgets that only warn

    def _observe(self) -> None:
        """Note what would have been refused, at the most precise bound that decides it."""
        self.charges.observed(self._would_be_refused())

    def _would_be_refused(self) -> list[BudgetExceededError]:
        errors: list[BudgetExceededError] = []
        for worst in self._observed_worsts():
            errors = self.charges.refusing(self._entry(worst, 1))
            if not errors:
                break
        return errors

    def _observed_worsts(self) -> Iterator[_Worst]:
        """Yield what a hard budget would have had to hold: without a cap, one token will do."""
        cap, estimate = self.call.request.output_cap, self.estimate
        if cap is None:
            cap = 1 if estimate.can_be_capped else estimate.largest_output
        for input_tokens in estimate.inputs():
            yield self._worst(input_tokens, cap)

"""What a call may cost at most, as precisely as somebody has to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from costtrace.accounting.steps import Ask
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.money import Picodollars
from costtrace.pricing import Bound, Limits, Price, PriceTable, Tariff, tariff_of
from costtrace.providers import Reading, Request
from costtrace.providers.base import given
from costtrace.tokens import (
    aexact,
    count_input_tokens,
    count_message_tokens,
    count_output,
    exact,
    most_drawn,
    upper_bound,
)
from costtrace.usage import Usage

LARGEST_INPUT = 1_050_000
"""Tokens that the largest known model takes; for a request that nothing else bounds."""
LARGEST_OUTPUT = 128_000
"""Tokens that the most talkative known model generates; for a model of unknown limits."""
ASSUMED_TOOL_USES = 20
"""Searches that one call may make where neither the request nor the tool limits them."""
LARGEST_UPLOAD = 25 * 2**20
"""Bytes that OpenAI takes of one recording."""
ASK_WITHIN_S = 5.0
"""How long a provider's count is waited for; without one, the bound in hand decides."""
LEAST_BYTES_PER_SECOND = 750
"""Of a recording: 6 kbit/s, the least that Opus speech has."""
SPOKEN_TOKENS = 20
"""Audio tokens that one character may take to be spoken: one second, as each digit may."""
SPOKEN_LEAST = 10
"""Seconds that any text may take beside that."""
_BY_TOKENS = ("chat", "messages", "responses", "completions", "embeddings")
TOKENLESS = ("speech", "images", "videos", "transcriptions", "translations")
"""Operations whose output is not bounded by tokens that a request could cap."""
_UNCAPPED = frozenset((*TOKENLESS, "embeddings", "compact", "decisions"))


T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 (used like property)
    """An attribute that is computed when first asked for; `cached_property` locks, before 3.12."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        value = instance.__dict__[self._make.__name__] = self._make(instance)
        return value


class Estimate:
    """The bounds of one request at one time; nothing is computed before it is asked for."""

    def __init__(self, request: Request, prices: PriceTable, at: datetime) -> None:
        self.request = request
        self.is_dearest = False
        self.upload_bytes = LARGEST_UPLOAD
        """Of the recording that goes with the request, as far as known."""
        self.uploads = 0
        """Files that go with it."""
        self._prices = prices
        self._at = at

    @once
    def tariff(self) -> Tariff:
        """What the price table says of such requests, or the dearest if that was assumed."""
        request = self.request
        return tariff_of(
            self._prices,
            request.model,
            self._at,
            provider=request.provider,
            tier=request.tier,
            region=request.region,
            operation=request.operation,
            cache_lifetimes=request.cache_lifetimes,
        )

    @property
    def bound(self) -> Bound | None:
        """The dearest rates that may apply; None for a model without a known price."""
        return self.tariff.bound

    @property
    def price(self) -> Price | None:
        """The price of the model and tier requested, or the dearest one if that was assumed."""
        return self.tariff.price

    @property
    def is_priced(self) -> bool:
        """Whether all that the call may be billed for has a known price."""
        bound = self.tariff.bound
        if bound is None:
            return False
        if self._beside is None and bound.input is not None and bound.output is not None:
            return True
        return self.worst(1, min(1, self.largest_output)) is not None

    @property
    def price_id(self) -> str | None:
        """The id of that price."""
        price = self.tariff.price
        return None if price is None else price.id

    def assume_dearest(self) -> None:
        """Bound an unknown model by the dearest known price of its provider, line by line."""
        request = self.request
        self.is_dearest = True
        self.__dict__["tariff"] = Tariff(
            self._prices.dearest_bound(request.provider, self._at, tier=request.tier),
            self._prices.dearest(request.provider, self._at, tier=request.tier),
            self.limits,
        )

    @property
    def limits(self) -> Limits | None:
        """How many tokens the model takes and gives, where that is known."""
        return self.tariff.limits

    @once
    def quick_input(self) -> int:
        """The most input tokens there can be, in microseconds."""
        limits, bound = self.tariff.limits, self._request_bound
        largest = (limits and (limits.max_input_tokens or limits.context_window)) or LARGEST_INPUT
        return largest if bound is None or bound > largest else bound

    @once
    def _request_bound(self) -> int | None:
        """The same as the request alone bounds it; None where more than it may be read."""
        request = self.request
        if request.has_hosted_tools:
            return None
        try:
            return upper_bound(
                request.body, request.operation, request.provider, files=self.uploads
            )
        except Exception as error:
            swallowed("bound a prompt", error)
            return None

    @once
    def closest_input(self) -> int:
        """The same bound, as close as it can be had in this process."""
        request, quick = self.request, self.quick_input
        if not request.has_hosted_tools and not self.uploads:
            with guard("count a prompt"):
                closer = exact(request.body, request.operation, request.provider, request.model)
                if closer is not None:
                    return min(int(closer), quick)
        return quick

    def ask(self, client: Any) -> Ask:
        """Return the step that asks the provider for a closer bound of the input.

        It comes to whether there is one now. A count endpoint is free, but a round trip.
        """
        request = self.request
        asked = (request.body, request.operation, request.provider, request.model)

        def now() -> bool:
            with guard("ask a provider to count"):
                return self._is_closer(exact(*asked, _hurried(client)))
            return False

        async def later() -> bool:
            with guard("ask a provider to count"):
                return self._is_closer(await aexact(*asked, _hurried(client)))
            return False

        return Ask(now, later)

    def _is_closer(self, asked: int | None) -> bool:
        if asked is None or asked >= self.closest_input:
            return False
        self.__dict__["closest_input"] = int(asked)
        return True

    def inputs(self) -> Iterator[int]:
        """Yield bounds of the input tokens, each more precise and dearer to get."""
        yield self.quick_input
        if self.closest_input < self.quick_input:
            yield self.closest_input

    @once
    def largest_output(self) -> int:
        """The most tokens that the model generates for each choice."""
        if self.request.operation == "embeddings":
            return 0
        if self._spoken is not None:
            return SPOKEN_TOKENS * (self._spoken + SPOKEN_LEAST)
        if self.request.operation == "images":
            return most_drawn(self.request.model, self.request.body) or LARGEST_OUTPUT
        limits = self.tariff.limits
        return (limits and limits.max_output_tokens) or LARGEST_OUTPUT

    @property
    def can_be_capped(self) -> bool:
        """Whether the request can be told how many tokens to generate at most."""
        return self.request.operation not in _UNCAPPED

    def worst(self, input_tokens: int, output_tokens: int) -> Picodollars | None:
        """Return the most that the call may cost; None where no price is known."""
        bound = self.tariff.bound
        if bound is None:
            return None
        return bound.cost(input_tokens, output_tokens * self.request.choices, self._beside)

    def output_for(self, amount: Picodollars, input_tokens: int) -> int | None:
        """Return the tokens for each choice that `amount` pays for; None if not even the input."""
        if self.bound is None:
            return None
        tokens = self.bound.output_for(amount, input_tokens, self._beside)
        return None if tokens is None else tokens // self.request.choices

    def worst_case(self) -> tuple[Picodollars | None, Usage]:
        """Return the worst case of the request as it stands, and what is known of its usage.

        The most that any model takes or gives bounds the cost, but counts as no token.
        """
        cap, limits = self.request.output_cap, self.tariff.limits
        output = self.largest_output if cap is None else cap
        known = self.quick_input if self._request_bound is not None else self.counted_input or 0
        is_known = (
            output != LARGEST_OUTPUT or cap is not None or (limits and limits.max_output_tokens)
        )
        usage = self.usage(known, output if is_known else 0)
        return self.worst(self.quick_input, output), usage

    def usage(self, input_tokens: int, output_tokens: int) -> Usage:
        """Return the usage of the worst case; no tokens where something else is billed."""
        bound = self.bound
        if bound is not None and bound.input is None and bound.output is None:
            return self._beside or Usage()
        usage = Usage(input_tokens, output_tokens * self.request.choices)
        return usage if self._beside is None else usage + self._beside

    def counted(self, reading: Reading) -> Usage:
        """Return what can be counted of a call whose usage nobody reported in full."""
        said = reading.usage or Usage()
        sent, made = said.input_tokens, said.output_tokens
        if reading.usage is None:
            sent = self.counted_input or 0
        if reading.text:
            made = max(made, int(count_output(reading.text, self.request.model)))
        return replace(said, input_tokens=sent, output_tokens=made)

    @once
    def counted_input(self) -> int | None:
        """The tokens that were sent, as near as they can be counted here; None for a recording."""
        request, body = self.request, self.request.body
        tools = given(body, "tools")
        with guard("count a prompt"):
            if isinstance(messages := given(body, "messages"), list):
                if (system := given(body, "system")) is not None:
                    messages = [{"role": "system", "content": system}, *messages]
                return int(count_message_tokens(messages, request.model, tools=tools))
            if (sent := given(body, "input") or given(body, "prompt")) is not None:
                instructions = given(body, "instructions")
                return int(count_input_tokens(sent, request.model, instructions, tools))
        return None

    @property
    def _spoken(self) -> int | None:
        """The characters that are to be spoken; None for any other request."""
        text = given(self.request.body, "input") if self.request.operation == "speech" else None
        return len(text) if isinstance(text, str) else None

    @once
    def _beside(self) -> Usage | None:
        """What the call may use beside tokens: the tools it declares, and units of other kinds."""
        if not self.request.tool_uses and self.request.operation in _BY_TOKENS:
            return None
        counts = {
            name: ASSUMED_TOOL_USES if uses is None else uses
            for name, uses in self.request.tool_uses.items()
        }
        body, operation = self.request.body, self.request.operation
        if operation == "images":
            counts["images"] = self.request.choices
        elif self._spoken is not None:
            counts["characters"] = self._spoken
        elif operation == "videos":
            counts["seconds"] = int(str(given(body, "seconds") or 4))
        elif operation in ("transcriptions", "translations"):
            counts["seconds"] = -(-self.upload_bytes // LEAST_BYTES_PER_SECOND)
        return Usage(**counts) if counts else None


def _hurried(client: Any) -> Any:
    """Return the client as one that asks once and does not wait for long."""
    return client.with_options(timeout=ASK_WITHIN_S, max_retries=0)

"""`estimate`: what a call will cost, before it is made: at most, and going by what others did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Any

from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.accounting.terms import checked_id
from costtrace.api.asking import ANTHROPIC, arguments, provider_of
from costtrace.api.prompts import conversation
from costtrace.api.tracking import checked_ledger
from costtrace.entry import CostEntry
from costtrace.instrumentation.estimate import Estimate as WorstCase
from costtrace.money import Picodollars, format_usd, to_usd
from costtrace.pricing import Price, PriceTable, cost
from costtrace.providers import PROVIDERS, Request
from costtrace.scopes import current
from costtrace.stores.base import Query
from costtrace.tokens import (
    TokenCount,
    acount_message_tokens,
    aexact,
    count_message_tokens,
    exact,
)
from costtrace.usage import Usage

HISTORY_CALLS = 1_000
"""The latest calls that an expectation rests on."""
HISTORY_READ = 20_000
"""The latest entries that are looked at for them."""
_PATHS = {ANTHROPIC: "/v1/messages", "openai": "/chat/completions"}
_PLACES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one call will cost; `str()` says it in one line. Amounts are US dollars."""

    model: str
    input_tokens: TokenCount
    """What the messages and tools come to; `.exact` and `.method` say how it was counted."""
    max_tokens: int
    """The output tokens that the worst case allows: the limit given, else the model's own."""
    worst_usd: Decimal | None
    """No attempt of the call can cost more; None where no price is known, or nothing bounds it."""
    expected_usd: Decimal | None = None
    """What it costs if it does as the calls before it did; None without such calls."""
    based_on_calls: int = 0
    """How many calls in the ledger the expectation rests on."""
    function_name: str | None = None
    """The function that made them; None for all calls of the model."""
    mean_output_tokens: float | None = None
    """Their mean output, each cut at `max_tokens`."""
    cached_share: float | None = None
    """The share of their input that was read from a cache, 0 to 1."""

    def __str__(self) -> str:
        about = "" if self.input_tokens.exact else "about "
        parts = [f"{self.model}: {about}{int(self.input_tokens):,} input tokens"]
        if self.worst_usd is None:
            parts.append("of unknown cost")
        else:
            most = format_usd(self.worst_usd, _PLACES)
            parts.append(f"at most {most} with {self.max_tokens:,} output tokens")
        if self.expected_usd is not None:
            calls = "call" if self.based_on_calls == 1 else f"{self.based_on_calls:,} calls"
            whose = "" if self.function_name is None else f" of {self.function_name!r}"
            expected = format_usd(self.expected_usd, _PLACES)
            parts.append(f"{expected} expected, going by its latest {calls}{whose}")
        return ", ".join(parts)


def estimate(
    model: str,
    messages: object,
    max_tokens: int | None = None,
    *,
    tools: Iterable[Any] | None = None,
    ledger: CostLedger | None = None,
    function_name: str | None = None,
    client: object = None,
) -> Estimate:
    """Return what asking `model` will cost: at most, and as expected from earlier calls.

    `messages` is a text or a list of messages. The worst case is what a budget would reserve for
    one attempt: every token at its dearest, and all of `max_tokens` generated (the model's own
    limit without it). The expected cost takes the mean output and the cached share of the latest
    1,000 answered calls of this model in the ledger (`ledger`, else `costtrace.ledger`), made by
    `function_name`, else by the tracked function around, else by any. With a `client` the
    provider's own count endpoint is asked, for Claude; nothing is sent without one.

    Raises `TypeError` or `ValueError` for wrong arguments, and the SDK's errors when it is asked.
    """
    planned = _Planned.of(model, messages, max_tokens, tools, ledger, function_name)
    counted = count_message_tokens(planned.messages, model, tools=planned.tools, client=client)
    asked = exact(*planned.request, client=client) if planned.can_be_asked(client) else None
    return planned.estimate(counted, asked)


async def aestimate(
    model: str,
    messages: object,
    max_tokens: int | None = None,
    *,
    tools: Iterable[Any] | None = None,
    ledger: CostLedger | None = None,
    function_name: str | None = None,
    client: object = None,
) -> Estimate:
    """As `estimate`, with an async client."""
    planned = _Planned.of(model, messages, max_tokens, tools, ledger, function_name)
    counted = await acount_message_tokens(
        planned.messages, model, tools=planned.tools, client=client
    )
    asked = await aexact(*planned.request, client=client) if planned.can_be_asked(client) else None
    return planned.estimate(counted, asked)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A call that somebody thinks of making."""

    messages: list[Any]
    tools: list[Any] | None
    ledger: CostLedger
    function_name: str | None
    model: str
    max_tokens: int | None
    worst: WorstCase

    @classmethod
    def of(
        cls,
        model: str,
        messages: object,
        max_tokens: int | None,
        tools: Iterable[Any] | None,
        ledger: CostLedger | None,
        function_name: str | None,
    ) -> _Planned:
        """Return it, or raise for what is wrong with it."""
        checked_id("model", model)
        _check_cap(max_tokens)
        home = checked_ledger(ledger) or default_ledger()
        wanted = conversation(messages)
        listed = None if tools is None else list(tools)
        options: dict[str, Any] = {} if listed is None else {"tools": listed}
        if max_tokens is not None:
            options["max_tokens"] = max_tokens
        if function_name is None and (scope := current()) is not None and scope.call_path:
            function_name = scope.function_name
        worst = _worst_case(home, model, wanted, options)
        return cls(wanted, listed, home, function_name, model, max_tokens, worst)

    @property
    def request(self) -> tuple[Mapping[str, Any], str, str]:
        """What a provider would be asked to count."""
        request = self.worst.request
        return request.body, request.operation, request.provider

    def can_be_asked(self, client: object) -> bool:
        """Whether a count of the provider's would bound the input."""
        return client is not None and not self.worst.request.has_hosted_tools

    def estimate(self, counted: TokenCount, asked: int | None) -> Estimate:
        """Return what it will cost, by the input as counted and as the provider bounds it."""
        worst, largest = self.worst, self.worst.largest_output
        most = largest if self.max_tokens is None else min(self.max_tokens, largest)
        bounds = [*worst.inputs(), *([] if asked is None else [int(asked)])]
        found = Estimate(
            model=self.model,
            input_tokens=counted,
            max_tokens=most,
            worst_usd=_usd(worst.worst(min(bounds), most)),
        )
        return _with_history(found, self.ledger, self.function_name)


def _check_cap(max_tokens: object) -> None:
    if max_tokens is None:
        return
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
        raise TypeError(f"max_tokens must be an int, not {max_tokens!r}")
    if max_tokens < 0:
        raise ValueError(f"max_tokens must not be negative, but is {max_tokens}")


def _worst_case(
    ledger: CostLedger, model: str, messages: list[Any], options: Mapping[str, Any]
) -> WorstCase:
    provider_name = provider_of(model, ledger.prices)
    body = arguments(provider_name, model, messages, options, default_max_tokens=None)
    provider = next(one for one in PROVIDERS if one.name == provider_name)
    request = provider.request(_PATHS[provider_name], body)
    assert isinstance(request, Request)  # these paths are billed
    return WorstCase(request, ledger.prices, ledger.now())


def _with_history(found: Estimate, ledger: CostLedger, function_name: str | None) -> Estimate:
    """Add what the latest calls of the function say of this one."""
    entries = list(_history(found.model, ledger, function_name))
    price = _price(found, ledger.prices, ledger)
    if not entries or price is None:
        return found
    calls = len(entries)
    sent = sum(entry.usage.input_tokens for entry in entries)
    read = sum(entry.usage.cache_read_tokens for entry in entries)
    made = sum(min(entry.usage.output_tokens, found.max_tokens) for entry in entries)
    expected = _expected(found, entries, price, (sent, read, made))
    if expected is None:
        return found
    usd = to_usd(expected)
    return replace(
        found,
        expected_usd=usd if found.worst_usd is None else min(usd, found.worst_usd),
        based_on_calls=calls,
        function_name=function_name,
        mean_output_tokens=made / calls,
        cached_share=read / sent if sent else 0.0,
    )


def _history(model: str, ledger: CostLedger, function_name: str | None) -> Iterable[CostEntry]:
    """Yield the latest calls of this model by this function that were answered in full."""
    meant = ledger.prices.resolve(model)
    names = {model} if meant is None else {model, meant.model}
    latest = ledger.store.entries(Query(function_name=function_name), newest_first=True)

    def is_alike(entry: CostEntry) -> bool:
        if entry.status != "ok" or entry.adjusts is not None or entry.grade == "assumed":
            return False
        if entry.request_model in names or entry.model in names:
            return True
        served = ledger.prices.resolve(entry.model)
        return served is not None and served.model in names

    return islice(filter(is_alike, islice(latest, HISTORY_READ)), HISTORY_CALLS)


def _expected(
    found: Estimate, entries: list[CostEntry], price: Price, sums: tuple[int, int, int]
) -> Picodollars | None:
    """Return the cost of the mean call with this input, its fees for tools included."""
    sent, read, made = sums
    written = sum(entry.usage.cache_write_tokens for entry in entries)
    tokens = int(found.input_tokens)
    mean = Usage(
        input_tokens=tokens,
        output_tokens=round(made / len(entries)),
        cache_read_tokens=tokens * read // sent if sent else 0,
        cache_write_tokens=tokens * written // sent if sent else 0,
    )
    fees = Usage(
        web_search_calls=sum(entry.usage.web_search_calls for entry in entries),
        file_search_calls=sum(entry.usage.file_search_calls for entry in entries),
    )
    each, together = cost(mean, price), cost(fees, price)
    return None if each is None or together is None else each + together // len(entries)


def _price(found: Estimate, prices: PriceTable, ledger: CostLedger) -> Price | None:
    return prices.price(found.model, ledger.now(), input_tokens=int(found.input_tokens))


def _usd(amount: Picodollars | None) -> Decimal | None:
    return None if amount is None else to_usd(amount)

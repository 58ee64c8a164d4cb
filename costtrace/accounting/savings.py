"""What would have cost less: one function for each way, from the calls of one function and model.

Every one of them yields nothing where the recorded usage does not show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil

from costtrace.accounting.histories import History, PastCall, soon_after
from costtrace.accounting.siblings import siblings
from costtrace.instant import US_PER_SECOND
from costtrace.money import Picodollars, format_usd, to_usd
from costtrace.pricing import Model, Price, PriceTable, cost
from costtrace.usage import Usage

FEWEST_CALLS = 10
"""Fewer calls show no habit."""
FEWEST_FOR_PERCENTILE = 100
"""Among fewer calls the 99th percentile is the largest one."""
SMALLEST_CACHED = {"anthropic": 4096, "openai": 1024}
"""Input tokens from which on prompts are cached: Claude's models differ, all do from 4,096 on."""
CACHE_LIFETIME_US = 300 * US_PER_SECOND
"""How long both providers keep a prompt that is not asked for again, at least."""
CONVERSATION_GAP_US = 1_800 * US_PER_SECOND
"""Calls further apart than this are not taken for one conversation."""
SHORTEST_CONVERSATION = 5
KEPT_CALLS = 3
"""The size of history to compare with: what the third call of a conversation sent."""
LEAST_CHEAPER = 10
"""Another model is named where it saves at least one part in ten."""
HOW_TO_CACHE = {
    "anthropic": "mark what stays the same with cache_control",
    "openai": "put what stays the same at the beginning of the prompt, and what changes last",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What one way would have saved, in picodollars; None where it saves no money itself."""

    pico: Picodollars | None
    text: str
    how: str
    freed_pico: Picodollars | None = None
    alternative: str | None = None


def by_caching(history: History, prices: PriceTable, now: datetime) -> Iterator[Saving]:
    """Large prompts, again and again within minutes, of which none was read from a cache."""
    smallest = SMALLEST_CACHED.get(history.provider)
    price = history.price(prices, now)
    if smallest is None or price is None:
        return
    if any(call.usage.cache_read_tokens for call in history.calls):
        return
    large = [call for call in history.calls if call.usage.input_tokens >= smallest]
    shared = min((call.usage.input_tokens for call in large), default=0)
    plain = cost(Usage(shared), price)
    read = cost(Usage(shared, cache_read_tokens=shared), price)
    written = cost(Usage(shared, cache_write_tokens=shared), price)
    if len(large) < FEWEST_CALLS or plain is None or read is None or written is None:
        return
    reads = soon_after(large, CACHE_LIFETIME_US)
    writes = len(large) - reads
    saved = reads * (plain - read) - writes * (written - plain)
    if saved <= 0:
        return
    yield Saving(
        pico=saved,
        text=f"prompt caching saves up to {_usd(saved)} of {_usd(history.cost_pico)}: "
        f"{HOW_TO_CACHE[history.provider]}",
        how=f"{reads:,} of {len(large):,} calls with {smallest:,} input tokens or more came within "
        f"5 minutes of the one before, and none read from a cache. No more than {shared:,} tokens, "
        f"the smallest of these inputs, can be the same in all of them: read {_times(reads)} at "
        f"{_usd(read)} instead of {_usd(plain)}, and written {_times(writes)} at {_usd(written)}. "
        "The less of it is the same, the less is saved.",
    )


def by_batch(history: History, prices: PriceTable, now: datetime) -> Iterator[Saving]:
    """Calls that were not streamed, so that maybe nobody was waiting for them."""
    batch = history.price(prices, now, tier="batch")
    calls = [call for call in history.calls if not call.is_streamed]
    if history.tier != "standard" or batch is None or len(calls) < FEWEST_CALLS:
        return
    spent = sum(call.cost_pico for call in calls)
    repriced = _repriced(calls, batch)
    if repriced is None or repriced >= spent:
        return
    yield Saving(
        pico=spent - repriced,
        text=f"a batch saves up to {_usd(spent - repriced)} of {_usd(spent)}, if nobody waits for "
        "the answers: they may take up to 24 hours",
        how=f"{len(calls):,} calls that were not streamed, with the tokens they had, at today's "
        f"batch prices: {_usd(repriced)}.",
    )


def by_other_models(history: History, prices: PriceTable, now: datetime) -> Iterator[Saving]:
    """The same tokens at cheaper models of the same generation: the nearest and the cheapest."""
    if len(history.calls) < FEWEST_CALLS:
        return
    spent = history.cost_pico
    found: list[tuple[Picodollars, Model]] = []
    for model in siblings(
        prices,
        history.model,
        now,
        most_input=max(call.usage.input_tokens for call in history.calls),
        most_output=max(call.usage.output_tokens for call in history.calls),
    ):
        price = history.price(prices, now, model=model.id)
        repriced = None if price is None else _repriced(history.calls, price)
        if repriced is not None and (spent - repriced) * LEAST_CHEAPER >= spent > 0:
            found.append((repriced, model))
    if not found:
        return
    found.sort(key=lambda one: one[1].released, reverse=True)  # the newest of equally dear ones
    cheapest, nearest = min(found, key=_cost_of), max(found, key=_cost_of)
    yield _other_model(history, cheapest, spent)
    if nearest is not cheapest:
        yield _other_model(history, nearest, spent)


def by_shorter_history(history: History, prices: PriceTable, now: datetime) -> Iterator[Saving]:
    """Conversations that send all of what was said before, again with every call."""
    price = history.price(prices, now)
    grown = [
        chain for chain in _conversations(history.calls) if len(chain) >= SHORTEST_CONVERSATION
    ]
    calls = [call for chain in grown for call in chain]
    if price is None or 2 * len(calls) < len(history.calls) or len(calls) < FEWEST_CALLS:
        return
    saved = 0
    for chain in grown:
        kept = chain[KEPT_CALLS - 1].usage.input_tokens
        for call in chain[KEPT_CALLS:]:
            before, after = cost(call.usage, price), cost(_shortened(call.usage, kept), price)
            if before is None or after is None:
                return
            saved += before - after
    if saved <= 0:
        return
    start = sum(chain[0].usage.input_tokens for chain in grown) // len(grown)
    end = sum(chain[-1].usage.input_tokens for chain in grown) // len(grown)
    yield Saving(
        pico=saved,
        text=f"a shorter history saves up to {_usd(saved)} of {_usd(history.cost_pico)}: keep the "
        "latest turns with trim_messages(), if the answers need no more",
        how=f"In {len(grown):,} {'conversation' if len(grown) == 1 else 'conversations'} of "
        f"{SHORTEST_CONVERSATION} calls or more, each call sent at least what the one before had "
        f"sent and received: {start:,} input tokens in the first call on average, {end:,} in the "
        f"last. Kept at the size of the third call, at today's prices, and counting cached tokens "
        "as the first to go.",
    )


def by_max_tokens(history: History, prices: PriceTable, now: datetime) -> Iterator[Saving]:
    """Reservations far above what the calls cost: budgets refuse more than they have to."""
    held = [call for call in history.calls if call.reserved_pico is not None]
    bound = prices.bound(
        history.model,
        now,
        provider=history.provider,
        tier=history.tier,
        region=history.region,
        operation=history.operation,
        cache_lifetimes=(),
        modalities=(),
    )
    if bound is None or len(held) < FEWEST_FOR_PERCENTILE:
        return
    most = percentile([call.usage.output_tokens for call in held], 99)
    reserved = sum(call.reserved_pico or 0 for call in held)
    spent = sum(call.cost_pico for call in held)
    needed = sum(bound.cost(call.usage.input_tokens, most) or 0 for call in held)
    if reserved < 2 * spent or reserved < 2 * needed:
        return
    yield Saving(
        pico=None,
        freed_pico=reserved - needed,
        text=f"max_tokens={most:,} frees up to {_usd((reserved - needed) // len(held))} of the "
        f"{_usd(reserved // len(held))} that each call reserves, while it costs "
        f"{_usd(spent // len(held))}: more calls fit into a budget at the same time",
        how=f"99% of {len(held):,} calls generated {most:,} tokens or fewer, reasoning included. "
        f"Their input and {most:,} tokens of output come to {_usd(needed // len(held))} a call; "
        "what is reserved for retries and for a prompt's largest size stays.",
    )


def percentile(counts: list[int], percent: int) -> int:
    """Return the least of the counts that so many percent of them do not exceed."""
    return sorted(counts)[max(0, ceil(len(counts) * percent / 100) - 1)]


def _other_model(history: History, other: tuple[Picodollars, Model], spent: Picodollars) -> Saving:
    repriced, model = other
    until = f" (served until {model.shutdown})" if model.shutdown else ""
    return Saving(
        pico=spent - repriced,
        alternative=model.id,
        text=f"{model.id}{until} saves {_usd(spent - repriced)} of {_usd(spent)}, if its answers "
        f'are good enough: compare_models(["{history.model}", "{model.id}"], ...) tells',
        how=f"The same tokens of {len(history.calls):,} calls at today's prices of {model.id}: "
        f"{_usd(repriced)}. Another model may need more or fewer of them.",
    )


def _repriced(calls: list[PastCall], price: Price) -> Picodollars | None:
    total = 0
    for call in calls:
        amount = cost(call.usage, price)
        if amount is None:
            return None
        total += amount
    return total


def _conversations(calls: list[PastCall]) -> Iterator[list[PastCall]]:
    """Yield runs of one user's calls in which each sent what the one before sent and received."""
    by_user: dict[str, list[PastCall]] = {}
    for call in calls:
        by_user.setdefault(call.user_id, []).append(call)
    for own in by_user.values():
        chain = own[:1]
        for call in own[1:]:
            if not _continues(call, chain[-1]):
                yield chain
                chain = []
            chain.append(call)
        yield chain


def _continues(call: PastCall, before: PastCall) -> bool:
    said = before.usage.output_tokens - before.usage.reasoning_tokens
    return (
        said > 0
        and call.us - before.us <= CONVERSATION_GAP_US
        and call.usage.input_tokens >= before.usage.input_tokens + said
    )


def _shortened(usage: Usage, kept: int) -> Usage:
    """Return the usage with that much input; what was read from a cache goes first."""
    gone = max(0, usage.input_tokens - kept)
    read = max(0, usage.cache_read_tokens - gone)
    written = min(usage.cache_write_tokens, kept - read)
    is_whole = written == usage.cache_write_tokens
    return replace(
        usage,
        input_tokens=usage.input_tokens - gone,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=usage.cache_write_5m_tokens if is_whole else written,
        cache_write_1h_tokens=usage.cache_write_1h_tokens if is_whole else 0,
        cache_write_30m_tokens=usage.cache_write_30m_tokens if is_whole else 0,
        cache_write_12h_tokens=usage.cache_write_12h_tokens if is_whole else 0,
    )


def _cost_of(pair: tuple[Picodollars, Model]) -> Picodollars:
    return pair[0]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _usd(amount: Picodollars) -> str:
    return format_usd(to_usd(amount))

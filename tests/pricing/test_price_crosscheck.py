"""Thousands of generated calls priced by two independent calculators as well.

Every disagreement is explained by a rule below, which says what the other one does and computes its
number; one that no rule explains fails, and so does a rule that explains nothing any more.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from itertools import combinations
from types import ModuleType
from typing import NamedTuple

import pytest

from costtrace.pricing import Price, PriceTable, cost
from costtrace.usage import Usage

TABLE = PriceTable.bundled()
AT = datetime(2026, 11, 21, tzinfo=timezone.utc)
KINDS = ("chat", "responses", "messages", "completion", "embedding")
TIERS = ("standard", "flex", "priority", "batch", "fast")
EACH = 15
EDGES = (5_000, 99_999, 100_001, 199_999, 200_001, 272_000, 272_001, 900_000)


class Call(NamedTuple):
    model: str
    provider: str
    tier: str
    usage: Usage
    price: Price


class Rule(NamedTuple):
    """How another calculator differs: the call that it prices instead, where the rule applies."""

    why: str
    applies: Callable[[Call], bool]
    instead: Callable[[Call], Call]


def generated_calls() -> Iterator[Call]:
    """Calls of every token-priced model in every tier, on both sides of each threshold."""
    chance = random.Random(20261121)
    for model in TABLE.models():
        found = TABLE.find(model)
        if found is None or found.kind not in KINDS:
            continue
        listed = {row.tier for period in found.periods for row in period.rows}
        for tier in (tier for tier in TIERS if tier in listed):
            for _ in range(EACH):
                usage = generated_usage(chance, found.provider, found.kind)
                price = TABLE.price(model, AT, tier=tier, input_tokens=usage.input_tokens)
                if price is not None:
                    yield Call(model, found.provider, tier, usage, price)


def generated_usage(chance: random.Random, provider: str, kind: str) -> Usage:
    total = left = chance.randint(1, chance.choice(EDGES))
    if kind == "embedding":
        return Usage(input_tokens=total)
    parts = {"cached": 0, "short": 0, "long": 0}
    for part in chance.sample(list(parts), chance.randint(0, 3)):
        parts[part] = chance.randint(0, left)
        left -= parts[part]
    short, long = ("5m", "1h") if provider == "anthropic" else ("30m", "12h")
    return Usage(
        input_tokens=total,
        output_tokens=chance.randint(0, 20_000),
        cache_read_tokens=parts["cached"],
        cache_write_tokens=parts["short"] + parts["long"],
        **{
            f"cache_write_{short}_tokens": parts["short"],
            f"cache_write_{long}_tokens": parts["long"],
        },
    )


def with_rates(call: Call, **rates: object) -> Call:
    """The call at a price that differs in some lines, in USD per million tokens."""
    new = {part: (int(Decimal(str(usd)).scaleb(12)), 10**6) for part, usd in rates.items()}
    short, long = call.price.short, call.price.long
    return call._replace(
        price=replace(
            call.price,
            short={**(short or {}), **new},
            long=None if long is None else {**long, **new},
        )
    )


def with_line(call: Call, part: str, other: str) -> Call:
    """The call at a price that charges one line like another."""
    changed = [
        None if rates is None else {**rates, part: rates[other]}
        for rates in (call.price.short, call.price.long)
    ]
    return call._replace(price=replace(call.price, short=changed[0], long=changed[1]))


def priced_as(call: Call, model: str, tier: str, at: datetime = AT) -> Call:
    price = TABLE.price(model, at, tier=tier)
    assert price is not None
    return call._replace(price=price)


def lists(model: str, tier: str, part: str) -> bool:
    found = TABLE.find(model)
    assert found is not None
    rows = [row for period in found.periods for row in period.rows if row.tier == tier]
    return any(part in row.prices for row in rows)


def explained(call: Call, theirs: Decimal, rules: tuple[Rule, ...]) -> tuple[Rule, ...] | None:
    """Return the fewest rules that lead to their number, `()` for agreement, None for none."""
    applicable = [rule for rule in rules if rule.applies(call)]
    for count in range(len(applicable) + 1):
        for chosen in combinations(applicable, count):
            changed = call
            for rule in chosen:
                changed = rule.instead(changed)
            picodollars = cost(changed.usage, changed.price)
            assert picodollars is not None
            ours = Decimal(picodollars).scaleb(-12)
            if abs(ours - theirs) <= max(ours, Decimal(1)) * Decimal("1e-9"):  # theirs: a float
                return chosen
    return None


def check(priced: Callable[[Call], Decimal | None], rules: tuple[Rule, ...]) -> Counter[str]:
    seen: Counter[str] = Counter()
    unexplained = []
    for call in generated_calls():
        theirs = priced(call)
        if theirs is None:
            seen["not carried"] += 1
            continue
        chosen = explained(call, theirs, rules)
        if chosen is None:
            unexplained.append((call.model, call.tier, theirs, call.usage))
        for why in [rule.why for rule in chosen or ()] or ["same"]:
            seen[why] += 1
    models = Counter(each[:2] for each in unexplained)
    assert not unexplained, (models, unexplained[0])
    assert not [rule.why for rule in rules if not seen[rule.why]], "a rule explains nothing"
    return seen


def other(name: str, version: str) -> ModuleType:
    """Import another calculator with the data it bundles, or skip."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(name, reason=f"{name} is not installed: nothing to compare")
    installed = importlib.metadata.version(name.replace("_", "-"))
    if installed != version:
        pytest.skip(f"the rules describe {name} {version}, but {installed} is installed")
    return module


NO_TIERS_LEFT = frozenset(
    {
        *("gpt-5.2-chat-latest", "gpt-5.2-codex", "gpt-5.1-chat-latest", "gpt-5.1-codex"),
        *("gpt-5.1-codex-max", "gpt-5-chat-latest", "gpt-5-codex"),
    }
)
LITELLM_RULES = (
    Rule(
        "the preview has the price of the later Mythos 5",
        lambda call: call.model == "claude-mythos-preview",
        lambda call: priced_as(call, "claude-mythos-5", call.tier),
    ),
    Rule(
        "no tier rows for retired models: standard is charged",
        lambda call: call.model in NO_TIERS_LEFT and call.tier in ("flex", "priority"),
        lambda call: priced_as(call, call.model, "standard"),
    ),
    Rule(
        "one-hour cache writes in a batch are charged as five-minute ones",
        lambda call: call.provider == "anthropic" and call.tier == "batch",
        lambda call: with_line(call, "cache_write_1h", "cache_write_5m"),
    ),
    Rule(
        "no 12-hour price on early GPT-5.6 models: the 30-minute price is charged",
        lambda call: call.model in ("gpt-5.6-cyber", "gpt-daybreak-blue-latest"),
        lambda call: with_line(call, "cache_write_12h", "cache_write_30m"),
    ),
    Rule(
        "cached tokens in a batch are free where no cached price is known at all",
        lambda call: call.tier == "batch" and not lists(call.model, "standard", "cached_input"),
        lambda call: with_rates(call, cached_input=0),
    ),
    Rule(
        "cached tokens in a batch of a research model cost half of the cached price",
        lambda call: call.tier == "batch" and "deep-research" in call.model,
        lambda call: with_rates(call, cached_input=TABLE.price(call.model, AT).cached_input / 2),
    ),
    Rule(
        "the cached price of this fine-tuned model stands in the field for writes",
        lambda call: call.model == "ft:gpt-4o-2024-11-20",
        lambda call: with_rates(call, cache_write_30m="1.875", cache_write_12h="1.875"),
    ),
)
GENAI_RULES = (
    Rule(
        "no batch price for models that were retired before batch was modelled",
        lambda call: call.tier == "batch",
        lambda call: priced_as(call, call.model, "standard"),
    ),
    Rule(
        "12-hour cache writes are charged as 30-minute ones",
        lambda call: call.provider == "openai" and call.usage.cache_write_12h_tokens > 0,
        lambda call: with_line(call, "cache_write_12h", "cache_write_30m"),
    ),
    Rule(
        "cached tokens at the full price for fine-tuned and search models",
        lambda call: call.model.startswith("ft:") or "search-preview" in call.model,
        lambda call: with_line(call, "cached_input", "input"),
    ),
    Rule(
        "no fast price for Opus 4.6: standard is charged",
        lambda call: (call.model, call.tier) == ("claude-opus-4-6", "fast"),
        lambda call: priced_as(call, call.model, "standard"),
    ),
    Rule(
        "cached tokens in a batch cost the standard cached price where batch has none",
        lambda call: call.tier == "batch" and not lists(call.model, "batch", "cached_input"),
        lambda call: with_rates(call, cached_input=TABLE.price(call.model, AT).cached_input),
    ),
    Rule(
        "Sonnet 4.5 keeps its long context after the end of the beta",
        lambda call: call.model == "claude-sonnet-4-5" and call.tier in ("standard", "batch"),
        lambda call: priced_as(
            call, call.model, call.tier, datetime(2026, 4, 1, tzinfo=timezone.utc)
        ),
    ),
    Rule(
        "no long context for gpt-5.6-cyber, and for gpt-5.5-pro in a batch",
        lambda call: call.model in ("gpt-5.6-cyber", "gpt-5.5-pro"),
        lambda call: call._replace(price=replace(call.price, long=call.price.short)),
    ),
)


def test_litellm_agrees_or_differs_for_a_known_reason():
    """litellm 1.109.1, with its bundled map: floats, no history, retired models removed."""
    other("litellm", "1.109.1")
    utils = importlib.import_module("litellm.litellm_core_utils.llm_cost_calc.utils")
    calculator = importlib.import_module("litellm.cost_calculator")
    types = importlib.import_module("litellm.types.utils")

    def priced(call: Call) -> Decimal | None:
        usage = call.usage
        details = types.PromptTokensDetailsWrapper(
            cached_tokens=usage.cache_read_tokens,
            cache_creation_tokens=usage.cache_write_tokens,
            cache_creation_token_details=types.CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=usage.cache_write_5m_tokens,
                ephemeral_1h_input_tokens=usage.cache_write_1h_tokens,
                ephemeral_30m_input_tokens=usage.cache_write_30m_tokens,
                ephemeral_12h_input_tokens=usage.cache_write_12h_tokens,
            ),
        )
        theirs = types.Usage(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=details,
        )
        if call.tier == "fast":
            return None  # needs the provider's own calculator and its response
        try:
            if call.tier == "batch":
                usd = sum(calculator.batch_cost_calculator(theirs, call.model, call.provider))
            else:
                tier = None if call.tier == "standard" else call.tier
                usd = sum(utils.generic_cost_per_token(call.model, theirs, call.provider, tier))
        except Exception:  # it raises whatever it meets for a model it does not know
            return None
        return Decimal(repr(usd)) if usd else None  # what it does not carry, it reports as free

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = check(priced, LITELLM_RULES)

    assert seen["same"] > 2500, seen


def test_genai_prices_agrees_or_differs_for_a_known_reason():
    """genai-prices 0.2.3, with its bundled data: decimals, dated, tiers since October 2026."""
    genai = other("genai_prices", "0.2.3")

    def priced(call: Call) -> Decimal | None:
        usage = call.usage
        context = {
            "standard": {"service_tier": "default"} if call.provider == "openai" else {},
            "batch": {"processing": "batch"},
            "fast": {"speed": "fast"},
        }.get(call.tier, {"service_tier": call.tier})
        known = {"cache_write_1h_tokens": usage.cache_write_1h_tokens}
        try:
            calculated = genai.calc_price(
                genai.Usage(
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    cache_read_tokens=usage.cache_read_tokens,
                    cache_write_tokens=usage.cache_write_tokens,
                    **(known if call.provider == "anthropic" else {}),
                ),
                call.model,
                provider_id=call.provider,
                genai_request_timestamp=AT,
                price_context=context,
            )
        except LookupError:
            return None
        return Decimal(calculated.total_price)

    seen = check(priced, GENAI_RULES)

    assert seen["same"] > 2500, seen

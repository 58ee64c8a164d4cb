"""The most a call can cost, said before it is made: never too little, and exactly invertible."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from costtrace.pricing import UNLIMITED, PriceTable, cost, tiers_that_may_serve
from costtrace.usage import Usage

MANY = int(os.environ.get("COSTTRACE_TEST_BOUNDS", "500"))
BUNDLED = PriceTable.bundled()
TABLE = BUNDLED.with_prices(
    {
        "acme-odd": {"input": "1.3333333", "output": "2.7777777", "cached_input": "1.9999999"},
        "acme-writes": {"input": 1, "output": 2, "cache_write_1h": 5, "cache_write_30m": "0.7"},
        "acme-media": {"input": 1, "output": 2, "audio_input": 9, "image_output": 40},
    }
)
TIERS = (
    *("auto", "standard", "flex", "priority", "batch", "ultrafast", "fast"),
    *("background_2h", "background_8h"),
)
REGIONS = ("", "us", "eu", "bedrock:us-gov", "bedrock:", "vertex:")
models = st.sampled_from(TABLE.models())
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 6, 1), timezones=st.just(timezone.utc))
tokens = st.integers(0, 3_000_000) | st.integers(99_990, 100_010) | st.integers(271_990, 272_010)


def worst_cost(model, n, m, at, *, beside=None, **request):
    """Return the bound of a call's cost; None where the model, or a part of it, has no price."""
    bound = TABLE.bound(model, at, **request)
    return None if bound is None else bound.cost(n, m, beside)


def affordable_output(model, n, amount, at, *, beside=None, **request):
    """Return the most output tokens for which `worst_cost` stays within the amount."""
    bound = TABLE.bound(model, at, **request)
    return None if bound is None else bound.output_for(amount, n, beside)


@st.composite
def consistent_usage(draw, input_tokens: int, output_tokens: int) -> Usage:
    """Usage within the bounds whose parts do not exceed its totals."""
    total = draw(st.integers(0, input_tokens) | st.just(input_tokens))
    left = total
    parts = {}
    for name in (
        *("cache_write_5m_tokens", "cache_write_1h_tokens", "cache_write_30m_tokens"),
        *("cache_write_12h_tokens", "undated", "text_cached", "audio_cache_read_tokens"),
        *("image_cache_read_tokens", "audio", "image"),
    ):
        parts[name] = draw(st.just(0) | st.integers(0, left) | st.just(left))
        left -= parts[name]
    made = draw(st.integers(0, output_tokens) | st.just(output_tokens))
    audio = draw(st.just(0) | st.integers(0, made))
    undated, text_cached = parts.pop("undated"), parts.pop("text_cached")
    heard, seen = parts.pop("audio"), parts.pop("image")
    return Usage(
        input_tokens=total,
        output_tokens=made,
        cache_write_tokens=undated + sum(v for k, v in parts.items() if "write" in k),
        cache_read_tokens=text_cached
        + parts["audio_cache_read_tokens"]
        + parts["image_cache_read_tokens"],
        audio_input_tokens=heard + parts["audio_cache_read_tokens"],
        image_input_tokens=seen + parts["image_cache_read_tokens"],
        audio_output_tokens=audio,
        image_output_tokens=draw(st.just(0) | st.integers(0, made - audio)),
        **parts,
    )


@settings(max_examples=MANY)
@given(st.data(), models, st.sampled_from(TIERS), st.sampled_from(REGIONS), moments, tokens, tokens)
def test_no_call_within_its_bound_costs_more(data, model, tier, region, at, n, m):
    """Any usage, in any tier that may serve the request, of any model, at any time and place."""
    worst = worst_cost(model, n, m, at, tier=tier, region=region)
    usage = data.draw(consistent_usage(n, m))
    for served in tiers_that_may_serve(tier):
        actual = cost(usage, TABLE.price(model, at, tier=served, region=region))
        assert worst is None or actual is None or actual <= worst


@settings(max_examples=MANY // 2)
@given(st.data(), models, moments, tokens, tokens, st.sampled_from(["5m", "1h", "30m", "12h"]))
def test_a_request_that_cannot_write_a_lifetime_is_not_charged_for_it(data, model, at, n, m, life):
    """The bound over some lifetimes holds for usage with no other writes, audio or images."""
    usage = data.draw(consistent_usage(n, m))
    writes = getattr(usage, f"cache_write_{life}_tokens")
    plain = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=writes,
        **{f"cache_write_{life}_tokens": writes},
    )
    worst = worst_cost(model, n, m, at, cache_lifetimes=(life,), modalities=())
    actual = cost(plain, TABLE.price(model, at))
    assert worst is None or actual is None or actual <= worst
    widest = worst_cost(model, n, m, at)
    assert worst is None or widest >= worst


@settings(max_examples=MANY // 2)
@given(models, st.sampled_from(TIERS), moments, tokens, tokens, tokens, tokens)
def test_more_tokens_never_cost_less(model, tier, at, n, more_n, m, more_m):
    """The bound is monotone, across the long-context threshold too."""
    bound = TABLE.bound(model, at, tier=tier)
    assume(bound is not None)
    less, more = bound.cost(n, m), bound.cost(n + more_n, m + more_m)
    assert less is None or more is None or less <= more


@settings(max_examples=MANY)
@given(models, st.sampled_from(TIERS), moments, tokens, st.integers(0, 10**14))
@example("acme-odd", "standard", datetime(2026, 1, 1, tzinfo=timezone.utc), 10, 10**9)
def test_affordable_output_is_the_exact_inverse_of_the_worst_case(model, tier, at, n, amount):
    """The answer fits into the amount, and one token more does not."""
    fits = affordable_output(model, n, amount, at, tier=tier)
    if fits is None:
        nothing = worst_cost(model, n, 0, at, tier=tier)
        assert nothing is None or nothing > amount
        return
    assert worst_cost(model, n, fits, at, tier=tier) <= amount
    one_more = worst_cost(model, n, fits + 1, at, tier=tier)
    assert fits == UNLIMITED or one_more is None or one_more > amount


def test_the_bound_is_tight_where_all_is_known(now):
    """A plain request with no cache writes is bounded by exactly its list price."""
    assert (
        worst_cost("claude-opus-4-8", 2400, 1000, now, cache_lifetimes=(), modalities=())
        == 2400 * 5_000_000 + 1000 * 25_000_000
    )
    assert (
        worst_cost("gpt-6-sol", 272_000, 10, now, cache_lifetimes=())
        == 272_000 * 2_000_000 + 10 * 10_000_000
    )
    assert (
        worst_cost("gpt-6-sol", 272_001, 10, now, cache_lifetimes=())
        == 272_001 * 4_000_000 + 10 * 15_000_000
    )


def test_the_bound_rounds_up_where_a_price_does_not_divide(now):
    """Each token is bounded by a whole picodollar, so that no sum of rounded lines exceeds it."""
    price = TABLE.price("acme-odd", now)
    usage = Usage(input_tokens=300, output_tokens=300)

    assert cost(usage, price) == 300 * 1_333_333 + 90 + 300 * 2_777_777 + 210
    assert worst_cost("acme-odd", 300, 300, now) == 300 * 2_000_000 + 300 * 2_777_778


def test_writes_that_may_happen_are_in_the_bound(now):
    """Unless told otherwise, each input token may be written for the longest time there is."""
    assert worst_cost("claude-opus-4-8", 10, 0, now) == 10 * 10_000_000
    assert worst_cost("gpt-6-sol", 10, 0, now) == 10 * 5_000_000
    assert worst_cost("gpt-6-sol", 10, 0, now, cache_lifetimes=("30m",)) == 10 * 2_500_000
    assert worst_cost("gpt-4o", 10, 0, now) == 10 * 2_500_000


@pytest.mark.parametrize(
    ("tier", "usd_output"),
    [
        *(("standard", 10), ("auto", 20), (None, 20), ("priority", 20), ("fast", 20)),
        *(("flex", 10), ("batch", 10)),
    ],
)
def test_the_dearest_tier_that_may_serve_counts(now, tier, usd_output):
    """A cheap tier may be served as standard, auto as priority."""
    assert worst_cost("gpt-6-sol", 0, 1, now, tier=tier) == usd_output * 10**6


def test_a_dear_tier_without_a_price_is_unknown(now):
    """Nobody knows what it would cost, so nobody can bound it."""
    assert worst_cost("gpt-5.4-nano", 10, 10, now, tier="priority") is None
    assert worst_cost("gpt-4o", 10, 10, now, tier="ultrafast") is None
    assert worst_cost("claude-haiku-4-5", 10, 10, now, tier="fast") is None
    assert worst_cost("no-such-model", 10, 10, now) is None
    assert affordable_output("no-such-model", 10, 10**12, now) is None


def test_a_priority_request_that_is_too_long_for_it_is_bounded_by_standard(now):
    """Above the threshold such a request is served as a standard one."""
    bound = TABLE.bound("gpt-5.5", now, tier="priority", cache_lifetimes=())

    assert bound.cost(272_000, 1) == 272_000 * 12_500_000 + 75_000_000
    assert bound.cost(272_001, 1) == 272_001 * 12_500_000 + 75_000_000


def test_a_bound_changes_with_the_day(now):
    """It follows the same dates as the price."""
    march = datetime(2027, 3, 1, tzinfo=timezone.utc)
    for at, usd in ((march - timedelta(microseconds=1), 30), (march, 60)):
        assert worst_cost("gpt-6.2-sol", 0, 1, at, tier="ultrafast") == usd * 10**6


def test_what_is_not_tokens_is_bounded_by_what_the_caller_says(now):
    """Seconds, characters and tool calls are counted beside the tokens, rounded up."""

    def worst(model: str, n: int, beside: Usage | None) -> int | None:
        return worst_cost(model, n, 0, now, cache_lifetimes=(), beside=beside)

    assert worst("whisper-1", 0, Usage(seconds=60)) == 6_000_000_000
    assert worst("gpt-live-transcribe", 0, Usage(seconds=1)) == 283_333_334
    assert worst("whisper-1", 100, Usage(seconds=60)) == 6_000_000_000
    assert worst("whisper-1", 0, None) is None, "a call billed by time with no time is unknown"
    assert worst("tts-1", 0, Usage(characters=10)) == 150_000_000
    assert worst("gpt-4o", 10, Usage(web_search_preview_calls=1)) == 25_000_000 + 25_000_000_000
    assert worst("gpt-4o-mini", 0, Usage(web_search_calls=1)) == 11_200_000_000
    assert worst("claude-opus-4-8", 0, Usage(file_search_calls=1)) is None
    assert worst("gpt-4o", 10, Usage(seconds=9)) == 25_000_000
    assert (
        affordable_output(
            "gpt-4o", 0, 10_000_000_000 + 10**7, now, beside=Usage(web_search_calls=1)
        )
        == 1
    )


def test_an_embedding_has_no_output_to_pay_for(now):
    """Its bound is that of the input; output it cannot bring has no price."""
    assert worst_cost("text-embedding-3-small", 100, 0, now) == 100 * 20_000
    assert worst_cost("text-embedding-3-small", 100, 1, now) is None
    assert affordable_output("text-embedding-3-small", 100, 10**12, now) == 0
    assert affordable_output("omni-moderation-latest", 100, 0, now) == 0


def test_free_output_is_affordable_without_end(now):
    """Decisions charge for input alone."""
    bound = TABLE.bound("gpt-6-luna", now, operation="decisions", cache_lifetimes=())

    assert bound.output_for(10**9, 10) is not None
    free = TABLE.with_prices({"local": {"input": 0, "output": 0}}).bound("local", now)
    assert free.output_for(0, 10**9) == UNLIMITED


@settings(max_examples=300)
@given(st.data(), st.sampled_from(BUNDLED.models()), moments, tokens, tokens)
def test_no_model_of_a_provider_costs_more_than_its_dearest_price(data, model, at, n, m):
    """What an unknown model is charged at most is at least what any known one would be."""
    provider = BUNDLED.find(model).provider
    usage = data.draw(consistent_usage(n, m))
    dearest = BUNDLED.dearest(provider, at)
    actual = cost(usage, BUNDLED.price(model, at))
    assert actual is None or actual <= cost(usage, dearest)
    bound = BUNDLED.dearest_bound(provider, at)
    assert cost(usage, dearest) <= bound.cost(n, m)


def test_the_dearest_price_says_what_it_is(now):
    """It is no model's price, and its id shows that."""
    dearest = BUNDLED.dearest("openai", now)

    assert dearest.id.startswith("openai/*#standard:")
    assert dearest.id.endswith("~dearest+assumed")
    assert (dearest.input, dearest.output, dearest.is_assumed) == (150, 600, True)
    assert BUNDLED.dearest("anthropic", now).output == 125
    assert BUNDLED.dearest("anthropic", now, tier="fast").output == 150
    assert BUNDLED.dearest_bound("openai", now, cache_lifetimes=()).cost(1, 1) == 750_000_000
    searched = Usage(web_search_calls=1, web_search_preview_calls=1, file_search_calls=1)
    dollars = Decimal("0.0375") + 8000 * Decimal("0.00015")
    assert cost(searched, dearest) == dollars.scaleb(12)
    with pytest.raises(ValueError, match="provider 'acme'"):
        BUNDLED.dearest("acme", now)

"""What a call costs, part by part: the lines, their sum, and usage that does not add up."""

from __future__ import annotations

import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costtrace.exceptions import UnknownPriceError
from costtrace.pricing import Line, PriceTable, cost, estimate_cost
from costtrace.usage import Usage

TABLE = PriceTable.bundled()
counts = st.integers(0, 2_000_000)
usages = st.builds(
    Usage,
    **dict.fromkeys(
        (
            *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
            *("cache_write_5m_tokens", "cache_write_1h_tokens", "cache_write_30m_tokens"),
            *("cache_write_12h_tokens", "audio_input_tokens", "audio_output_tokens"),
            *("audio_cache_read_tokens", "image_input_tokens", "image_output_tokens"),
            *("image_cache_read_tokens", "web_search_calls", "web_search_preview_calls"),
            *("file_search_calls", "images", "seconds", "characters"),
        ),
        counts,
    ),
)


@given(usage=usages, model=st.sampled_from(TABLE.models()))
def test_the_lines_sum_to_the_cost_for_any_usage(usage, model):
    """Also for usage whose parts exceed its total: a call is never broken by a strange reply."""
    price = TABLE.price(model, TABLE.as_of)
    if price is None:
        assert cost(usage, price) is None
        return
    lines = price.lines(usage)
    amounts = [line.cost for line in lines]

    assert cost(usage, price) == (None if None in amounts else sum(amounts))
    assert all(line.quantity > 0 for line in lines)
    assert len({line.name for line in lines}) == len(lines)


def test_each_part_has_its_own_line(now):
    """A report can show what a call was paid for."""
    usage = Usage(
        input_tokens=100,
        cache_read_tokens=30,
        cache_write_tokens=25,
        cache_write_5m_tokens=10,
        cache_write_1h_tokens=15,
        output_tokens=7,
        reasoning_tokens=5,
        web_search_calls=2,
    )

    assert TABLE.price("claude-opus-4-8", now).lines(usage) == (
        Line("input", 45, 45 * 5_000_000),
        Line("cached_input", 30, 30 * 500_000),
        Line("cache_write_5m", 10, 10 * 6_250_000),
        Line("cache_write_1h", 15, 15 * 10_000_000),
        Line("output", 7, 7 * 25_000_000),
        Line("web_search_calls", 2, 20_000_000_000),
    )


def test_audio_and_image_tokens_have_their_own_lines_cached_ones_too(now):
    """Cached audio is part of the audio and of the cached tokens, and is billed once."""
    usage = Usage(
        input_tokens=1000,
        cache_read_tokens=300,
        audio_input_tokens=400,
        audio_cache_read_tokens=100,
        image_input_tokens=200,
        image_cache_read_tokens=150,
        output_tokens=90,
        audio_output_tokens=60,
    )

    lines = {line.name: line.quantity for line in TABLE.price("gpt-realtime", now).lines(usage)}

    assert lines == {
        "input": 350,
        "cached_input": 50,
        "audio_input": 300,
        "audio_cached_input": 100,
        "image_input": 50,
        "image_cached_input": 150,
        "output": 30,
        "audio_output": 60,
    }


def test_writes_of_unknown_lifetime_are_short_ones(now):
    """Without a split the total takes the short lifetime, with a partial one the rest does."""
    claude = TABLE.price("claude-opus-4-8", now)
    gpt = TABLE.price("gpt-6-sol", now)
    usage = Usage(input_tokens=10, cache_write_tokens=10)
    partly = Usage(input_tokens=10, cache_write_tokens=10, cache_write_1h_tokens=4)

    assert cost(usage, claude) == 10 * 6_250_000
    assert cost(usage, gpt) == 10 * 2_500_000
    assert cost(partly, claude) == 4 * 10_000_000 + 6 * 6_250_000


def test_writes_cost_nothing_extra_on_models_that_do_not_charge_for_them(now):
    """Before GPT-5.6 a written token is an ordinary input token: neither free nor dearer."""
    usage = Usage(input_tokens=10, cache_write_tokens=8, cache_write_30m_tokens=8)

    assert cost(usage, TABLE.price("gpt-4o", now)) == 10 * 2_500_000


def test_parts_beyond_the_total_are_billed_as_stated(now):
    """Nothing is left for plain text then, and nothing is negative."""
    usage = Usage(input_tokens=5, cache_read_tokens=10, output_tokens=1, audio_output_tokens=3)

    assert cost(usage, TABLE.price("gpt-4o", now)) == 10 * 1_250_000 + 3 * 10_000_000


def test_cached_tokens_without_a_published_price_cost_the_input_price(now):
    """No cached price is published for gpt-4o in batch: no discount is invented."""
    usage = Usage(input_tokens=10, cache_read_tokens=10)

    assert cost(usage, TABLE.price("gpt-4o", now, tier="batch")) == 10 * 1_250_000


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("claude-haiku-4-5", Usage(web_search_calls=3), "0.03"),
        ("gpt-6-sol", Usage(web_search_calls=3), "0.03"),
        ("gpt-4o", Usage(web_search_calls=3), "0.03"),
        ("gpt-4o", Usage(web_search_preview_calls=2), "0.05"),
        ("gpt-4.1-mini", Usage(web_search_preview_calls=2), "0.05"),
        ("o4-mini", Usage(web_search_preview_calls=2), "0.02"),
        ("gpt-5.4", Usage(file_search_calls=4), "0.01"),
        ("gpt-4o-mini", Usage(web_search_calls=1), "0.0112"),
        ("gpt-4.1-mini", Usage(web_search_calls=2), "0.0264"),
    ],
)
def test_tool_calls_are_billed_by_the_call(now, model, usage, usd):
    """By the thousand; two small models are billed a fixed block of 8,000 input tokens as well."""
    assert cost(usage, TABLE.price(model, now)) == Decimal(usd).scaleb(12)


def test_a_line_that_does_not_divide_is_rounded_half_to_even(now):
    """Half a picodollar goes to the even neighbour, once for the line."""
    price = TABLE.with_prices({"m": {"input": "1.0000005", "output": 1}}).price("m", now)

    assert [cost(Usage(input_tokens=n), price) for n in (1, 2, 3)] == [
        *(1_000_000, 2_000_001, 3_000_002),
    ]


def test_tool_fees_are_not_scaled_by_tier_or_place(now):
    """Batch halves tokens, not searches, and a region adds nothing to them."""
    searched = Usage(input_tokens=1000, web_search_calls=1)
    fee = 10_000_000_000

    assert cost(searched, TABLE.price("claude-opus-4-8", now, tier="batch", region="us")) == (
        fee + 1000 * 2_750_000
    )
    assert cost(searched, TABLE.price("gpt-6-sol", now, tier="flex", region="eu")) == (
        fee + 1000 * 1_100_000
    )


def test_a_call_is_billed_by_the_measure_that_has_a_price(now):
    """Seconds reported beside tokens are not charged twice, nor is either one required."""
    both = Usage(input_tokens=100, audio_input_tokens=100, output_tokens=10, seconds=30)

    assert cost(both, TABLE.price("gpt-4o-transcribe", now)) == 100 * 6_000_000 + 10 * 10_000_000
    assert cost(both, TABLE.price("whisper-1", now)) == 30 * 100_000_000
    assert cost(Usage(characters=7), TABLE.price("tts-1", now)) == 7 * 15_000_000
    assert cost(Usage(seconds=8), TABLE.price("sora-2-pro", now)) == 8 * 300_000_000_000


def test_a_part_without_any_price_makes_the_cost_unknown(now):
    """A model billed by time with no time given has no cost, and so has a tool nobody prices."""
    assert cost(Usage(input_tokens=100), TABLE.price("whisper-1", now)) is None
    assert cost(Usage(output_tokens=1), TABLE.price("text-embedding-3-small", now)) is None
    assert cost(Usage(file_search_calls=1), TABLE.price("claude-opus-4-8", now)) is None
    assert cost(Usage(images=1), TABLE.price("gpt-image-2", now)) is None
    assert cost(Usage(input_tokens=1), None) is None


def test_no_usage_costs_nothing(now):
    """Zero tokens are zero dollars, which is known."""
    assert cost(Usage(), TABLE.price("gpt-4o", now)) == 0
    assert TABLE.price("gpt-4o", now).lines(Usage()) == ()


def test_all_image_output_is_billed_where_only_that_is_listed(now):
    """An image model's reply need not split its output tokens."""
    price = TABLE.price("gpt-image-2", now)

    assert cost(Usage(output_tokens=10), price) == 10 * 30_000_000
    assert cost(Usage(output_tokens=10, image_output_tokens=10), price) == 10 * 30_000_000


def test_prices_travel_between_processes(now):
    """A price pickles, and compares equal."""
    price = TABLE.price("gpt-6-sol", now, input_tokens=300_000)

    assert pickle.loads(pickle.dumps(price)) == price


def test_an_estimate_is_the_standard_price_of_input_and_output():
    """US dollars, exact; the long price where the input passes the threshold."""
    assert estimate_cost("claude-opus-4-8", 2400, 1000) == Decimal("0.0370")
    assert estimate_cost("gpt-6-sol", 272_000, 100) == Decimal("0.545")
    assert estimate_cost("gpt-6-sol", 272_001, 100) == Decimal("1.089504")
    mine = TABLE.with_prices({"acme-1": {"input": 1, "output": 2}})
    assert estimate_cost("acme-1", 10, 10, prices=mine) == Decimal("0.00003")


def test_an_estimate_of_an_unknown_model_is_an_error_and_not_zero():
    """Neither an unknown name nor a model billed by time has an estimate in tokens."""
    for model in ("no-such-model", "whisper-1"):
        with pytest.raises(UnknownPriceError, match=model):
            estimate_cost(model, 10, 10)
    for bad in (-1, 1.5, True):
        with pytest.raises((TypeError, ValueError)):
            estimate_cost("gpt-4o", bad, 10)

"""Every published number, at its edges: price, threshold, date, place."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from costtrace.pricing import Price, PriceTable, cost
from costtrace.usage import Usage

TICK = timedelta(microseconds=1)
BIG = 1_000_003  # no round number, so that a rounding shows
USED = {  # part of a price -> the usage that consists of nothing else
    "input": ("input_tokens",),
    "cached_input": ("input_tokens", "cache_read_tokens"),
    "cache_write_5m": ("input_tokens", "cache_write_tokens", "cache_write_5m_tokens"),
    "cache_write_1h": ("input_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    "cache_write_30m": ("input_tokens", "cache_write_tokens", "cache_write_30m_tokens"),
    "cache_write_12h": ("input_tokens", "cache_write_tokens", "cache_write_12h_tokens"),
    "output": ("output_tokens",),
    "audio_input": ("input_tokens", "audio_input_tokens"),
    "audio_cached_input": (
        *("input_tokens", "cache_read_tokens"),
        *("audio_input_tokens", "audio_cache_read_tokens"),
    ),
    "audio_output": ("output_tokens", "audio_output_tokens"),
    "image_input": ("input_tokens", "image_input_tokens"),
    "image_cached_input": (
        *("input_tokens", "cache_read_tokens"),
        *("image_input_tokens", "image_cache_read_tokens"),
    ),
    "image_output": ("output_tokens", "image_output_tokens"),
    "characters": ("characters",),
    "image_each": ("images",),
    "video_seconds": ("seconds",),
}


def used(part: str, count: int) -> Usage:
    return Usage(**dict.fromkeys(USED[part], count))


def price_of(table, listed, at: datetime, input_tokens: int = 0) -> Price | None:
    return table.price(
        listed.model,
        at,
        tier="standard" if listed.operation else listed.tier,
        operation=listed.operation,
        input_tokens=input_tokens,
        variant=listed.variant,
    )


def test_every_published_number_is_charged_to_the_picodollar(table, listed):
    """A usage of one part alone costs its count times the published price, at both ends of it."""
    for at in listed.moments:
        price = price_of(table, listed, at, BIG if listed.context == "long" else 0)
        assert price is not None
        for part, picodollars in listed.parts.items():
            if part == "audio_minutes":
                assert cost(Usage(seconds=60), price) == picodollars
                continue
            count = BIG if listed.context == "long" else 99_991
            if listed.context == "short" or "output" not in part:
                assert cost(used(part, count), price) == count * picodollars
                continue
            both = used(part, count) + Usage(input_tokens=BIG)
            assert cost(both, price) == count * picodollars + BIG * listed.parts["input"]


def test_long_context_begins_strictly_above_the_threshold(table, listed):
    """At the threshold the whole request is short, one token more and the whole request is long."""
    if listed.long_above is None:
        return
    is_long = listed.context == "long"
    price = price_of(table, listed, listed.moments[0])
    assert price is not None
    usage = Usage(input_tokens=listed.long_above + is_long, output_tokens=7)

    expected = usage.input_tokens * listed.parts["input"] + 7 * listed.parts["output"]

    assert cost(usage, price) == expected
    for asked in (usage.input_tokens, 0):  # what the price was asked for does not mislead it
        asked_price = price_of(table, listed, listed.moments[0], asked)
        assert cost(usage, asked_price) == expected


def test_cached_and_written_tokens_count_towards_the_threshold(table, now):
    """A request is long by all of its input, however little of it is new."""
    price = table.price("gpt-6-sol", now)
    usage = Usage(
        input_tokens=272_001,
        cache_read_tokens=200_000,
        cache_write_tokens=72_000,
        cache_write_30m_tokens=72_000,
        output_tokens=1,
    )

    assert cost(usage, price) == 1 * 4_000_000 + 200_000 * 400_000 + 72_000 * 5_000_000 + 15_000_000


def test_a_price_ends_exactly_where_the_next_begins(table, rows):
    """At midnight UTC the new price holds; a microsecond before, the old one does."""
    changes = [row for row in rows if row.until is not None]
    assert len(changes) > 30
    for old in changes:
        new = next(
            (
                row
                for row in rows
                if row.since == old.until and row.tier == old.tier
                if (row.model, row.context) == (old.model, old.context)
            ),
            None,
        )
        at = old.until
        tokens = old.long_above + 1 if old.context == "long" else 1
        before = price_of(table, old, at - TICK, tokens)
        after = price_of(table, old, at, tokens)
        assert before is not None
        assert before.rates["output"][0] == old.parts["output"] * 10**6
        if new is not None:
            assert after.rates["output"][0] == new.parts["output"] * 10**6
            assert after.rates["cached_input"][0] == (
                new.parts.get("cached_input", new.parts["input"]) * 10**6
            )
        elif old.context == "short":
            assert after is None, "a tier that has ended has no price"


@pytest.mark.parametrize(
    ("model", "day", "before", "after"),
    [
        ("o3", "2025-06-10", 40, 8),
        ("gpt-5.6-luna", "2026-07-30", 6, "1.2"),
        ("gpt-5.6", "2026-08-21", 30, 20),
        ("claude-3-5-haiku-latest", "2024-12-03", 5, 4),
        ("o1-mini", "2025-01-31", 12, "4.4"),
    ],
)
def test_a_call_is_charged_by_its_own_day(table, model, day, before, after):
    """The price changes of the years covered, in another zone's clock too."""
    at = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    tokyo = timezone(timedelta(hours=9))

    assert str(table.price(model, at - TICK).output) == str(before)
    assert str(table.price(model, at).output) == str(after)
    assert str(table.price(model, at.astimezone(tokyo)).output) == str(after)
    assert str(table.price(model, at.date()).output) == str(after)


def test_a_cancelled_rise_never_happens(table):
    """Sonnet 5 costs the same on both sides of the day on which it was to rise."""
    for day in (31, 1):
        at = datetime(2026, 8 if day == 31 else 9, day, tzinfo=timezone.utc)
        assert (table.price("claude-sonnet-5", at).input, 10) == (2, 10)


def test_bundled_token_prices_are_whole_picodollars(table, listed):
    """No token of a listed price, in any place, costs a fraction of a picodollar."""
    for region in ("", "us", "bedrock:us", "bedrock:us-gov"):
        price = table.price(
            listed.model, listed.moments[0], tier=listed.tier, region=region, variant=listed.variant
        )
        for rates in (price.short, price.long) if price else ():
            for part, (picodollars, units) in (rates or {}).items():
                assert part in ("seconds", "images") or picodollars % units == 0


def test_a_price_by_the_minute_rounds_once_half_to_even(table, now):
    """0.017 USD a minute does not divide by 60: the line is rounded, not each second."""
    price = table.price("gpt-live-transcribe", now)

    assert cost(Usage(seconds=1), price) == 283_333_333
    assert cost(Usage(seconds=2), price) == 566_666_667
    assert cost(Usage(seconds=60), price) == 17_000_000_000


def test_an_openai_region_adds_a_tenth_to_newer_models_only(table, now, listed_models):
    """A regional host multiplies every token price of the models it applies to."""
    usage = Usage(input_tokens=1000, cache_read_tokens=300, output_tokens=70)
    seen = 0
    for model in listed_models:
        if model["provider"] != "openai" or model["model"].startswith("dall-e"):
            continue
        plain = cost(usage, table.price(model["model"], now))
        regional = cost(usage, table.price(model["model"], now, region="eu"))
        if plain is None:
            continue
        assert regional * 10 == plain * (11 if model["regional_host"] else 10), model["model"]
        seen += bool(model["regional_host"])
    assert seen == 20


def test_a_region_multiplies_the_long_price_too(table, now):
    """The tenth is on top of the long-context step."""
    usage = Usage(input_tokens=300_000, output_tokens=10)

    regional = cost(usage, table.price("gpt-6-sol", now, region="us"))

    assert regional == 300_000 * 4_400_000 + 10 * 16_500_000


def test_an_american_geography_adds_a_tenth_to_newer_claudes_only(table, now, listed_models):
    """`inference_geo` us multiplies every token category, on top of speed; other values do not."""
    usage = Usage(
        input_tokens=1000,
        cache_read_tokens=300,
        cache_write_tokens=50,
        cache_write_1h_tokens=50,
        output_tokens=70,
    )
    for model in listed_models:
        if model["provider"] != "anthropic":
            continue
        for tier in ("standard", "batch", "fast"):
            plain = cost(usage, table.price(model["model"], now, tier=tier))
            if plain is None:
                continue
            geo = cost(usage, table.price(model["model"], now, tier=tier, region="us"))
            assert geo * 10 == plain * (11 if model["geo_us"] else 10), model["model"]
            assert cost(usage, table.price(model["model"], now, tier=tier, region="eu")) == plain
            everywhere = table.price(model["model"], now, tier=tier, region="global")
            assert cost(usage, everywhere) == plain


def test_a_tier_that_is_not_listed_has_no_price(table, now):
    """A tier nobody published a price for is unknown, not standard."""
    assert table.price("gpt-5.4-nano", now, tier="priority") is None
    assert table.price("gpt-6.2-sol", now, tier="flex") is None
    assert table.price("gpt-5.5", now, tier="priority", input_tokens=272_001) is None
    assert cost(Usage(input_tokens=272_001), table.price("gpt-5.5", now, tier="priority")) is None
    assert table.price("gpt-4o", now, tier="scale") is None
    assert (
        table.price("claude-opus-4-8", datetime(2026, 11, 30, tzinfo=timezone.utc), tier="fast")
        is None
    )


def test_words_for_one_tier_find_one_price(table, now):
    """OpenAI's fast is its priority tier; Anthropic's priority is capacity, at standard rates."""
    assert table.price("gpt-5.4", now, tier="fast") == table.price("gpt-5.4", now, tier="priority")
    assert table.price("gpt-5.4", now, tier="default") == table.price("gpt-5.4", now)

    capacity = table.price("claude-opus-4-8", now, tier="priority")

    assert capacity.rates == table.price("claude-opus-4-8", now).rates
    assert (capacity.tier, capacity.is_assumed) == ("standard", True)
    assert capacity.id.endswith("~capacity+assumed")


def test_decisions_have_free_output_where_they_exist(table, now):
    """The operation prices the call only for a model that has a row for it."""
    usage = Usage(input_tokens=1000, output_tokens=50)

    assert cost(usage, table.price("gpt-6-luna", now, operation="decisions")) == 1000 * 100_000
    assert table.price("gpt-6-sol", now, operation="decisions") == table.price("gpt-6-sol", now)


def test_before_its_release_a_model_has_its_first_price_and_says_so(table):
    """A clock that is behind does not make a known model unknown."""
    early = table.price("claude-opus-4-8", datetime(2025, 1, 1, tzinfo=timezone.utc))

    assert (early.input, early.output) == (5, 25)
    assert early.is_assumed
    assert early.id.endswith("~early+assumed")
    assert not table.price("claude-opus-4-8", datetime(2026, 5, 28, tzinfo=timezone.utc)).is_assumed


def test_an_image_is_priced_by_its_size_and_quality(table, now):
    """Images priced each need the variant: without it nobody knows which price it was."""
    hd = table.price("dall-e-3", now, variant="hd/1024x1792")

    assert cost(Usage(images=2), hd) == 2 * 120_000_000_000
    assert hd == table.price("dall-e-3", now, variant="hd/1024-x-1792")
    assert table.price("dall-e-3", now) is None
    assert table.price("dall-e-3", now, variant="huge") is None


def test_limits_are_the_published_ones(table, listed_models):
    """Window, input and output limits, None where nobody published one."""
    for model in listed_models:
        limits = table.limits(model["model"])
        for name in ("context_window", "max_input_tokens", "max_output_tokens"):
            assert getattr(limits, name) == (int(model[name]) if model[name] else None)
    assert table.limits("no-such-model") is None


def test_a_time_without_a_zone_is_refused(table):
    """A naive time could mean any day."""
    with pytest.raises(ValueError, match="has no time zone"):
        table.price("gpt-4o", datetime(2026, 1, 1))
    with pytest.raises(TypeError, match="not str"):
        table.price("gpt-4o", "2026-01-01")


def test_the_bundled_table_is_one_and_covers_every_published_model(table, listed_models):
    """The table is read once, and knows the models of both providers."""
    assert PriceTable.bundled() is table
    assert set(table.models()) == {model["model"] for model in listed_models}
    assert set(table.models("anthropic")) == {
        model["model"] for model in listed_models if model["provider"] == "anthropic"
    }

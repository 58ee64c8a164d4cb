"""Which model a name means: the published spellings, and the names that only look like one."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from costtrace.pricing import PriceId, place_of

ARN = "arn:aws:bedrock:eu-west-1:123456789012"
SPELLINGS = {
    "gpt-4o": ("gpt-4o", ""),
    "gpt-4o-2024-08-06": ("gpt-4o", "alias"),
    "gpt-4o-2024-05-13": ("gpt-4o-2024-05-13", ""),
    "GPT-4o": ("gpt-4o", "case"),
    "gpt-4o-20240806": ("gpt-4o", "date+alias"),
    "gpt-4-0613": ("gpt-4", "alias"),
    "openai/gpt-4o-mini": ("gpt-4o-mini", "gateway"),
    "openrouter/openai/gpt-4o-mini": ("gpt-4o-mini", "gateway"),
    "o1-pro": ("o1-pro", ""),
    "ft:gpt-4o-mini-2024-07-18:acme::Ab12": ("ft:gpt-4o-mini-2024-07-18", "fine-tuned"),
    "ft:gpt-4o-mini-2024-07-18:acme:name:Ab12:ckpt-step-90": (
        *("ft:gpt-4o-mini-2024-07-18", "fine-tuned"),
    ),
    "ft:gpt-3.5-turbo-0125:acme::Ab12": ("ft:gpt-3.5-turbo", "fine-tuned+alias"),
    "claude-haiku-4-5-20251001": ("claude-haiku-4-5", "alias"),
    "claude-haiku-4-5-2025-10-01": ("claude-haiku-4-5", "date+alias"),
    "claude-opus-4-8[1m]": ("claude-opus-4-8", "suffix"),
    "anthropic/claude-opus-4.8": ("claude-opus-4-8", "gateway"),
    "anthropic/claude-sonnet-4": ("claude-sonnet-4-0", "gateway+alias"),
    "anthropic.claude-opus-4-8": ("claude-opus-4-8", "bedrock"),
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": ("claude-sonnet-4-5", "bedrock+alias"),
    "global.anthropic.claude-opus-4-6-v1": ("claude-opus-4-6", "bedrock"),
    "anthropic.claude-3-5-sonnet-20241022-v2:0": ("claude-3-5-sonnet-20241022", "bedrock"),
    f"{ARN}:inference-profile/eu.anthropic.claude-opus-4-6-v1": ("claude-opus-4-6", "bedrock"),
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0": (
        *("claude-3-haiku-20240307", "bedrock"),
    ),
    "claude-sonnet-4-5@20250929": ("claude-sonnet-4-5", "vertex+alias"),
    "claude-opus-4-6@default": ("claude-opus-4-6", "vertex"),
    "claude-3-5-sonnet-v2@20241022": ("claude-3-5-sonnet-20241022", "vertex"),
    "publishers/anthropic/models/claude-opus-4-8": ("claude-opus-4-8", "vertex"),
    "vertex_ai/claude-opus-4-8": ("claude-opus-4-8", "vertex"),
    "gpt-5.6": ("gpt-5.6-sol", "alias"),
    "claude-opus-5-latest": ("claude-opus-5", "alias"),
}
OTHERS = [  # each begins, ends or looks like a listed model, and is none
    "o1-pro-max",
    "gpt-4o-mini-fast",
    "claude-opus-4-8-fast",
    "claude-sonnet-4-7",
    "claude-haiku-4-5-latest",
    "claude-haiku-4-6",
    "gpt-5.1-mini",
    "gpt-5.1-search-preview",
    "gpt-4.1-audio-preview",
    "gpt-6.2-astra-law",
    "gpt-6.2-astra-law-2026-11-20",
    "gpt-4o-latest",
    "gpt-4o-",
    "gpt",
    "",
    "claude",
    "ft:gpt-4o:acme::Ab12",
    "ft:gpt-5-2025-08-07:acme::Ab12",
    "ft:",
    "openai/gpt-4o:extended",
    "anthropic/claude-opus-4.8:thinking",
    "anthropic/claude-opus-4.8:free",
    "azure/gpt-4o",
    "my-gpt-4o",
    "gpt-35-turbo",
    "ca.anthropic.claude-opus-4-8",
    "anthropic.claude-v2:1",
    "anthropic.claude-instant-v1",
    f"{ARN}:application-inference-profile/a1b2c3d4e5f6",
    f"{ARN}:provisioned-model/a1b2c3d4e5f6",
    "claude-opus-4-8@latest",
    "claude-opus-4-8@20261340",
    "mistral-large",
    "x" * 10_000,
    "ｇpt-4o",
]


@pytest.mark.parametrize(("name", "expected"), SPELLINGS.items())
def test_a_published_spelling_finds_its_model_and_says_how(table, now, name, expected):
    """The rule that matched stands in the id of the price."""
    price = table.price(name, now)

    assert (price.model, PriceId.parse(price.id).rule.removesuffix("+assumed")) == expected
    assert table.resolve(name).model == expected[0]


@pytest.mark.parametrize("name", OTHERS, ids=lambda name: name[:40] or "empty")
def test_a_name_that_only_looks_alike_has_no_price(table, now, name):
    """Nothing is matched by its beginning: what is not known is unknown, never zero."""
    assert table.price(name, now) is None
    assert table.resolve(name) is None
    assert table.bound(name, now) is None


def test_stray_space_around_a_name_does_not_make_another_model(table, now):
    """A name read from a file or the environment often ends in a line break."""
    assert table.price(" gpt-4o\n", now).model == "gpt-4o"


def test_every_published_alias_means_its_model(table, listed_models):
    """Each alias resolves to the model it is published for."""
    count = 0
    for model in listed_models:
        for alias in model["aliases"].split():
            assert table.resolve(alias).model == model["model"]
            assert table.aliases[alias] == model["model"]
            count += 1
    assert count == 99


def test_an_unlisted_snapshot_is_assumed_where_all_known_ones_cost_the_same(table, now):
    """A new snapshot takes the price of its base only if no snapshot ever cost otherwise."""
    found = table.price("claude-opus-4-8-20260601", now)

    assert found.rates == table.price("claude-opus-4-8", now).rates
    assert found.is_assumed
    assert PriceId.parse(found.id).rule == "snapshot+assumed"
    assert table.price("gpt-5.2-2026-10-10", now).is_assumed
    assert table.price("gpt-4-0931", now) is None, "no such date"


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o-2025-01-01",
        "gpt-4o-audio-preview-2025-01-01",
        "gpt-3.5-turbo-0914",
        "gpt-9-2026-01-01",
    ],
)
def test_an_unlisted_snapshot_is_unknown_where_the_known_ones_differ(table, now, name):
    """gpt-4o-2024-05-13 costs twice as much as its successors: another one may as well."""
    assert table.price(name, now) is None


def test_a_cloud_geography_in_the_name_multiplies_newer_models(table, now):
    """Bedrock charges a tenth more outside its global endpoints since Claude 4.5."""
    rows = {
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0": ("3", False),
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0": ("3.3", False),
        "eu.anthropic.claude-haiku-4-5-20251001-v1:0": ("1.1", False),
        "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0": ("3.6", False),
        "us-gov.anthropic.claude-3-haiku-20240307-v1:0": ("0.3", False),
        "us.anthropic.claude-3-7-sonnet-20250219-v1:0": ("3", False),
        "anthropic.claude-sonnet-4-5-20250929-v1:0": ("3.3", True),
        "anthropic.claude-3-haiku-20240307-v1:0": ("0.25", False),
        "claude-sonnet-4-5@20250929": ("3", True),
        "claude-3-haiku@20240307": ("0.25", False),
    }
    for name, (usd, is_assumed) in rows.items():
        price = table.price(name, now)
        assert (str(price.input), price.is_assumed) == (usd, is_assumed), name
    gov = "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-opus-4-8"
    assert str(table.price(gov, now).input) == "6"


def test_the_place_of_the_name_requested_prices_the_model_that_answered(table, now):
    """A cloud's answer names the plain model; the region argument carries the place."""
    requested = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"

    answered = table.price("claude-sonnet-4-5-20250929", now, region=place_of(requested))

    assert str(answered.input) == "3.3"
    assert PriceId.parse(answered.id).place == "bedrock:us"
    assert place_of("gpt-4o") == ""
    regional = table.price("claude-sonnet-4-5@20250929", now, region="europe-west1")
    assert (str(regional.input), regional.is_assumed) == ("3.3", False)
    everywhere = table.price("claude-sonnet-4-5@20250929", now, region="global")
    assert (str(everywhere.input), everywhere.is_assumed) == ("3", False)


def test_the_served_model_may_cost_more_than_the_requested_one(table, now):
    """A dated name has its own row where it has its own price."""
    assert table.price("gpt-4o-2024-05-13", now).input == 5
    assert str(table.price("gpt-4o", now).input) == "2.5"
    assert table.price("o1-pro", now).output == 600


def test_a_fine_tuned_model_never_has_the_price_of_its_base(table, now):
    """Fine-tuned models have their own list, cached discount included."""
    tuned = table.price("ft:gpt-4o-2024-08-06:acme::Ab12", now)

    assert [str(usd) for usd in (tuned.input, tuned.cached_input, tuned.output)] == [
        *("3.75", "1.875", "15"),
    ]


def test_an_id_tells_the_rates_and_reads_back(table, now):
    """The id is the model, tier, context, place, day and a checksum of the rates themselves."""
    price = table.price("gpt-5.6", now, tier="batch", region="eu", input_tokens=300_000)
    parsed = PriceId.parse(price.id)

    assert str(parsed) == price.id
    assert parsed == PriceId(
        *("openai", "gpt-5.6-sol", "batch", "long", "eu", "2026-08-21", parsed.rates, "alias")
    )
    before = table.price("gpt-5.6", datetime(2026, 8, 20, tzinfo=timezone.utc), tier="batch")
    assert PriceId.parse(before.id).rates != parsed.rates
    assert (
        table.price("gpt-5.6-sol", now, tier="batch").id.partition("~")[0]
        == (table.price("gpt-5.6", now, tier="batch").id.partition("~")[0])
    )
    with pytest.raises(ValueError, match="not the id of a price"):
        PriceId.parse("gpt-4o")

"""A user's own prices: what they cover, what they leave to the list, what is refused."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest

from costtrace.exceptions import PriceTableError
from costtrace.pricing import PriceTable, cost
from costtrace.usage import Usage

MINE = {"input": 3, "output": 12}


def test_a_user_price_covers_a_new_model_and_replaces_a_listed_one(table, now):
    """Prices are given as int, float, str or Decimal, and are exact."""
    mine = table.with_prices(
        {
            "acme-1": {"input": 0.1, "output": "0.40", "cached_input": Decimal("0.025")},
            "gpt-4o": MINE,
        }
    )
    usage = Usage(input_tokens=3, cache_read_tokens=1, output_tokens=1)

    assert cost(usage, mine.price("acme-1", now)) == 2 * 100_000 + 25_000 + 400_000
    assert mine.price("gpt-4o", now).input == 3
    assert mine.price("gpt-4o-2024-08-06", now).input == 3, "an alias of the same model"
    assert mine.price("gpt-4o-2024-05-13", now).input == 5, "a model of its own"
    assert mine.limits("gpt-4o") == table.limits("gpt-4o")
    assert mine.limits("acme-1").max_output_tokens is None
    assert table.price("acme-1", now) is None, "the table it was made from is as before"
    assert str(table.price("gpt-4o", now).input) == "2.5"


def test_what_is_left_out_costs_what_it_would_without_being_special(table, now):
    """Cached, audio and image tokens cost the text price; nothing is ever silently free."""
    price = table.with_prices({"acme-1": MINE}).price("acme-1", now)
    usage = Usage(
        input_tokens=70,
        cache_read_tokens=10,
        cache_write_tokens=40,
        cache_write_1h_tokens=10,
        cache_write_12h_tokens=10,
        audio_input_tokens=10,
        image_input_tokens=10,
        output_tokens=30,
        audio_output_tokens=10,
        image_output_tokens=10,
    )

    assert cost(usage, price) == 70 * 3_000_000 + 30 * 12_000_000


def test_an_unlisted_cache_lifetime_costs_the_dearest_listed_one(table, now):
    """Who gives one write price has not said that the others are cheaper."""
    price = table.with_prices({"acme-1": {**MINE, "cache_write_5m": 4}}).price("acme-1", now)

    assert [price.cache_write_5m, price.cache_write_1h, price.cache_write_12h] == [4, 4, 4]
    undated = Usage(input_tokens=1, cache_write_tokens=1)
    assert cost(undated, price) == 4_000_000


def test_output_without_a_price_is_unknown_and_not_free(table, now):
    """An embedding model has no output price, and a call that brings output has no cost then."""
    price = table.with_prices({"acme-embed": {"input": 1}}).price("acme-embed", now)

    assert cost(Usage(input_tokens=5), price) == 5_000_000
    assert cost(Usage(input_tokens=5, output_tokens=1), price) is None


def test_zero_is_a_price(table, now):
    """A local model is free, which is not the same as unknown."""
    free = table.with_prices({"local": {"input": 0, "output": 0}})

    assert cost(Usage(input_tokens=9, output_tokens=9), free.price("local", now)) == 0


def test_a_user_price_holds_for_every_date_context_and_region(table, now):
    """What somebody negotiated is what they pay; a place adds nothing."""
    mine = table.with_prices({"gpt-6-sol": MINE, "claude-sonnet-4-5": MINE})
    long = Usage(input_tokens=500_000, output_tokens=10)

    for region in ("", "us", "eu"):
        price = mine.price("gpt-6-sol", now, region=region, input_tokens=500_000)
        assert cost(long, price) == 500_000 * 3_000_000 + 10 * 12_000_000
    assert mine.price("us.anthropic.claude-sonnet-4-5-20250929-v1:0", now).input == 3


def test_a_dearer_tier_needs_its_own_user_price(table, now):
    """Cheaper tiers are charged at the user's price; dearer ones are unknown until given."""
    mine = table.with_prices({"gpt-4o": MINE, "acme-1": MINE, "acme-1#priority": {"input": 6}})

    assert mine.price("gpt-4o", now, tier="batch").input == 3
    assert mine.price("gpt-4o", now, tier="flex").input == 3
    assert mine.price("gpt-4o", now, tier="priority") is None
    assert mine.price("acme-1", now, tier="priority").input == 6
    assert mine.price("acme-1", now).input == 3


def test_a_table_on_a_table_keeps_both(table, now):
    """The later one wins where they overlap."""
    both = table.with_prices({"a": MINE, "b": MINE}).with_prices({"b": {"input": 1}}, {"c": "a"})

    assert [both.price(name, now).input for name in "abc"] == [3, 1, 3]
    assert both.models()[:2] == ("a", "b")


def test_aliases_name_deployments(table, now):
    """An alias may stand for a listed model, a user's own, or another alias."""
    mine = table.with_prices(
        {"acme-1": MINE},
        {"prod": "gpt-4o", "mine": "acme-1", "chain": "prod", "gpt-4": "gpt-4-turbo"},
    )

    assert mine.price("prod", now).model == "gpt-4o"
    assert mine.price("prod", now).id.endswith("~user-alias")
    assert mine.price("mine", now).model == "acme-1"
    assert mine.price("chain", now).model == "gpt-4o"
    assert mine.price("gpt-4", now).model == "gpt-4-turbo"
    assert table.with_prices({}, {"gpt-4o": "gpt-4o"}).price("gpt-4o", now).model == "gpt-4o"


def test_a_provider_given_with_the_call_prices_the_tools_of_a_new_model(table, now):
    """A user's model has the tool fees of whoever serves it, the dearest if nobody says who."""
    mine = table.with_prices({"acme-1": MINE})
    searched = Usage(web_search_calls=1, file_search_calls=1)

    assert cost(searched, mine.price("acme-1", now)) == 12_500_000_000
    assert cost(searched, mine.price("acme-1", now, provider="openai")) == 12_500_000_000
    assert cost(searched, mine.price("acme-1", now, provider="anthropic")) is None


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ({"cached": 1, "input": 1}, "'m': unknown price 'cached': valid are input, output, cached"),
        ({"input": -1}, "must not be negative"),
        ({"input": "nan"}, "finite"),
        ({"input": float("inf")}, "finite"),
        ({"input": True}, "bool"),
        ({"input": None}, "NoneType"),
        ({"input": "1 USD"}, "must be a number"),
        ({"input": 1, "output": [2]}, "list"),
        ({"input": 0.0025, "output": 0.01}, "per thousand or per token"),
        ({"input": 1, "output": 0.006}, "'output' of 0.006 is not plausible"),
        ({"input": 0.0000025}, "not plausible"),
        ({"input": 1, "output": 10_001}, "not plausible"),
        ({"output": 3}, "has no price for 'input'"),
        ({}, "has no price for 'input'"),
        (3, "prices must be a table"),
        ({"input": Decimal("1.0000000000001")}, "finer than a picodollar"),
    ],
)
def test_a_wrong_price_is_refused_with_what_is_wrong(table, prices, says):
    """The error names the model, the key and what would be right, and is a ValueError."""
    with pytest.raises(PriceTableError) as caught:
        table.with_prices({"m": prices})

    assert isinstance(caught.value, ValueError)
    assert says in str(caught.value)
    assert "'m'" in str(caught.value)


def test_what_has_no_names_is_refused(table):
    """A list of models, or of aliases, names nothing."""
    with pytest.raises(PriceTableError, match="models must be a mapping by name, not \\['m'\\]"):
        table.with_prices(["m"])
    with pytest.raises(PriceTableError, match="aliases must be a mapping by name, not 5"):
        table.with_prices({"m": {"input": 1, "output": 2}}, aliases=5)


def test_all_that_is_wrong_is_said_at_once(table):
    """One error lists every problem."""
    with pytest.raises(PriceTableError, match=r"'a'.*'x'.*'b'.*negative"):
        table.with_prices({"a": {"input": 1, "x": 2}, "b": {"input": -2}})


@pytest.mark.parametrize("name", ["", " ", 7, "m#scale", "#batch"])
def test_a_wrong_name_is_refused(table, name):
    """A model has a name, and a tier after `#` is a known one."""
    with pytest.raises(PriceTableError):
        table.with_prices({name: MINE})


@pytest.mark.parametrize(
    "aliases",
    [{"a": "nothing-known"}, {"a": "b", "b": "a"}, {"a": "a"}, {"a": 3}, {3: "gpt-4o"}],
)
def test_an_alias_must_lead_to_a_model(table, aliases):
    """An alias of nothing, or of itself, is an error when it is given."""
    with pytest.raises(PriceTableError, match="no known model"):
        table.with_prices({}, aliases)


def test_a_json_file_is_loaded_on_top_of_the_list(tmp_path, now):
    """Numbers in the file are read exactly, not through a binary float."""
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"acme-1": {"input": 0.1, "output": 0.3}}, "aliases": {"p": "o3"}}')

    loaded = PriceTable.load(path)

    assert loaded.price("acme-1", now).input == Decimal("0.1")
    assert loaded.price("p", now).model == "o3"
    assert loaded.price("gpt-4o", now) == PriceTable.bundled().price("gpt-4o", now)
    assert PriceTable.check(str(path)) == ()


def test_a_toml_file_is_loaded_where_python_reads_toml(tmp_path, now):
    """TOML needs Python 3.11; before, the error says so and names JSON."""
    path = tmp_path / "prices.toml"
    path.write_text('[models."acme-1"]\ninput = 0.1\noutput = 2\n[aliases]\np = "acme-1"\n')
    if sys.version_info < (3, 11):
        with pytest.raises(PriceTableError, match=r"needs Python 3\.11.*json"):
            PriceTable.load(path)
        return

    assert PriceTable.load(path).price("p", now).input == Decimal("0.1")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.json", "{", "is not JSON"),
        ("p.json", "[]", "not a list"),
        ("p.json", "{}", "neither models nor aliases"),
        ("p.json", '{"model": {}}', "unknown key 'model': valid are models, aliases"),
        ("p.json", '{"models": []}', "'models' must be a table, not a list"),
        ("p.json", '{"models": {"m": {"input": NaN}}}', "finite"),
        ("p.json", '{"models": {"m": {"input": 1, "input": 2}}}', "'input' stands there twice"),
        ("p.json", '{"models": {"m": {"in": 1}}}', "unknown price 'in'"),
        ("p.json", '{"aliases": {"a": "b"}}', "no known model"),
        ("p.yaml", "models:", ".json or .toml"),
        ("p", "{}", ".json or .toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, name, content, says):
    """The error says which file, and what in it."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(PriceTableError) as caught:
        PriceTable.load(path)

    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_a_broken_toml_file_is_refused_by_name(tmp_path):
    """What is not TOML is an error of the file."""
    path = tmp_path / "p.toml"
    path.write_text("models = [")

    with pytest.raises(PriceTableError, match="is not TOML"):
        PriceTable.load(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    """A path that leads nowhere is not an empty table."""
    with pytest.raises(FileNotFoundError):
        PriceTable.load(tmp_path / "none.json")


def test_checking_a_file_says_what_may_not_be_meant(tmp_path):
    """Valid, but odd: a listed model replaced, cached dearer than input, no output."""
    path = tmp_path / "prices.json"
    odd = {"gpt-4o": {"input": 3, "output": 2, "cached_input": 4}, "acme-1": {"input": 1}}
    path.write_text(json.dumps({"models": odd, "aliases": {"gpt-4": "o3"}}))

    notes = PriceTable.check(path)

    assert [note for note in notes if "cached input costs more" in note]
    assert [note for note in notes if "output costs less" in note]
    assert [note for note in notes if "replaces the listed price" in note]
    assert [note for note in notes if "'acme-1': no price for output" in note]
    assert [note for note in notes if "alias 'gpt-4' hides" in note]

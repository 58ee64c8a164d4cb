"""The table as a whole: its age, what it explains, what changes between two, how light it is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from costtrace.exceptions import StalePricesWarning

HEAVY = ("asyncio", "sqlite3", "http.client", "ssl", "openai", "anthropic", "tiktoken", "wrapt")


def test_the_table_knows_how_old_it_is(table):
    """Age counts from the day on which the prices were put together."""
    assert table.as_of == date(2026, 11, 21)
    assert table.age_on(date(2026, 11, 21)) == 0
    assert table.age_on(date(2027, 2, 19)) == 90
    assert table.age_on(date(2020, 1, 1)) == 0, "a clock that is behind is no age"
    assert table.age_days == table.age_on(datetime.now(timezone.utc).date())
    assert table.with_prices({"a": {"input": 1}}).as_of == table.as_of


def test_the_table_shows_itself(table):
    """Of when it is, and how many models it knows."""
    assert repr(table) == f"<PriceTable of {table.as_of}, {len(table.models())} models>"


def test_old_prices_are_warned_about_once(table):
    """Past 90 days, once for each table."""
    mine = table.with_prices({"a": {"input": 1}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine.warn_if_stale(mine.as_of + timedelta(days=90))
    with pytest.warns(StalePricesWarning, match="2026-11-21, 91 days ago"):
        mine.warn_if_stale(mine.as_of + timedelta(days=91))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine.warn_if_stale(mine.as_of + timedelta(days=92))


def test_every_number_names_a_source(table):
    """Nothing stands in the list that was not read or derived by a published ratio."""
    seen = 0
    for model in table.models():
        for price in table.explain(model).prices:
            assert price.sources, (model, price)
            assert all(len(source) > 12 for source in price.sources), price
            assert price.standing in ("agreed", "single", "derived", "contested")
            assert bool(price.note) == (price.standing == "contested")
            seen += 1
    assert seen >= 1638


def test_a_contested_number_says_who_contests_it(table):
    """A disagreement between the sources stays visible."""
    contested = [p for p in table.explain("gpt-4o-transcribe").prices if p.standing == "contested"]

    assert [(p.part, p.usd) for p in contested] == [("audio_input", Decimal(6))]
    assert "litellm has 2.5" in contested[0].note


def test_a_model_is_explained_with_its_history(table):
    """Rule, periods, multipliers, limits and notes, for a reader."""
    o3 = table.explain("o3-2025-04-16")
    outputs = {
        (p.since, p.until): p.usd for p in o3.prices if (p.part, p.tier) == ("output", "standard")
    }

    assert (o3.model, o3.rule, o3.provider) == ("o3", "alias", "openai")
    assert outputs == {
        (date(2025, 4, 16), date(2025, 6, 10)): 40,
        (date(2025, 6, 10), None): 8,
    }
    sol = table.explain("gpt-6.2-sol")
    assert sol.long_above == 272_000
    assert [m.name for m in sol.multipliers] == ["regional_host"]
    assert sol.limits.max_output_tokens == 128_000
    assert table.explain("claude-haiku-4-5").notes
    assert table.explain("gpt-4o").tools["web_search_preview"] == 25


def test_an_unknown_name_is_explained_as_well(table):
    """Why there is no price: no such model, a known gap, or a gateway's suffix."""
    assert table.explain("gpt-9").model is None
    assert "no listed model" in table.explain("gpt-9").reason
    assert "no price found" in table.explain("gpt-6.2-astra-law").reason
    assert "suffix" in table.explain("openai/gpt-4o:nitro").reason
    assert table.explain("gpt-4o").reason == ""


def test_a_user_price_is_explained_as_one(table):
    """Its source is the user."""
    explained = table.with_prices({"gpt-4o": {"input": 3}}).explain("gpt-4o")

    assert [(p.standing, p.usd) for p in explained.prices] == [("user", 3)]
    assert explained.rule == "user"


def test_a_diff_shows_what_changes(table, now):
    """Prices that differ, are new or are gone, and names that lead elsewhere."""
    mine = table.with_prices(
        {"gpt-4": {"input": 30, "output": 50}, "acme-1": {"input": 1}},
        {"gpt-4o-2024-08-06": "o3", "p": "o3"},
    )
    diff = table.diff(mine, now)
    changes = {(c.model, c.tier, c.part): (c.old, c.new) for c in diff.prices}

    assert changes == {
        ("gpt-4", "standard", "output"): (60, 50),
        ("gpt-4", "batch", "input"): (15, 30),
        ("gpt-4", "batch", "output"): (30, 50),
        ("acme-1", "standard", "input"): (None, 1),
    }
    assert {(a.name, a.old, a.new) for a in diff.aliases} == {
        ("gpt-4o-2024-08-06", "gpt-4o", "o3"),
        ("p", None, "o3"),
    }
    assert not table.diff(table, now)
    back = {(c.model, c.tier, c.part): (c.old, c.new) for c in mine.diff(table, now).prices}
    assert back[("acme-1", "standard", "input")] == (1, None)


def test_a_table_may_be_read_from_many_threads(table, now):
    """The same price from everywhere, also when all of them ask first."""
    fresh = table.with_prices({"a": {"input": 1}})
    names = [*fresh.models(), *fresh.aliases, "unknown"] * 3
    seen: list[list[str | None]] = []

    def ask() -> None:
        prices = [fresh.price(name, now) for name in names]
        seen.append([price and price.id for price in prices])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 8
    assert all(each == seen[0] for each in seen)


def test_names_without_end_do_not_fill_the_memory(table, now):
    """A name comes out of a reply and may be any text; what is remembered has a bound."""
    fresh = table.with_prices({"a": {"input": 1}})
    for number in range(10_000):
        fresh.price(f"made-up-{number}", now)

    assert fresh.price("a", now).input == 1
    assert max(len(v) for v in vars(fresh).values() if isinstance(v, dict)) <= 4096


def test_importing_prices_is_light():
    """Nothing but small parts of the standard library is loaded, and the list is not read yet."""
    code = (
        "import sys, json, costtrace.pricing.table as t;"
        f"print(json.dumps([[m for m in {HEAVY!r} if m in sys.modules],"
        "t.bundled_catalogue.cache_info().currsize]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [[], 0]

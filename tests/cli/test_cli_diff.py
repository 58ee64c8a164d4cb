"""`costtrace diff`: what changed between two ledgers, and the gate."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import Cli

from costtrace import CostLedger, PriceTable

Fill = Callable[..., None]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Write calls of `(function, model, input, output)` to a ledger."""

    def fill(name: str, *calls: tuple[str, str, int, int], prices: PriceTable | None = None):
        with CostLedger(path=tmp_path / name, prices=prices) as ledger:
            for function, model, sent, made in calls:
                ledger.record(model, function, "alice", sent, made)

    return fill


def groups(cli: Cli, *words: str) -> dict[str, dict]:
    document = cli("diff", "a.db", "b.db", "--json", *words).json
    return {row["key"]: row for row in document["groups"]}


def test_doubled_tokens_are_caught(cli: Cli, fill: Fill):
    """The gate names the function, and what it allows; other functions pass."""
    fill("a.db", ("answer", "gpt-4o", 1000, 100), ("search", "gpt-4o", 500, 0))
    fill("b.db", ("answer", "gpt-4o", 2000, 200), ("search", "gpt-4o", 550, 0))

    done = cli("diff", "a.db", "b.db", "--fail-above", "20%")

    assert done.status == 1
    assert done.err == (
        "costtrace: answer: 2,200.0 tokens per call against 1,100.0, +100.0%; "
        "the gate allows +20.0%\n"
    )
    assert "search" in done.out


@pytest.mark.parametrize(("threshold", "status"), [("10%", 0), ("0.1", 0), ("9.99%", 1), ("0", 1)])
def test_the_gate_is_exact(cli: Cli, fill: Fill, threshold: str, status: int):
    """Growth of 10% passes a gate of 10%."""
    fill("a.db", ("answer", "gpt-4o", 1000, 0), ("answer", "gpt-4o", 1000, 0))
    fill("b.db", ("answer", "gpt-4o", 1100, 0))

    assert cli("diff", "a.db", "b.db", "--fail-above", threshold).status == status


def test_more_calls_are_no_growth(cli: Cli, fill: Fill):
    """It is the tokens of one call that are compared."""
    fill("a.db", ("answer", "gpt-4o", 1000, 100))
    fill("b.db", *[("answer", "gpt-4o", 1000, 100)] * 5)

    assert cli("diff", "a.db", "b.db", "--fail-above", "0%").status == 0


def test_new_prices_fail_nobodys_build(cli: Cli, fill: Fill):
    """They are told apart: the change of the cost is all prices."""
    dearer = PriceTable.bundled().with_prices({"gpt-4o": {"input": 5, "output": 20}})
    fill("a.db", ("answer", "gpt-4o", 1000, 100))
    fill("b.db", ("answer", "gpt-4o", 1000, 100), prices=dearer)

    answer = groups(cli)["answer"]

    assert cli("diff", "a.db", "b.db", "--fail-above", "0%").status == 0
    assert answer["cost_per_call_usd"] == ["0.0035", "0.007"]
    assert (answer["by_tokens_usd"], answer["by_models_usd"]) == ("0", "0")
    assert answer["by_prices_usd"] == "0.0035"


def test_another_model_is_told_apart_from_more_tokens(cli: Cli, fill: Fill):
    """Also where the model changed for all calls at once, and the tokens with it."""
    fill("a.db", *[("same", "gpt-4o-mini", 1000, 100), ("both", "gpt-4o-mini", 1000, 100)])
    fill("b.db", *[("same", "gpt-4o", 1000, 100), ("both", "gpt-4o", 2000, 200)])

    found = groups(cli)

    assert found["same"]["by_tokens_usd"] == "0"
    assert found["same"]["by_models_usd"] == "0.00329"
    assert Decimal(found["both"]["by_tokens_usd"]) == Decimal("0.001855")
    assert Decimal(found["both"]["by_models_usd"]) == Decimal("0.004935")


def test_the_parts_sum_to_the_whole(cli: Cli, fill: Fill):
    """Tokens, models and prices, whatever changed together."""
    dearer = PriceTable.bundled().with_prices({"gpt-4o": {"input": 3, "output": 13}})
    fill(
        "a.db",
        *[("f", "gpt-4o", 1000 * i, 10 * i) for i in range(1, 5)],
        *[("f", "gpt-4o-mini", 100 * i, 70 * i) for i in range(1, 5)],
    )
    fill(
        "b.db",
        *[("f", "gpt-4o", 900 * i, 30 * i) for i in range(1, 5)],
        *[("f", "claude-haiku-4-5", 100 * i, 70 * i) for i in range(1, 5)],
        prices=dearer,
    )

    found = groups(cli)["f"]
    before, after = map(Decimal, found["cost_per_call_usd"])
    parts = [Decimal(found[f"by_{part}_usd"]) for part in ("tokens", "models", "prices")]

    assert all(parts)
    assert sum(parts) == after - before


def test_new_and_gone_functions_fail_nothing(cli: Cli, fill: Fill):
    """They are shown."""
    fill("a.db", ("answer", "gpt-4o", 10, 10), ("old", "gpt-4o", 10, 10))
    fill("b.db", ("answer", "gpt-4o", 10, 10), ("new", "gpt-4o", 9000, 10))

    done = cli("diff", "a.db", "b.db", "--fail-above", "1%")

    assert done.status == 0
    assert "gone" in done.out
    assert "new" in done.out


def test_a_gate_that_could_not_compare_fails(cli: Cli, fill: Fill):
    """Nothing in common, or nothing at all: that is no pass."""
    fill("a.db")
    fill("b.db", ("answer", "gpt-4o", 10, 10))

    done = cli("diff", "a.db", "b.db", "--fail-above", "50%")

    assert done.status == 1
    assert "nothing is in both ledgers, so the gate could not compare anything" in done.err
    assert cli("diff", "a.db", "b.db").status == 0


def test_failed_calls_do_not_thin_out_the_others(cli: Cli, tmp_path: Path):
    """A provider's errors have no tokens; they are no calls to compare."""
    for name, errors in (("a.db", 0), ("b.db", 5)):
        with CostLedger(path=tmp_path / name) as ledger:
            ledger.record("gpt-4o", "answer", "alice", 100, 10)
            for _ in range(errors):
                ledger.record("gpt-4o", "answer", "alice", 0, 0, status="error")

    answer = groups(cli)["answer"]

    assert answer["calls"] == [1, 1]
    assert answer["token_growth"] == 0


def test_an_unknown_price_leaves_the_tokens(cli: Cli, tmp_path: Path):
    """The gate works without any price."""
    for name, sent in (("a.db", 100), ("b.db", 200)):
        with CostLedger(path=tmp_path / name) as ledger:
            ledger.record("gpt-4o", "priced", "alice", 1, 1)
            ledger.record("mystery", "answer", "alice", sent, 0, cost_usd="0.5")

    done = cli("diff", "a.db", "b.db", "--fail-above", "20%", "--json")
    (answer, _) = done.json["groups"]

    assert done.status == 1
    assert answer["token_growth"] == 1
    assert answer["by_tokens_usd"] is None


def test_other_groups_can_be_compared(cli: Cli, costs: Path, tmp_path: Path):
    """By user, model, path or tag."""
    for by, keys in (
        ("user_id", {"alice", "bob"}),
        ("tag:team", {"search", ""}),
        ("call_path", {"answer", "summarise"}),
    ):
        found = cli("diff", costs, costs, "--by", by, "--json").json["groups"]
        assert {row["key"] for row in found} == keys


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["costs.db"], "missing: B.db"),
        (["costs.db", "no.db"], "there is no ledger no.db"),
        (["costs.db", "costs.db", "--by", "mood"], "cannot compare by 'mood'; known are"),
        (["costs.db", "costs.db", "--fail-above", "20"], "'20' is no share: write 20% or 0.2"),
        (["costs.db", "costs.db", "--fail-above", "-1%"], "expected one argument"),
    ],
)
def test_wrong_usage_is_explained(cli: Cli, costs: Path, words: list[str], said: str):
    """Status 2, which is not that of a failed gate."""
    done = cli("diff", *words)

    assert (done.status, done.out) == (2, "")
    assert said in done.err

"""What a refusal says: whose limit, how much is left, and what to do about it."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from decimal import Context, Decimal, localcontext

import pytest

from costtrace import (
    BudgetExceededError,
    PriceTable,
    UnknownPriceError,
    budget,
    estimate_cost,
)

REFUSED = BudgetExceededError(
    user_id="alice",
    limit_usd=Decimal("5"),
    spent_usd=Decimal("4.9"),
    reserved_usd=Decimal("0.05"),
    requested_usd=Decimal("0.06"),
    window="month",
    resets_at=datetime(2026, 12, 1, tzinfo=timezone.utc),
    model="gpt-4o-mini",
    function_name="answer",
)


def test_a_refusal_names_the_limit_and_what_is_left():
    """Everything a user of the application may have to be told."""
    assert str(REFUSED) == (
        "budget of user 'alice' exceeded by gpt-4o-mini in answer; the call may cost $0.0600, "
        "$0.0500 of $5.0000 is left ($4.9000 spent, $0.0500 reserved); "
        "resets at 2026-12-01 00:00 UTC"
    )


def test_a_refusal_by_a_hair_shows_the_hair():
    """Rounded to one amount, what is asked for and what is left would look like a fit."""
    tight = BudgetExceededError(
        "bo", Decimal("0.0002"), Decimal("0.0000246"), Decimal(0), Decimal("0.00018225")
    )

    assert "may cost $0.000182, $0.000175 of $0.0002 is left" in str(tight)


def test_a_refusal_of_a_call_made_by_hand_names_no_unknown_model(ledger):
    """What nobody knows is left out of the text."""
    with budget("alice", 1, ledger=ledger) as b, pytest.raises(BudgetExceededError) as refused:
        b.authorize(2)

    assert str(refused.value).startswith("budget of user 'alice' exceeded; the call may cost $2.00")


def test_a_refusal_of_one_dear_call_speaks_of_that_limit_alone(ledger):
    """What is left of a window has nothing to do with it."""
    with pytest.raises(BudgetExceededError) as refused:
        budget("alice", 5, per_call="0.01", ledger=ledger).authorize("0.02")

    assert str(refused.value) == (
        "budget of user 'alice' exceeded; "
        "the call may cost $0.0200, and each $0.0100 at most (per_call)"
    )


def test_what_is_left_does_not_depend_on_the_callers_precision():
    """A program may calculate with three digits of its own."""
    error = BudgetExceededError(
        "bo", Decimal("12.3456"), Decimal("1.00001"), Decimal("0.00001"), Decimal(20)
    )
    with localcontext(Context(prec=3)):
        assert error.remaining_usd == Decimal("11.34558")


@pytest.mark.parametrize(
    "error", [REFUSED, UnknownPriceError("x", "alice"), UnknownPriceError("x", is_limited=False)]
)
def test_errors_come_through_a_pickle_as_they_were(error):
    """A worker process hands them to its parent."""
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_an_estimate_without_a_price_speaks_of_no_budget():
    """Nothing was to be sent, so no limit and no policy has to do with it."""
    with pytest.raises(UnknownPriceError) as unknown:
        estimate_cost("gpt-99", 1, 1)

    assert str(unknown.value) == (
        "no price is known for 'gpt-99': give one with PriceTable.with_prices()"
    )


def test_a_misspelt_model_is_told_what_it_may_have_meant(provider, ledger):
    """Before a call and in an estimate; a model that is known by its name is left as it is."""
    with pytest.raises(UnknownPriceError, match=r"'gpt-4o-mni' \(did you mean 'gpt-4o-mini'\?\)"):
        estimate_cost("gpt-4o-mni", 1, 1)
    with budget("alice", 1, ledger=ledger), pytest.raises(UnknownPriceError) as unknown:
        provider.openai().chat.completions.create(model="gpt-4o-mni", messages=[], max_tokens=5)

    assert unknown.value.similar == "gpt-4o-mini"
    assert provider.requests == []
    assert PriceTable.bundled().similar("gpt-4o-mini") is None

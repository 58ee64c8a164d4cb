"""The most tokens of an image that is generated, as published, and what a budget makes of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, budget
from costtrace.testing import LoopbackProvider
from costtrace.tokens import most_drawn


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        ("low", "1024x1024", 196),  # these three also as billed
        ("low", "2560x1440", 205),
        ("low", "3472x1488", 201),
        ("high", "1024x1024", 7024),
        ("high", "1536x1024", 5488),
        ("high", "1024x1536", 5488),
        ("high", "1792x1024", 5063),
        ("high", "3584x2048", 12329),
    ],
)
def test_gpt_image_2_is_as_its_calculator_says(quality: str, size: str, tokens: int) -> None:
    body = {"quality": quality, "size": size}
    assert most_drawn("gpt-image-2", body) == tokens
    assert most_drawn("gpt-image-2-2026-04-21", body) == tokens
    assert most_drawn("gpt-image-2.5-flare", body) == tokens


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        ("low", "1024x1024", 272),
        ("low", "1536x1024", 400),
        ("medium", "1024x1536", 1584),
        ("high", "1024x1024", 4160),
        ("high", "auto", 6240),
        ("auto", "1024x1024", 4160),
        (None, None, 6240),
    ],
)
@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5-2025-12-16"])
def test_the_first_models_are_as_the_guide_says(
    model: str, quality: str | None, size: str | None, tokens: int
) -> None:
    """What is left to the model counts as the dearest."""
    assert most_drawn(model, {"quality": quality, "size": size}) == tokens


@pytest.mark.parametrize("size", [None, "auto", "huge", "0x0", "12345678x1", 1024, "1024", ["x"]])
def test_a_size_that_says_nothing_is_the_largest(size: Any) -> None:
    """No allowed size takes more tokens than the largest square."""
    assert most_drawn("gpt-image-2", {"size": size}) == 23719
    sides = range(16, 3841, 16)
    allowed = (
        (w, h) for w in sides for h in sides if h <= w <= 3 * h and 655_360 <= w * h <= 8_294_400
    )
    some = list(allowed)[::40]
    assert len(some) > 100
    most = [most_drawn("gpt-image-2", {"size": f"{w}x{h}"}) for w, h in some]
    assert max(filter(None, most)) <= 23719


def test_previews_come_on_top() -> None:
    """A stream may show an image up to three times before it is done, for 100 tokens each."""
    assert most_drawn("gpt-image-1", {"partial_images": 3, "quality": "low"}) == 408 + 300
    assert most_drawn("gpt-image-1", {"partial_images": "3", "quality": "low"}) == 408


@pytest.mark.parametrize(
    ("model", "quality"),
    [("gpt-image-2.5-flare", "max"), ("gpt-image-2.5-sunburst", None), ("dall-e-3", "hd")],
)
def test_what_nobody_has_published_is_not_guessed(model: str, quality: str | None) -> None:
    assert most_drawn(model, {"quality": quality, "size": "1024x1024"}) is None


def test_a_small_budget_has_room_for_an_image(
    provider: LoopbackProvider, ledger: CostLedger
) -> None:
    """What is reserved is the image as asked for, for each of them; a large one does not fit."""
    images, ask = provider.openai(max_retries=0).images, {"model": "gpt-image-2", "prompt": "A cat"}
    with budget("alice", "0.05", ledger=ledger):
        images.generate(**ask, quality="low", size="1024x1024", n=2)
        with pytest.raises(BudgetExceededError):
            images.generate(**ask, quality="high", size="1024x1024")
    assert len(provider.requests) == 1
    (entry,) = ledger.entries
    drawn = Decimal(30) * 2 * 196 / 10**6
    assert drawn < (entry.reserved_usd or 0) < drawn + Decimal("0.001")
    assert (entry.cost_usd or 0) <= (entry.reserved_usd or 0)


def test_an_image_that_is_edited_is_reserved_with_what_is_drawn(
    provider: LoopbackProvider, ledger: CostLedger
) -> None:
    """The picture goes as a file beside the request's JSON, where no text tells of it."""
    images, picture = provider.openai(max_retries=0).images, ("cat.png", b"\x89PNG")
    with budget("alice", "0.05", ledger=ledger), pytest.raises(BudgetExceededError):
        images.edit(model="gpt-image-2", image=picture, prompt="A hat", quality="low")
    with budget("bob", 5, ledger=ledger):
        images.edit(model="gpt-image-2", image=[picture, picture], prompt="A hat", quality="low")
    (entry,) = ledger.entries
    read = Decimal(8) * 2 * 48_600 / 10**6
    assert read < (entry.reserved_usd or 0) < read + Decimal("0.05")

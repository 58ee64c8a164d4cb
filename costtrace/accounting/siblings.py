"""Cheaper models of the same generation, among those that are still served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime

from costtrace.pricing import Limits, Model, PriceTable

_GENERATIONS = (  # a model's plain name -> its generation; other variants are made for other work
    re.compile(r"(?P<generation>gpt-\d+|o\d+)(?:o|\.\d+)?(?:-(?:mini|nano|sol|terra|luna|astra))?"),
    re.compile(
        r"(?P<generation>claude)-(?:opus|sonnet|haiku|fable|mythos)-(?P<number>\d+)(?:-\d+)?"
    ),
)


def generation_of(model: str) -> str | None:
    """Return what `gpt-4o` and `gpt-4.1-mini` have in common; None for a special variant.

    >>> generation_of("gpt-4o"), generation_of("claude-opus-4-8"), generation_of("gpt-audio")
    ('gpt-4', 'claude-4', None)
    """
    for pattern in _GENERATIONS:
        if found := pattern.fullmatch(model):
            return "-".join(found.groups())
    return None


def siblings(
    prices: PriceTable, model: str, now: datetime, *, most_input: int, most_output: int
) -> Iterator[Model]:
    """Yield the other models of its generation that take requests of this size, and go on to."""
    generation = generation_of(model)
    own = prices.find(model)
    if generation is None or own is None:
        return
    for name in prices.models(own.provider):
        other = prices.find(name)
        if other is None or other.id == own.id or generation_of(name) != generation:
            continue
        is_served = not other.shutdown or date.fromisoformat(other.shutdown) > now.date()
        if is_served and other.kind == own.kind and _fits(other.limits, most_input, most_output):
            yield other


def _fits(limits: Limits, most_input: int, most_output: int) -> bool:
    largest = limits.max_input_tokens or limits.context_window
    return (largest is None or most_input <= largest) and (
        limits.max_output_tokens is None or most_output <= limits.max_output_tokens
    )

"""What was worked out is remembered, within bounds."""

from __future__ import annotations

from typing import TypeVar

MOST = 4096
"""Names come from responses and may be any text: what is kept has a bound."""

K = TypeVar("K")
V = TypeVar("V")


def remember(memory: dict[K, V], key: K, value: V) -> V:
    """Keep what was worked out, and return it."""
    if len(memory) >= MOST:
        memory.clear()
    memory[key] = value
    return value

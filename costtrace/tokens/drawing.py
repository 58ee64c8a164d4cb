"""The most tokens of an image that is generated, by the model, its size and its quality.

The first models' figures are those of OpenAI's image generation guide. `gpt-image-2` draws in any
size: OpenAI publishes a calculator in place of a table, and the rule below is what its answers
follow (community.openai.com/t/1382699). It gives each answer in the tests, of which those for
1024x1024, 2560x1440 and 3472x1488 were also seen in bills (QuantumNous/new-api#4474).
"""

from __future__ import annotations

import re
from typing import Any

from costtrace.tokens.reading import Fields, given

_TABLES = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
_TABULATED = re.compile(r"gpt-image-1(\.5|-mini)?(-\d{4}-\d\d-\d\d)?|chatgpt-image-latest")
_CALCULATED = re.compile(r"gpt-image-2(\.5-\w+)?(-\d{4}-\d\d-\d\d)?")
_STEPS = {"low": 16, "medium": 48, "high": 96}
"""Tokens along the longer side. `gpt-image-2.5` has two more qualities, with figures unknown."""
_LARGEST = (2880, 2880)
"""Of 8,294,400 pixels, the most that may be asked for, a square takes the most tokens."""
_AREA_BASE, _AREA_UNIT = 2_000_000, 4_000_000
_PARTIAL_IMAGE = 100
_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")


def most_drawn(model: str, body: Fields) -> int | None:
    """Return the most tokens of each image that a request asks for; None where nobody knows.

    What the request leaves to the model (`auto`) counts as the dearest.
    """
    quality, size = given(body, "quality"), given(body, "size")
    if _TABULATED.fullmatch(model):
        tokens = _tabulated(quality, size)
    elif _CALCULATED.fullmatch(model):
        is_first = not model.startswith("gpt-image-2.")
        steps = _STEPS.get("high" if is_first and quality in (None, "auto") else quality)
        if steps is None:
            return None
        tokens = _calculated(steps, size)
    else:
        return None
    previews = given(body, "partial_images")
    return tokens + _PARTIAL_IMAGE * (previews if type(previews) is int and previews > 0 else 0)


def _tabulated(quality: Any, size: Any) -> int:
    table = _TABLES.get(quality) if isinstance(quality, str) else None
    table = table or _TABLES["high"]
    known = table.get(size) if isinstance(size, str) else None
    return known or max(table.values())


def _calculated(steps: int, size: Any) -> int:
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    width, height = (int(found[1]), int(found[2])) if found else _LARGEST
    longer, shorter = max(width, height), min(width, height)
    across = (2 * steps * shorter + longer) // (2 * longer)  # in proportion, rounded
    return -(-steps * across * (_AREA_BASE + width * height) // _AREA_UNIT)

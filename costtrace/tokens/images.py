"""Tokens of an image, by its size and detail and by the model that looks at it.

OpenAI has two ways: tiles of 512 pixels (GPT-4o, GPT-4.1, GPT-5, o1, o3) and patches of 32 pixels
times a factor (the mini and nano models, o4-mini, GPT-5.2 and later). Claude has patches of 28
pixels. The rules are the providers' vision guides; where users measured less than the guide says,
the guide is followed. An image whose size is not to be seen counts as the largest one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from costtrace.tokens.families import Family
from costtrace.tokens.pixels import Size, size_of

UNKNOWN_MODEL = (
    48_600  # 30,000 patches, the most that is accepted, times 1.62; any tile rule is less
)


@dataclass(frozen=True, slots=True)
class Tiles:
    """A base, and so much for each square of 512 pixels after the image was made to fit."""

    base: int
    tile: int

    def tokens(self, size: Size | None, detail: str) -> int:
        """Tokens of an image of `size` (None: not known) looked at with `detail`."""
        if detail == "low":
            return self.base
        return self.base + self.tile * (8 if size is None else _tiles(size))


@dataclass(frozen=True, slots=True)
class Patches:
    """A factor for each square of 32 pixels, of an image made to fit each detail's limits."""

    factor: float
    high: tuple[int, int]  # patches, pixels of the longer side
    original: tuple[int, int] | None = None
    auto: str = "high"  # what "auto", and no detail, mean
    low: int | None = None  # pixels of the square that "low" fits into; None: as "high"

    def tokens(self, size: Size | None, detail: str) -> int:
        """Tokens of an image of `size` (None: not known) looked at with `detail`."""
        detail = detail if detail in ("low", "high", "original") else self.auto
        budget, side = self.original if detail == "original" and self.original else self.high
        if detail == "low" and self.low is not None:
            budget, side = (self.low // 32) ** 2, self.low
        patches = budget if size is None else _patches(size, budget, side)
        return math.ceil(patches * self.factor)


Rule = Tiles | Patches

_SMALL = (1536, 2048)
_MIDDLE = (2500, 2048)
_LARGE = (10_000, 6000)
_WHOLE = (30_000, 65_535)

_RULES: tuple[tuple[str, Rule], ...] = (  # pattern of the bare name; the first that matches wins
    (r"gpt-4o-mini", Tiles(2833, 5667)),
    (r"gpt-4\.1-mini", Patches(1.62, _SMALL)),
    (r"gpt-4\.1-nano", Patches(2.46, _SMALL)),
    (r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-)", Tiles(85, 170)),
    (r"o4-mini", Patches(1.72, _SMALL)),
    (r"(o1|o3)\b", Tiles(75, 150)),
    (r"computer-use", Tiles(65, 129)),
    (r"gpt-5(\.\d)?-nano", Patches(2.46, _SMALL)),
    (r"gpt-5(\.\d)?(-codex)?-mini", Patches(1.62, _SMALL)),
    (r"gpt-5(\.1)?(?![\d.])", Tiles(70, 140)),
    (r"gpt-5\.[23](?!\d)", Patches(1.2, _SMALL)),
    (r"gpt-5\.4(?!\d)", Patches(1.2, _MIDDLE, _LARGE, "high", 512)),
    (r"gpt-5\.5(?!\d)", Patches(1.2, _MIDDLE, _LARGE, "original", 512)),
    (r"gpt-(5\.\d|[6-9])", Patches(1.2, (2500, 65_535), _WHOLE, "original", 512)),
)
_COMPILED = tuple((re.compile(pattern), rule) for pattern, rule in _RULES)

_OLD_CLAUDE = (1568, 1568)  # patches of 28 pixels, pixels of the longer side
_CLAUDE = (4784, 2576)
_MARGIN = 48  # the guide's other formula, width x height / 750, comes out a little higher


def image_rule(family: Family) -> Rule | None:
    """Return OpenAI's rule for the images of a model; None where none is known."""
    return next((rule for pattern, rule in _COMPILED if pattern.match(family.name)), None)


def image_tokens(family: Family, source: str | None, detail: str = "auto") -> int:
    """Return the tokens of one image, at most: of its true size if `source` holds the image.

    `source` is a data URL or bare base64; None, an address or a file's id say nothing of its size,
    and the largest image of that detail is assumed.
    """
    size = None if source is None else size_of(source)
    if family.is_claude:
        return _claude_tokens(family, size)
    rule = image_rule(family)
    return UNKNOWN_MODEL if rule is None else rule.tokens(size, detail)


def _claude_tokens(family: Family, size: Size | None) -> int:
    budget, side = _OLD_CLAUDE if family.is_old_claude else _CLAUDE
    if size is None:
        return budget + _MARGIN
    width, height = _fit(size, side)
    patches = math.ceil(width / 28) * math.ceil(height / 28)
    area = math.ceil(width * height / 750)
    return min(max(patches, area), budget) + (_MARGIN if max(patches, area) > budget else 0)


def _tiles(size: Size) -> int:
    width, height = _fit(size, 2048)
    shrink = min(1.0, 768 / min(width, height))
    return math.ceil(width * shrink / 512) * math.ceil(height * shrink / 512)


def _patches(size: Size, budget: int, side: int) -> int:
    width, height = _fit(size, side)
    patches = math.ceil(width / 32) * math.ceil(height / 32)
    if patches <= budget:
        return patches
    shrink = math.sqrt(1024 * budget / (width * height))
    columns, rows = width * shrink / 32, height * shrink / 32
    shrink *= min(math.floor(columns) / columns, math.floor(rows) / rows)
    columns, rows = math.floor(width * shrink), math.floor(height * shrink)
    return min(budget, max(1, math.ceil(columns / 32) * math.ceil(rows / 32)))


def _fit(size: Size, side: int) -> tuple[float, float]:
    """Shrink to `side` pixels on the longer side, never enlarge."""
    shrink = min(1.0, side / max(size))
    return max(1.0, size[0] * shrink), max(1.0, size[1] * shrink)

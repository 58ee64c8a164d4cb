"""Counting without any vocabulary: an estimate from the shape of the text.

A byte pair encoder splits a text into words, numbers, signs and blanks before it merges anything,
and that split needs no vocabulary. What merging then makes of a word depends on its length and its
script, and the weights below say how much. They were fitted on human rights texts in twenty
languages, Markdown, Python, C, JSON, HTML, numbers, hexadecimal and base64, so that the encoders
stay below the estimate on each (base64 and hexadecimal come out up to 15 % too low): prose and code
are 5 to 50 % too high. Words of random letters or rare Chinese signs can have up to three times the
estimate; nothing but the vocabulary tells.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

_ASCII, _LONG = bytes(range(128)), 1_000
PIECE_CHARS = 100_000  # one encoder call gets at most this much; see `cut`

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_DIGITS = re.compile(r"[0-9]{1,3}")
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]+")
_BLANKS = re.compile(r"\s{2,}|[^\S ]| (?=[0-9])")
_SCRIPTS = (  # quarters of a token for a letter: with o200k, with the older vocabularies
    (re.compile(r"[\x80-\u08ff]+"), 2, 5),  # Latin with accents, Greek, Cyrillic, Hebrew, Arabic
    (re.compile(r"[\u0900-\u0fff]+"), 3, 7),  # the scripts of India and South East Asia
    (re.compile(r"[\u1000-\u2fff]+"), 9, 12),  # Ethiopic, Khmer, signs and arrows
    (re.compile(r"[\u3000-\ud7ff]+"), 5, 7),  # Chinese, Japanese, Korean
    (re.compile(r"[\ud800-\U0010ffff]+"), 10, 14),  # emoji and everything rare
)


def estimate(text: str, *, is_old: bool = False) -> int:
    """Return how many tokens `text` has, erring upwards; never more than its UTF-8 bytes.

    `is_old` is for the vocabularies before o200k, which need more for anything but English.
    """
    return sum(_estimate(piece, is_old) for piece in cut(text))


def _estimate(piece: str, is_old: bool) -> int:
    is_english = piece.isascii()
    quarters = sum(_word(match, is_english) for match in _WORD.findall(piece))
    quarters += 4 * len(_DIGITS.findall(piece))
    quarters += sum(1 + 3 * len(match) for match in _SIGNS.findall(piece))
    quarters += sum(4 + len(match) // 4 for match in _BLANKS.findall(piece))
    if not is_english:
        for script, new, old in _SCRIPTS:
            weight = old if is_old else new
            quarters += sum(2 + weight * len(match) for match in script.findall(piece))
    return min(max(1, -(-quarters // 4)), utf8_length(piece))


def _word(word: str, is_english: bool) -> int:
    """Quarters of a token for a run of letters, case as an encoder would split it."""
    length = len(word)
    if word.isupper():
        return 3 + 3 * length // 2
    if length <= 4:
        return 4
    if length > 18:  # no word: letters in a row
        return 2 * length
    return 2 + length // 2 if is_english else 5 * length // 4


def utf8_length(text: str) -> int:
    """Return the length of `text` in UTF-8; half of a surrogate pair counts as three bytes."""
    if text.isascii():
        return len(text)
    if len(text) >= _LONG and sys.getsizeof(text) < 1.5 * len(text):  # it is Latin-1, one byte each
        return len(text) + len(text.encode("latin-1").translate(None, _ASCII))  # in half the time
    return len(text.encode("utf-8", "surrogatepass"))


def cut(text: str) -> Iterator[str]:
    """Yield `text` in pieces of at most `PIECE_CHARS`, cut where an encoder would cut as well.

    An encoder looks for its longest match in one go: a megabyte of blanks makes it panic, one of a
    single letter makes it slow. A cut before a blank that a word follows changes no count; where
    there is none, a cut costs a token or two.
    """
    start = 0
    while len(text) - start > PIECE_CHARS:
        end = start + PIECE_CHARS
        blank = text.rfind(" ", start + PIECE_CHARS // 2, end)
        if blank > 0 and not text[blank + 1].isspace():
            end = blank
        yield text[start:end]
        start = end
    yield text[start:] if start else text

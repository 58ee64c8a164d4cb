"""Usage: what one call consumed, in one vocabulary for every provider."""

from __future__ import annotations

from dataclasses import dataclass, fields

from costtrace.records import quickly_made


def _count(name: str, count: object) -> int:
    """Return a count as a plain int, also one of a kind of its own, such as a `TokenCount`."""
    if type(count) is not int:
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"{name} must be an int, not {type(count).__name__} {count!r}")
        count = int(count)
    if count < 0:
        raise ValueError(f"{name} must not be negative, but is {count}")
    return count


@quickly_made(check=_count, unless="type({0}) is int and {0} >= 0")
@dataclass(frozen=True, slots=True)
class Usage:
    """What one call consumed; every count is an int >= 0.

    `input_tokens` is everything sent and `output_tokens` everything generated; the other token
    counts are parts of these two. Text is what is left when the parts are taken off.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """All cache writes; the lifetimes below split it as far as the provider says."""
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_30m_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    audio_cache_read_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    image_cache_read_tokens: int = 0
    web_search_calls: int = 0
    web_search_preview_calls: int = 0
    file_search_calls: int = 0
    images: int = 0
    """Generated images, where they are priced each."""
    seconds: int = 0
    """Seconds of audio or video, where they are priced by time."""
    characters: int = 0
    """Characters of text, where speech is priced by them."""

    @property
    def total_tokens(self) -> int:
        """Tokens sent plus tokens generated."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in _COUNTS))


_COUNTS = tuple(field.name for field in fields(Usage))

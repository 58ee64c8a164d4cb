"""A sum that remembers how it came about: the counting side of a `TokenCount`."""

from __future__ import annotations

from costtrace.tokens.counts import TokenCount
from costtrace.tokens.encoding import Tokenizer, tokenizer
from costtrace.tokens.families import Family, family


class Tally:
    """Tokens so far, whether all of them follow exact rules, and what had to be left out."""

    __slots__ = ("counter", "family", "is_exact", "left_out", "tokens")

    def __init__(self, model: str) -> None:
        self.family: Family = family(model)
        self.counter: Tokenizer = tokenizer(model)
        self.is_exact = self.counter.is_exact
        self.tokens = 0
        self.left_out: dict[str, None] = {}  # a set that keeps its order

    def text(self, text: object) -> None:
        """Add a text; anything else that is no text counts nothing."""
        if isinstance(text, str):
            self.tokens += self.counter.count(text)

    def rule_of_thumb(self, tokens: int = 0) -> None:
        """Add tokens that no published rule gives."""
        self.tokens += tokens
        self.is_exact = False

    def leave_out(self, what: str) -> None:
        """Note something that nobody can count from here."""
        self.left_out[what] = None
        self.is_exact = False

    def total(self) -> TokenCount:
        """Return the count."""
        method = self.counter.method
        if not self.is_exact and method.startswith("tiktoken:"):
            method += "+rules"
        if self.left_out:
            method += "; left out: " + ", ".join(self.left_out)
        return TokenCount(self.tokens, exact=self.is_exact, method=method)

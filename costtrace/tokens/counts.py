"""What a count is: a number of tokens that says how it was found."""

from __future__ import annotations


class TokenCount(int):
    """A number of tokens; an `int` in every respect, plus how far it can be trusted.

    `exact` is True where every part was counted by a rule that is published and was found to agree
    with what the provider bills. `method` names the way: `"tiktoken:o200k_base"`, `"count_tokens"`
    (the provider's own endpoint), `"estimate:claude"`, `"estimate:pieces"` (no vocabulary at hand),
    `"bound:bytes"`; with `"+rules"` where rules of thumb filled in, and `"; left out: ..."` for
    what could not be counted at all.

    >>> TokenCount(12, exact=True, method="tiktoken:o200k_base") + 1
    13
    """

    exact: bool
    method: str

    def __new__(cls, value: int, *, exact: bool = False, method: str = "estimate") -> TokenCount:
        count = super().__new__(cls, value)
        count.exact = exact
        count.method = method
        return count

    def __repr__(self) -> str:
        return int.__repr__(self)

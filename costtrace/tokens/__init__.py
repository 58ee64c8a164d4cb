"""Tokens before the call: counts, upper bounds, and making things fit.

Nothing here downloads anything inside a call, imports an SDK, or keeps a text. What is exact and
what is an estimate is said by each `TokenCount`. The parts are loaded when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.lazy import lazily

if TYPE_CHECKING:
    from costtrace.tokens.bounds import unbounded_reason, upper_bound
    from costtrace.tokens.counting import (
        acount_input_tokens,
        acount_message_tokens,
        acount_tokens,
        aexact,
        count_input_tokens,
        count_message_tokens,
        count_output,
        count_tokens,
        exact,
    )
    from costtrace.tokens.counts import TokenCount
    from costtrace.tokens.drawing import most_drawn
    from costtrace.tokens.trim import trim_messages, truncate_text
    from costtrace.tokens.vocabulary import TokenizerStatus, fetch, tokenizers

__all__ = [
    "TokenCount",
    "TokenizerStatus",
    "acount_input_tokens",
    "acount_message_tokens",
    "acount_tokens",
    "aexact",
    "count_input_tokens",
    "count_message_tokens",
    "count_output",
    "count_tokens",
    "exact",
    "fetch",
    "most_drawn",
    "tokenizers",
    "trim_messages",
    "truncate_text",
    "unbounded_reason",
    "upper_bound",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "TokenCount": "counts",
        "TokenizerStatus": "vocabulary",
        "acount_input_tokens": "counting",
        "acount_message_tokens": "counting",
        "acount_tokens": "counting",
        "aexact": "counting",
        "count_input_tokens": "counting",
        "count_message_tokens": "counting",
        "count_output": "counting",
        "count_tokens": "counting",
        "exact": "counting",
        "fetch": "vocabulary",
        "most_drawn": "drawing",
        "tokenizers": "vocabulary",
        "trim_messages": "trim",
        "truncate_text": "trim",
        "unbounded_reason": "bounds",
        "upper_bound": "bounds",
    },
)

"""Tokens before the call: counts, upper bounds, and making things fit.

Nothing here downloads anything inside a call, imports an SDK, or keeps a text. What is exact and
what is an estimate is said by each `TokenCount`. The parts are loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # for a type checker it is True; typing itself takes longer than all of this
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
    "tokenizers",
    "trim_messages",
    "truncate_text",
    "unbounded_reason",
    "upper_bound",
]

_MODULES = {
    "TokenCount": "counts",
    "TokenizerStatus": "vocabulary",
    "fetch": "vocabulary",
    "tokenizers": "vocabulary",
    "trim_messages": "trim",
    "truncate_text": "trim",
    "unbounded_reason": "bounds",
    "upper_bound": "bounds",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES.get(name, 'counting')}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

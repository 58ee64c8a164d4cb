"""Which family a model belongs to, read from its name: tokenizer, framing, generation.

Names come as people write them: with a provider in front (`openai/gpt-4o`,
`us.anthropic.claude-sonnet-4-5-20250929-v1:0`), fine-tuned (`ft:gpt-4o:acme::7p4`), dated, or as a
deployment name that tells nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

ENCODINGS = (  # prefix of the bare name -> encoding; the first that matches wins
    ("gpt-4o", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
    ("codex-mini", "o200k_base"),
    ("gpt-oss", "o200k_harmony"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),  # how Azure writes it
    ("text-embedding-3", "cl100k_base"),
    ("text-embedding-ada-002", "cl100k_base"),
    ("davinci-002", "cl100k_base"),
    ("babbage-002", "cl100k_base"),
    ("text-davinci-003", "p50k_base"),
    ("text-davinci-002", "p50k_base"),
    ("code-davinci", "p50k_base"),
    ("code-cushman", "p50k_base"),
    ("text-davinci-001", "r50k_base"),
    ("text-curie", "r50k_base"),
    ("text-babbage", "r50k_base"),
    ("text-ada", "r50k_base"),
)
NEWEST = "o200k_base"  # taken for a name nobody knows, and the count is marked

_CLAUDE = re.compile(r"claude|anthropic")
_OLD_CLAUDE = re.compile(
    r"claude-(?:instant|v?[123](?!\d))"
    r"|claude-(?:opus|sonnet|haiku)-4(?:[.-][0-6](?!\d)|[@:]|-\d{8}|-latest|$)"
    r"|claude-4(?:[.-][0-6](?!\d))?-(?:opus|sonnet|haiku)"
)


@dataclass(frozen=True, slots=True)
class Family:
    """What a model's name tells about how its tokens are counted."""

    name: str  # bare and lower case: "gpt-4o-2024-08-06"
    encoding: str
    encoding_is_known: bool
    is_claude: bool
    is_old_claude: (
        bool  # up to Opus 4.6, Sonnet 4.6, Haiku 4.5: fewer tokens for a text, smaller images
    )
    message_tokens: int  # framing of one chat message
    name_tokens: int  # added where a message has a `name`
    is_framing_verified: bool  # the chat rules were published for it and reproduce what is billed


def bare_name(model: str) -> str:
    """Return `model` without provider, fine-tune and upper case.

    >>> bare_name("openai/ft:gpt-4.1-mini-2025-04-14:acme::BX")
    'gpt-4.1-mini-2025-04-14'
    """
    name = model.strip().lower().rsplit("/", 1)[-1]
    if name.startswith("ft:"):
        name = name.split(":", 2)[1]
    return name


@lru_cache(maxsize=512)
def family(model: str) -> Family:
    """Return the family of `model`; a name that tells nothing counts as the newest OpenAI kind."""
    name = bare_name(model)
    is_claude = _CLAUDE.search(name) is not None
    known = next((encoding for prefix, encoding in ENCODINGS if name.startswith(prefix)), None)
    is_first = name == "gpt-3.5-turbo-0301"
    return Family(
        name=name,
        encoding=known or NEWEST,
        encoding_is_known=known is not None and not is_claude,
        is_claude=is_claude,
        is_old_claude=is_claude and _OLD_CLAUDE.search(name) is not None,
        message_tokens=4 if is_first else 3,
        name_tokens=-1 if is_first else 1,
        is_framing_verified=_has_verified_framing(name),
    )


def _has_verified_framing(name: str) -> bool:
    if any(word in name for word in ("audio", "realtime", "search", "transcribe", "tts", "vision")):
        return False
    return name.startswith(("gpt-3.5-turbo", "gpt-35-turbo", "gpt-4o")) or (
        name.startswith("gpt-4") and not name.startswith(("gpt-4.",))
    )

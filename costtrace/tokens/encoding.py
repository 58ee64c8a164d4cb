"""Tokens of a text: tiktoken where its vocabulary is on this machine, a marked estimate elsewhere.

Nothing is ever downloaded here, and no text makes it fail: special tokens are counted as the text
they are, hostile texts are cut into pieces.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from costtrace.forklock import ForkLock
from costtrace.tokens.counts import TokenCount
from costtrace.tokens.families import Family, family
from costtrace.tokens.memory import CountMemory
from costtrace.tokens.pieces import cut, estimate, utf8_length
from costtrace.tokens.vocabulary import FILES, is_cached

if TYPE_CHECKING:
    import tiktoken

# What Claude needs for a text, in hundredths of what o200k_base needs. Measured with its count
# endpoint on code and prose by others: 118 up to Opus 4.6, Sonnet 4.6 and Haiku 4.5, 153 with the
# tokenizer of Opus 4.7 and all later ones (which makes of English prose 120 to 147 % of what the
# older one makes, of code 113 to 139 %, of Chinese, Korean, Russian and Arabic 100 %). A sixth is
# added, so that the estimate errs upwards: prose is about 15 % over, code and JSON 2 to 15 %.
OLD_CLAUDE_PERCENT = 140
CLAUDE_PERCENT = 180

REMEMBERED = 32_768  # texts whose count is kept; about 6 MB when full


class Tokenizer:
    """Counts the tokens of texts for one family; remembers what it counted.

    `is_exact` tells that the vocabulary is known to be the model's own and is loaded.
    """

    __slots__ = ("_encoder", "_family", "_memory", "is_exact", "method")

    def __init__(self, family: Family, encoder: tiktoken.Encoding | None) -> None:
        self._family = family
        self._encoder = encoder
        self._memory = _memory(family.encoding, encoder is not None)
        self.is_exact = encoder is not None and family.encoding_is_known
        self.method = _method(family, encoder)

    def count(self, text: str) -> int:
        """Return the tokens of `text`: counted, or estimated where that is all one can do."""
        tokens = self._remembered(text)
        if not self._family.is_claude:
            return tokens
        percent = OLD_CLAUDE_PERCENT if self._family.is_old_claude else CLAUDE_PERCENT
        return min(-(-tokens * percent // 100), utf8_length(text))

    def _remembered(self, text: str) -> int:
        key = (hash(text), len(text))  # a str keeps its own hash: the same text again costs nothing
        tokens = self._memory.get(key)
        if tokens is None:
            tokens = self._counted(text)
            self._memory.put(key, tokens)
        return tokens

    def _counted(self, text: str) -> int:
        if self._encoder is not None:
            tokens = encode_length(text, self._encoder)
            if tokens is not None:
                return tokens
        return estimate(text, is_old=not self._family.encoding.startswith("o200k"))


def tokenizer(model: str) -> Tokenizer:
    """Return the tokenizer for `model`; loads the vocabulary (0.2 to 0.4 s) the first time."""
    kind = family(model)
    return Tokenizer(kind, encoder(kind.encoding))


def count_text(text: str, model: str) -> TokenCount:
    """Return the tokens of `text` for `model`, without asking any provider."""
    counter = tokenizer(model)
    return TokenCount(counter.count(text), exact=counter.is_exact, method=counter.method)


def encode_length(text: str, encoder: tiktoken.Encoding) -> int | None:
    """Return how many tokens `encoder` makes of `text`; None where it gives up."""
    try:
        return sum(len(encoder.encode_ordinary(piece)) for piece in cut(text))
    except BaseException as error:  # the Rust code's panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        return None


def encoder(name: str) -> tiktoken.Encoding | None:
    """Return tiktoken's encoder called `name`; None unless it can be had without a download."""
    loaded = _encoders.get(name)
    if loaded is not None:
        return loaded
    if name in _useless or not is_cached(name):
        return _loaded_by_others(name)
    with _loading.now:
        if name not in _encoders and not _under_way:
            _under_way.append(name)
            try:
                _load(name)
            finally:
                _under_way.clear()
        return _encoders.get(name)


def _load(name: str) -> None:
    try:
        import tiktoken  # here: it takes 30 ms, and only counting needs it

        _encoders[name] = tiktoken.get_encoding(name)
    except Exception:  # not installed, or broken by a plugin of its own: the estimate is left
        _useless.add(name)


def _loaded_by_others(name: str) -> tiktoken.Encoding | None:
    """An encoder that the program itself has loaded needs no file any more."""
    import sys

    registry = sys.modules.get("tiktoken.registry")
    found: tiktoken.Encoding | None = getattr(registry, "ENCODINGS", {}).get(name)
    return found


def _method(family: Family, encoder: tiktoken.Encoding | None) -> str:
    if family.is_claude:
        return "estimate:claude"
    if encoder is None:
        return "estimate:pieces"
    return f"tiktoken:{family.encoding}"


def _memory(encoding: str, is_loaded: bool) -> CountMemory:
    key = (encoding, is_loaded)
    if key not in _memories:
        _memories.setdefault(key, CountMemory(REMEMBERED))
    return _memories[key]


_encoders: dict[str, tiktoken.Encoding] = {}
_useless: set[str] = set()
_loading = ForkLock()
_under_way: list[str] = []  # not empty for the handler of a signal that broke into loading
_memories: dict[tuple[str, bool], CountMemory] = {}


def _after_fork_in_child() -> None:
    """Go on without what another thread of the parent was loading.

    tiktoken's own lock is never given back: in this process nothing is loaded any more, and what
    is not there is estimated.
    """
    if _under_way:
        _under_way.clear()
        _useless.update(FILES)


os.register_at_fork(after_in_child=_after_fork_in_child)

"""The vocabulary files of tiktoken on this machine: which are here, and fetching one on request.

tiktoken downloads a missing file on first use, without a time-out, and deletes and downloads again
one whose hash is wrong. Neither may happen inside a call, so the files are checked here first, by
the rules tiktoken itself follows, and only a file that it will accept is handed to it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from costtrace.forklock import ForkLock
from costtrace.tokens.families import ENCODINGS

_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # as published
    sha256: str  # of the content tiktoken accepts

    @property
    def url(self) -> str:
        return _SOURCE + self.name

    @property
    def cache_name(self) -> str:
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()


_P50K = _File(
    "p50k_base.tiktoken", "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069"
)
_O200K = _File(
    "o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
)
FILES = {  # encoding -> its file
    "o200k_base": _O200K,
    "o200k_harmony": _O200K,
    "cl100k_base": _File(
        "cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
    ),
    "p50k_base": _P50K,
    "p50k_edit": _P50K,
    "r50k_base": _File(
        "r50k_base.tiktoken", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    ),
}


@dataclass(frozen=True, slots=True)
class TokenizerStatus:
    """One encoding and its vocabulary file on this machine."""

    name: str
    file: Path | None  # None where caching is switched off
    cached: bool  # the file is there and is the right one
    bytes: int  # its size; 0 if it is not there
    models: tuple[str, ...]  # prefixes of the names of models that use it


def cache_folder() -> Path | None:
    """Return the folder where tiktoken looks for its files; None where its cache is switched off.

    `TIKTOKEN_CACHE_DIR`, else `DATA_GYM_CACHE_DIR`, else `data-gym-cache` in the temporary folder;
    an empty variable switches the cache off.
    """
    import tempfile  # here: it takes longer to import than the rest of this package

    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable]) if os.environ[variable] else None
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def cached_file(encoding: str) -> Path | None:
    """Return where the file of `encoding` belongs, whether it is there or not."""
    folder = cache_folder()
    return None if folder is None else folder / FILES[encoding].cache_name


_checked: dict[tuple[str, int, int], bool] = {}  # (path, size, mtime) -> its hash is right
_checked_lock = ForkLock()


def is_cached(encoding: str) -> bool:
    """Tell whether tiktoken can load `encoding` from its cache, without any download.

    Reads and hashes a file once (about 10 ms), then again only when its size or time changed.
    """
    path = cached_file(encoding)
    if path is None:
        return False
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_size == 0:
        return False
    key = (str(path), found.st_size, found.st_mtime_ns)
    with _checked_lock.now:
        if key not in _checked:
            _checked[key] = _has_hash(path, FILES[encoding].sha256)
        return _checked[key]


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def tokenizers() -> list[TokenizerStatus]:
    """List the encodings that models use, and whether their vocabulary is on this machine."""
    return [_status(name) for name in FILES if name != "p50k_edit"]


def _status(encoding: str) -> TokenizerStatus:
    path = cached_file(encoding)
    size = path.stat().st_size if path is not None and path.is_file() else 0
    models = tuple(prefix for prefix, name in ENCODINGS if name == encoding)
    return TokenizerStatus(encoding, path, is_cached(encoding), size, models)


def fetch(
    name: str,
    progress: Callable[[int, int | None], object] | None = None,
    *,
    timeout_s: float = 30.0,
) -> Path:
    """Download the vocabulary of one encoding into tiktoken's cache; return the file.

    The only function here that uses the network, and only on request. `progress` is called with
    the bytes so far and the total (None if the server does not say). The content is checked before
    it takes its place in one step, so that nobody ever sees half a file. Raises `ValueError` for an
    unknown name, for a cache that is switched off and for a wrong content, `OSError` (`URLError`,
    `TimeoutError`) where the server does not answer within `timeout_s`.
    """
    if name not in FILES:
        raise ValueError(f"no tokenizer is called {name!r}; there are {', '.join(sorted(FILES))}")
    path = cached_file(name)
    if path is None:
        raise ValueError("tiktoken's cache is switched off: TIKTOKEN_CACHE_DIR is empty")
    if is_cached(name):
        return path
    content = b"".join(_download(FILES[name].url, progress, timeout_s))
    if hashlib.sha256(content).hexdigest() != FILES[name].sha256:
        raise ValueError(f"{FILES[name].url} sent something else than the vocabulary of {name}")
    _write(path, content)
    return path


def _download(
    url: str, progress: Callable[[int, int | None], object] | None, timeout_s: float
) -> Iterator[bytes]:
    import urllib.request  # here: it loads ssl and http, and only a request on purpose needs it

    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        received = 0
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            yield chunk
            if progress is not None:
                progress(received, total)


def _write(path: Path, content: bytes) -> None:
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise

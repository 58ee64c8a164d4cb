"""How large the files of a request are, without reading them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any


def upload_size(files: Any) -> int | None:
    """Return the bytes of all files in an SDK's options; None where one does not say."""
    total = 0
    for content in _contents(files):
        size = _size(content)
        if size is None:
            return None
        total += size
    return total


def _contents(files: Any) -> Iterator[Any]:
    """Yield what is uploaded: a file is bytes, an open file, a path, or (name, content, ...)."""
    pairs = files.items() if isinstance(files, Mapping) else files or ()
    for _, file in pairs:
        yield file[1] if isinstance(file, tuple) else file


def _size(content: Any) -> int | None:
    if isinstance(content, (bytes, bytearray, memoryview, str)):
        return len(content)
    try:
        if isinstance(content, os.PathLike):
            return os.stat(content).st_size
        if content.seekable():
            here = content.tell()
            end: int = content.seek(0, os.SEEK_END)
            content.seek(here)
            return end
    except (AttributeError, OSError, ValueError):
        pass
    return None

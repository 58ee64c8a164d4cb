"""Where the tests find the vocabulary files of tiktoken: on this machine, else inside a wheel.

The files themselves come from a host that many networks do not let through; the package index,
which any installation needs anyway, has a pure Python package that carries two of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

FILES = {  # name in tiktoken's cache -> SHA-256 of the content
    # cl100k_base
    "9b5ad71b2ce5302211f9c61530b329a4922fc6a4": (
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
    ),
    # o200k_base
    "fb374d419588a4632f3f557e76b4b70aebbca790": (
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
    ),
}
WHEEL = "llama-index-core==0.14.25"
FOLDER_IN_WHEEL = "llama_index/core/_static/tiktoken_cache/"


def vocabulary() -> Path:
    """Return a folder that holds the files; fetch them once per user if no cache has them."""
    for folder in _caches():
        if _is_complete(folder):
            return folder
    own = _own_cache()
    own.mkdir(parents=True, exist_ok=True)
    with open(own / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test processes: one downloads, the others wait
        if not _is_complete(own):
            _fetch(own)
    return own


def _caches() -> Iterator[Path]:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    yield Path(tempfile.gettempdir()) / "data-gym-cache"
    yield _own_cache()


def _own_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "costtrace-tests" / "tiktoken"


def _is_complete(folder: Path) -> bool:
    return all(_has_hash(folder / name, sha256) for name, sha256 in FILES.items())


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--ignore-requires-python", "-d", temporary, WHEEL]
        subprocess.run(command, check=True, timeout=300)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                draft = folder / f"{name}.draft"
                draft.write_bytes(archive.read(FOLDER_IN_WHEEL + name))
                draft.replace(folder / name)
    if not _is_complete(folder):
        raise RuntimeError(f"{WHEEL} holds other vocabulary files than expected")

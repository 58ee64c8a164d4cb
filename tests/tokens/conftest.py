"""The vocabulary of tiktoken for every test here, and a provider to ask."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from costtrace.testing import LoopbackProvider


@pytest.fixture(scope="session")
def vocabulary_folder() -> Path:
    """A folder with the vocabulary of o200k_base and cl100k_base."""
    source = Path(__file__).parents[1] / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("vocabulary", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.vocabulary()
    return folder


@pytest.fixture(autouse=True)
def _vocabulary(vocabulary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(vocabulary_folder))


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A provider that answers real SDK clients on this machine."""
    with LoopbackProvider() as running:
        yield running

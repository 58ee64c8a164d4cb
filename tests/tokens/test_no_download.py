"""Vocabulary files: only from tiktoken's cache, never fetched inside a call."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from costtrace.tokens import fetch, tokenizers, vocabulary

O200K = "fb374d419588a4632f3f557e76b4b70aebbca790"
CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"

COUNT_ALL = """
import time
from costtrace.tokens import (
    count_input_tokens, count_message_tokens, count_output, count_tokens, exact, tokenizers,
    trim_messages, truncate_text, upper_bound)
start = time.perf_counter()
messages = [{"role": "user", "content": "Why is the sky blue, and the grass green? " * 20}]
for model in ("gpt-4o", "gpt-4", "gpt-9", "claude-opus-5", "text-davinci-003"):
    count = count_tokens("Why is the sky blue? " * 20, model)
    assert not count.exact and count.method.startswith("estimate:"), count.method
    assert 100 <= count <= 420, (model, count)
    assert not count_message_tokens(messages, model).exact
    count_input_tokens("Why?", model)
    count_output("Why?", model)
    trim_messages(messages, 1000, model)
    assert len(truncate_text("word " * 1000, 100, model)) > 100
    body = {"model": model, "messages": messages}
    assert exact(body, "chat", "openai") == upper_bound(body, "chat", "openai")
assert not any(status.cached for status in tokenizers())
assert time.perf_counter() - start < 10, "something waited for the network"
import sys
print("tiktoken" in sys.modules, "requests" in sys.modules)
"""


def run(code: str, **environment: str) -> str:
    """Run `code` in an interpreter of its own, where any download would fail loudly."""
    closed = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), closed)
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **proxies, "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "TMPDIR"])
def test_empty_cache_gives_marked_estimates(variable: str, tmp_path: Path) -> None:
    """Without vocabulary everything still counts, at once; tiktoken is not even imported."""
    environment = {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    if variable != "TIKTOKEN_CACHE_DIR":
        os.environ.pop("TIKTOKEN_CACHE_DIR", None)
        environment = {variable: str(tmp_path)}

    assert run(COUNT_ALL, **environment) == "False False"


def test_cache_that_is_switched_off_gives_marked_estimates() -> None:
    """An empty variable makes tiktoken download each time; here it means no vocabulary."""
    assert run(COUNT_ALL, TIKTOKEN_CACHE_DIR="") == "False False"


@pytest.mark.parametrize("content", [b"", b"half of a vocabul"])
def test_broken_file_is_neither_used_nor_deleted(content: bytes, tmp_path: Path) -> None:
    """tiktoken would delete such a file and download it again, without a time-out."""
    for name in (O200K, CL100K):
        (tmp_path / name).write_bytes(content)

    assert run(COUNT_ALL, TIKTOKEN_CACHE_DIR=str(tmp_path)) == "False False"
    assert (tmp_path / O200K).read_bytes() == content


def test_cached_vocabulary_is_loaded_without_network(vocabulary_folder: Path) -> None:
    """With the files there, counts are exact, proxies or not."""
    code = """
from costtrace.tokens import count_tokens
import sys
assert "tiktoken" not in sys.modules
count = count_tokens("tiktoken is great!", "gpt-4o")
print(int(count), count.exact, count.method)
"""

    assert run(code, TIKTOKEN_CACHE_DIR=str(vocabulary_folder)) == "6 True tiktoken:o200k_base"


def test_encoder_that_the_program_has_loaded_is_used(
    vocabulary_folder: Path, tmp_path: Path
) -> None:
    """Once tiktoken has it in memory, its file is not needed any more."""
    code = f"""
import os, tiktoken
tiktoken.get_encoding("o200k_base")
os.environ["TIKTOKEN_CACHE_DIR"] = {str(tmp_path)!r}
from costtrace.tokens import count_tokens
print(count_tokens("tiktoken is great!", "gpt-4o").exact)
"""

    assert run(code, TIKTOKEN_CACHE_DIR=str(vocabulary_folder)) == "True"


def test_import_is_cheap_and_loads_nothing() -> None:
    """Neither tiktoken nor an SDK, nor what takes long in the standard library."""
    code = """
import sys, time
import costtrace
start = time.perf_counter()
import costtrace.tokens
print(time.perf_counter() - start)
slow = {"tiktoken", "openai", "anthropic", "requests", "regex", "asyncio", "json", "urllib.request"}
print(sorted(slow & sys.modules.keys()))
costtrace.tokens.upper_bound
costtrace.tokens.count_tokens
print(sorted((slow - {"json"}) & sys.modules.keys()))
"""

    took: list[float] = []
    while len(took) < 10 and min(took, default=1) >= 0.03:  # a busy machine gets more attempts
        seconds, *loaded = run(code).split("\n")
        assert loaded == ["[]", "[]"]
        took.append(float(seconds))
    assert min(took) < 0.03


def test_status_lists_what_is_cached(vocabulary_folder: Path) -> None:
    """Name, file, size and models of each vocabulary."""
    by_name = {status.name: status for status in tokenizers()}
    o200k = by_name["o200k_base"]

    assert o200k.cached
    assert o200k.file == vocabulary_folder / O200K
    assert o200k.bytes == 3_613_922
    assert "gpt-4o" in o200k.models
    assert by_name["cl100k_base"].cached
    assert {"r50k_base", "p50k_base", "o200k_harmony"} <= by_name.keys()


def test_status_of_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is there, and the list says where it would be."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    status = next(status for status in tokenizers() if status.name == "cl100k_base")

    assert (status.cached, status.bytes) == (False, 0)
    assert status.file == tmp_path / "none" / CL100K
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert all(status.file is None and not status.cached for status in tokenizers())


class _Files(http.server.BaseHTTPRequestHandler):
    content: bytes = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Files]]:
    """A server on this machine in place of the one that publishes the files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(vocabulary, "_SOURCE", folder)
    yield _Files
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetch_brings_a_file_with_progress(
    source: type[_Files],
    vocabulary_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On request the file is downloaded, checked and put in place in one step."""
    source.content = (vocabulary_folder / CL100K).read_bytes()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "new"))
    seen: list[tuple[int, int | None]] = []

    path = fetch("cl100k_base", lambda done, total: seen.append((done, total)))

    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(source.content).digest()
    assert seen[-1] == (1_681_126, 1_681_126)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert list(path.parent.iterdir()) == [path]
    source.content = b""
    assert fetch("cl100k_base") == path


def test_fetch_refuses_another_content(
    source: type[_Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not the vocabulary never reaches the cache."""
    source.content = b"<html>Sign in to the network</html>"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    with pytest.raises(ValueError, match="sent something else than the vocabulary of o200k_base"):
        fetch("o200k_base")
    assert list(tmp_path.iterdir()) == []


def test_fetch_fails_in_words_and_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name, no cache to put it, nobody who answers."""
    with pytest.raises(ValueError, match="no tokenizer is called 'gpt-4o'; there are cl100k_base"):
        fetch("gpt-4o")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(ValueError, match="cache is switched off"):
        fetch("o200k_base")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(vocabulary, "_SOURCE", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    start = time.perf_counter()
    with pytest.raises(URLError):
        fetch("o200k_base", timeout_s=2)
    assert time.perf_counter() - start < 5

"""The README's code runs as it stands, against the loopback provider."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import costtrace
from costtrace.testing import LoopbackProvider, Reply

README = Path(__file__).parent.parent / "README.md"


def test_every_code_block_runs(
    provider: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In order, in one namespace, as a reader would type them."""
    provider.default = Reply(input_tokens=12, output_tokens=8)
    monkeypatch.chdir(tmp_path)
    for name, value in provider.environ().items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    namespace: dict[str, object] = {"__name__": "readme"}
    try:
        for block in blocks:
            exec(compile(block, str(README), "exec"), namespace)
        assert costtrace.ledger.spent(function_name="answer_question") > 0
    finally:
        costtrace.configure()
    assert len(blocks) >= 9


def test_both_commands_are_there():
    """The continuous integration runs them by these markers."""
    text = README.read_text()
    for command in ("demo", "tests"):
        assert re.search(rf"<!-- command: {command} -->\n```sh\n.+\n```", text)

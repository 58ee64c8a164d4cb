"""The README's code runs as it stands, against the loopback provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
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
    for command in ("demo", "tests", "workers"):
        assert re.search(rf"<!-- command: {command} -->\n```sh\n(.+\n)+```", text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_four_workers_share_a_budget_on_a_server(
    provider: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """The README's worker, four times at once: its limit holds to the last call that fits."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stores"))
    import homes

    provider.default = Reply(input_tokens=12, output_tokens=300)
    worker = re.search(
        r"<!-- file: worker.py -->\n```py\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert worker
    (tmp_path / "worker.py").write_text(worker[1])
    homes.empty_home(kind, "costtrace", tmp_path)
    if kind == "postgres":
        where = {"COSTS_POSTGRES": homes.started_postgres().dsn}
    else:
        where = {"COSTS_REDIS": f"redis://127.0.0.1:{homes.started_redis().port}"}
    environment = {**os.environ, **provider.environ(), **where, "PYTHONPATH": str(README.parent)}
    for name in ("COSTTRACE_DB", "COSTTRACE_DISABLED"):
        environment.pop(name, None)

    workers = [
        subprocess.Popen([sys.executable, "worker.py"], cwd=tmp_path, env=environment)
        for _ in range(4)
    ]
    try:
        assert [each.wait(timeout=120) for each in workers] == [0] * 4
    finally:
        for each in workers:
            each.kill()
            each.wait()
    said = subprocess.run(
        [sys.executable, "-m", "costtrace", "budgets", "--store", "worker:open_store", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=True,
    )

    (alice,) = json.loads(said.stdout)["budgets"]
    spent, each_call = Decimal(alice["spent_usd"]), Decimal("0.0001818")
    assert spent == each_call * len(provider.requests)
    assert Decimal("0.01") - 4 * Decimal("0.0006") < spent <= Decimal("0.01")
    assert Decimal(alice["reserved_usd"]) == 0

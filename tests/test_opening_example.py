"""The opening example as a script of its own: exact, continued by the next run, and limited."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from costtrace import CostLedger
from costtrace.testing import LoopbackProvider, Reply

SCRIPT = """
import sys
from openai import OpenAI
from costtrace import budget, configure, tracked
import costtrace

configure(path="costs.db", budget_usd=50)

@tracked(function_name="answer_question")
def answer(question):
    return OpenAI(max_retries=0).chat.completions.create(model="gpt-4o-mini", max_tokens=300,
                                            messages=[{"role": "user", "content": question}])

with budget("alice", sys.argv[1], window="month") as b:
    answer("Why is the sky blue?")
    print(b.spent_usd, b.reserved_usd, b.remaining_usd)

costtrace.ledger.report()
"""
COST = Decimal("0.000081")  # 100 tokens at 0.15 and 110 at 0.60 USD per million


def run(folder: Path, provider: LoopbackProvider, limit: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, limit],
        cwd=folder,
        env={**os.environ, **provider.environ(), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_each_run_continues_the_users_spend(provider: LoopbackProvider, tmp_path: Path):
    """Exact costs; the second process goes on; past the limit nothing more is sent."""
    provider.default = Reply(input_tokens=100, output_tokens=110)
    for n in (1, 2):
        done = run(tmp_path, provider, "5")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == f"{COST * n} 0 {5 - COST * n}"
        assert "answer_question" in done.stdout

    refused = run(tmp_path, provider, "0.0003")  # less than is left after the worst case
    assert refused.returncode != 0
    assert "BudgetExceededError" in refused.stderr
    assert len(provider.requests) == 2
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        assert ledger.spent(user_id="alice", function_name="answer_question") == 2 * COST
        assert ledger.verify() == []

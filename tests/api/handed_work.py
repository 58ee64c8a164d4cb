"""What a queue's worker does in a process of its own with the headers that came with a message."""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI

from costtrace import BudgetExceededError, CostLedger, HandoffError, budget, resume, tracked


@tracked(function_name="summarize")
def summarize(model: str = "gpt-4o-mini") -> None:
    client: Any = OpenAI(max_retries=0)
    client.chat.completions.create(
        model=model, max_tokens=20, messages=[{"role": "user", "content": "hi"}]
    )


def work(ledger_path: str, sent: dict[str, str], limit: str | None = None) -> str:
    """Do one message's work; return what became of it."""
    with CostLedger(path=ledger_path) as ledger:
        try:
            serve(ledger, sent, limit)
        except (HandoffError, BudgetExceededError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return "done"


def serve(ledger: CostLedger, sent: dict[str, str], limit: str | None) -> None:
    receive = tracked(function_name="receive", tags={"host": "worker"}, ledger=ledger)

    @receive
    def received() -> None:
        with resume(sent):
            if limit is None:
                summarize()
            else:
                with budget("alice", limit, window="day"):
                    summarize()

    received()


if __name__ == "__main__":
    print(work(sys.argv[1], *json.loads(sys.argv[2])))

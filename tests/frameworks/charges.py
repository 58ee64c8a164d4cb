"""What a test of a framework expects: what was called, by whom, and that it cost what it did."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, budget
from costtrace.testing import LoopbackProvider

GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
COSTS = {GPT: Decimal("0.000027"), CLAUDE: Decimal("0.0002")}
"""Of 100 tokens in and 20 out, which the provider of these tests bills for each call."""


def charged(ledger: CostLedger, provider: LoopbackProvider) -> list[tuple[str, str, str, bool]]:
    """Return operation, model, function and whether it was streamed, of each call of alice's.

    Each must be exact, and one request that the provider has billed.
    """
    for entry in ledger.entries:
        assert (entry.status, entry.grade, entry.user_id) == ("ok", "reported", "alice")
        assert (entry.prompt_tokens, entry.completion_tokens) == (100, 20)
        assert entry.cost_usd == COSTS[entry.model]
    assert len(ledger.entries) == len(provider.model_calls)
    return [(e.operation, e.model, e.function_name, e.streamed) for e in ledger.entries]


def refused(
    ask: Callable[[], Any],
    provider: LoopbackProvider,
    ledger: CostLedger,
    wrapped_in: type[BaseException] | None = None,
) -> None:
    """Assert that a call without any budget left is refused, and that nothing was sent.

    The error is ours, or one of the framework's that was raised from it.
    """
    with (
        pytest.raises(wrapped_in or BudgetExceededError) as caught,
        budget("alice", 0, ledger=ledger),
    ):
        ask()
    error: BaseException | None = caught.value
    while wrapped_in is not None and isinstance(error, wrapped_in):
        error = error.__cause__
    assert isinstance(error, BudgetExceededError)
    assert (provider.model_calls, len(ledger.entries)) == ([], 0)

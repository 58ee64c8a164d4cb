"""Where the bound of a prompt's bytes would refuse an honest call, the provider may be asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from costtrace import BudgetExceededError, CostLedger, budget, estimate_cost
from costtrace.testing import LoopbackProvider, Reply

PROMPT = "The quick brown fox jumps over the lazy dog. " * 200
MESSAGES = [{"role": "user", "content": PROMPT}]
CLAUDE = "claude-haiku-4-5"
ROOMY = estimate_cost(CLAUDE, len(PROMPT) // 2, 100)  # more than is counted, less than the bytes


def paths(provider: LoopbackProvider) -> list[str]:
    return [request.path for request in provider.requests]


@pytest.fixture
def claude(provider: LoopbackProvider) -> Any:
    return provider.anthropic(max_retries=0)


def ask(client: Any, **options: Any) -> Any:
    return client.messages.create(
        **{"model": CLAUDE, "max_tokens": 100, "messages": MESSAGES, **options}
    )


def test_a_call_that_fits_by_the_providers_count_is_sent(
    provider: LoopbackProvider, claude: Any, ledger: CostLedger
):
    """Asked once, and only because the bytes would have refused it; the limit holds."""
    with pytest.raises(BudgetExceededError), budget("alice", ROOMY, ledger=ledger):
        ask(claude)
    assert paths(provider) == []

    with budget("alice", ROOMY, ledger=ledger, ask_provider=True) as b:
        ask(claude)

    assert paths(provider) == ["/v1/messages/count_tokens", "/v1/messages"]
    assert b.spent_usd <= ROOMY
    assert len(ledger.entries) == 1


def test_far_from_the_limit_nobody_is_asked(
    provider: LoopbackProvider, claude: Any, ledger: CostLedger
):
    """It would cost a round trip and change nothing."""
    with budget("alice", 5, ledger=ledger, ask_provider=True):
        ask(claude)

    assert paths(provider) == ["/v1/messages"]


def test_a_call_that_does_not_fit_by_any_count_is_refused(
    provider: LoopbackProvider, claude: Any, ledger: CostLedger
):
    """The question was free; nothing that is paid for was sent."""
    little = estimate_cost(CLAUDE, 100, 100)
    with pytest.raises(BudgetExceededError), budget("alice", little, ledger=ledger, ask_provider=1):
        ask(claude)

    assert paths(provider) == ["/v1/messages/count_tokens"]
    assert provider.model_calls == []


def test_an_async_client_is_awaited(provider: LoopbackProvider, ledger: CostLedger):
    """Through the same client, on its own loop."""

    async def main() -> None:
        client = provider.async_anthropic(max_retries=0)
        async with client, budget("alice", ROOMY, ledger=ledger, ask_provider=True):
            await ask(client)

    asyncio.run(main())

    assert paths(provider) == ["/v1/messages/count_tokens", "/v1/messages"]


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=404), Reply(body=b"no json")])
def test_without_an_answer_the_bytes_decide(
    provider: LoopbackProvider, claude: Any, ledger: CostLedger, reply: Reply
):
    """A count endpoint that fails changes no call's outcome; it is asked once."""
    provider.on("/v1/messages/count_tokens", reply)
    with pytest.raises(BudgetExceededError), budget("alice", ROOMY, ledger=ledger, ask_provider=1):
        ask(claude)

    assert paths(provider) == ["/v1/messages/count_tokens"]

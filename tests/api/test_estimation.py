"""What a call will cost, before it is made: at most, and going by the calls before it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from costtrace import (
    BudgetExceededError,
    CostLedger,
    Usage,
    aestimate,
    budget,
    configure,
    count_message_tokens,
    estimate,
    tracked,
)
from costtrace.testing import LoopbackProvider

MINI, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}


def test_input_is_counted_by_the_published_rules(ledger: CostLedger):
    """As `count_message_tokens` counts, and the number says how it was found."""
    found = estimate(MINI, ASK, 50, ledger=ledger)

    assert found.input_tokens == count_message_tokens(ASK, MINI) == 13
    assert found.input_tokens.exact
    assert estimate(MINI, "Why is the sky blue?", 50, ledger=ledger) == found


def test_the_worst_case_is_what_a_budget_needs(openai_client: Any, ledger: CostLedger):
    """A budget of just that much lets the call through, one of a picodollar less does not."""
    worst = estimate(MINI, ASK, 50, ledger=ledger).worst_usd
    assert worst is not None

    def ask() -> None:
        openai_client.chat.completions.create(model=MINI, messages=ASK, max_tokens=50)

    with (
        budget("poor", worst - Decimal("1e-12"), ledger=ledger),
        pytest.raises(BudgetExceededError),
    ):
        ask()
    with budget("alice", worst, ledger=ledger):
        ask()
    (entry,) = ledger.entries
    assert entry.reserved_usd == worst


def test_without_a_limit_the_model_has_its_own(ledger: CostLedger):
    """And no limit of a caller's reaches further than that."""
    own = estimate(MINI, ASK, ledger=ledger)

    assert own.max_tokens == 16_384
    assert estimate(MINI, ASK, 1_000_000, ledger=ledger).worst_usd == own.worst_usd


def test_tools_are_part_of_the_input(ledger: CostLedger):
    """They are sent with every call."""
    plain, with_tools = (
        estimate(MINI, ASK, 50, tools=tools, ledger=ledger) for tools in (None, [TOOL])
    )

    assert with_tools.input_tokens > plain.input_tokens
    assert with_tools.worst_usd is not None
    assert plain.worst_usd is not None
    assert with_tools.worst_usd > plain.worst_usd


def test_nothing_is_expected_without_history(ledger: CostLedger):
    """A number that rests on nothing is not given."""
    ledger.record(MINI, "other", "alice", 1_000, 100)
    found = estimate(MINI, ASK, 50, ledger=ledger, function_name="answer")

    assert (found.expected_usd, found.based_on_calls) == (None, 0)
    assert (found.mean_output_tokens, found.cached_share) == (None, None)


def test_the_expectation_is_the_functions_own_history(ledger: CostLedger):
    """The mean output of its calls of this model, and the share of its input that was cached."""
    ledger.record(MINI, "answer", "alice", 1_000, 10, usage=Usage(1_000, 10, 500))
    ledger.record(MINI, "answer", "bob", 1_000, 30, usage=Usage(1_000, 30, 500))
    ledger.record(MINI, "other", "bob", 1_000, 400)
    ledger.record("gpt-4o", "answer", "bob", 1_000, 400)
    found = estimate(MINI, ASK, 50, ledger=ledger, function_name="answer")

    assert (found.based_on_calls, found.function_name) == (2, "answer")
    assert (found.mean_output_tokens, found.cached_share) == (20, 0.5)
    # 13 tokens sent, of which 6 cached: 7 at 0.15, 6 at 0.075, and 20 at 0.60 per million
    assert found.expected_usd == Decimal("0.0000135")


def test_outputs_of_the_past_are_cut_at_the_limit(ledger: CostLedger):
    """What the call cannot generate is not expected of it."""
    ledger.record(MINI, "answer", "alice", 1_000, 10)
    ledger.record(MINI, "answer", "alice", 1_000, 1_000)
    found = estimate(MINI, ASK, 30, ledger=ledger, function_name="answer")

    assert found.mean_output_tokens == 20


def test_cache_writes_are_expected_too(ledger: CostLedger):
    """They are dearer than the input that is not written."""
    usage = Usage(input_tokens=1_000, output_tokens=20, cache_write_tokens=1_000)
    ledger.record(CLAUDE, "search", "alice", 1_000, 20, usage=usage)
    found = estimate(CLAUDE, "x" * 4_000, 1_000, ledger=ledger, function_name="search")

    # every token written at 1.25, and 20 generated at 5 USD per million
    written = int(found.input_tokens) * Decimal("0.00000125")
    assert found.expected_usd == written + Decimal("0.0001")


def test_searches_are_expected_too(ledger: CostLedger):
    """Half a search for each call, where every other call made one."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    for searches in (0, 1):
        usage = Usage(1_000, 20, web_search_calls=searches)
        ledger.record(CLAUDE, "search", "alice", 1_000, 20, usage=usage)
    found = estimate(CLAUDE, "Hi", 100, tools=tools, ledger=ledger, function_name="search")

    # each token at 1, 20 generated at 5 USD per million, half a search at 10 USD per thousand
    sent = int(found.input_tokens) * Decimal("0.000001")
    assert found.expected_usd == sent + Decimal("0.0001") + Decimal("0.005")


def test_only_answered_calls_tell_what_to_expect(ledger: CostLedger):
    """Errors cost nothing and worst cases cost too much: neither is what a call does."""
    ledger.record(MINI, "answer", "alice", 0, 0, status="error")
    ledger.record(MINI, "answer", "alice", 9, 9_000, status="partial", grade="assumed")
    assert estimate(MINI, ASK, ledger=ledger, function_name="answer").expected_usd is None

    ledger.record("gpt-4o-mini-2024-07-18", "answer", "alice", 13, 5)
    found = estimate(MINI, ASK, ledger=ledger, function_name="answer")
    assert (found.based_on_calls, found.mean_output_tokens) == (1, 5)


def test_the_latest_calls_count(ledger: CostLedger):
    """What a function did a thousand calls ago it may not do any more."""
    for made in [1_000] * 5 + [10] * 1_000:
        ledger.record(MINI, "answer", "alice", 13, made)
    found = estimate(MINI, ASK, ledger=ledger, function_name="answer")

    assert (found.based_on_calls, found.mean_output_tokens) == (1_000, 10)


def test_inside_of_a_function_its_own_calls_count(openai_client: Any):
    """And outside of any, all of the model's, of the process's own ledger."""
    ledger = configure()
    ledger.record(MINI, "other", "alice", 13, 40)

    @tracked(function_name="answer")
    def answer() -> tuple[int, int]:
        before = estimate(MINI, ASK, 50).based_on_calls
        openai_client.chat.completions.create(model=MINI, messages=ASK, max_tokens=50)
        return before, estimate(MINI, ASK, 50).based_on_calls

    assert answer() == (0, 1)
    everyones = estimate(MINI, ASK, 50)
    assert (everyones.based_on_calls, everyones.function_name) == (2, None)


def test_the_provider_is_asked_only_through_a_client(
    anthropic_client: Any, ledger: CostLedger, provider: LoopbackProvider
):
    """Claude's count endpoint is free; without a client nothing is sent at all."""
    alone = estimate(CLAUDE, ASK, 50, ledger=ledger)
    assert provider.requests == []
    assert not alone.input_tokens.exact

    asked = estimate(CLAUDE, ASK, 50, ledger=ledger, client=anthropic_client)
    assert asked.input_tokens.exact
    assert {request.path for request in provider.requests} == {"/v1/messages/count_tokens"}
    assert len(ledger.entries) == 0


def test_a_system_message_is_bounded_for_claude_too(anthropic_client: Any, ledger: CostLedger):
    """The bound holds for what is really billed."""
    asked = [{"role": "system", "content": "Be brief."}, *ASK]
    worst = estimate(CLAUDE, asked, 20, ledger=ledger).worst_usd
    with budget("alice", ledger=ledger) as b:
        anthropic_client.messages.create(
            model=CLAUDE, max_tokens=20, system="Be brief.", messages=ASK
        )
        assert worst is not None
        assert b.spent_usd <= worst


def test_an_unknown_price_is_no_number(ledger: CostLedger):
    """Neither the worst case nor an expectation is made up."""
    found = estimate("my-own-model", ASK, 50, ledger=ledger)

    assert (found.worst_usd, found.expected_usd) == (None, None)
    assert str(found).endswith("input tokens, of unknown cost")


def test_it_says_all_of_it_in_one_line(ledger: CostLedger):
    """What is exact, what is an estimate, and what it rests on."""
    assert str(estimate(MINI, ASK, 50, ledger=ledger)) == (
        "gpt-4o-mini: 13 input tokens, at most $0.000032 with 50 output tokens"
    )
    ledger.record(MINI, "answer", "alice", 13, 20)
    assert str(estimate(MINI, ASK, 50, ledger=ledger, function_name="answer")).endswith(
        ", $0.000014 expected, going by its latest call of 'answer'"
    )
    assert str(estimate(CLAUDE, ASK, 50, ledger=ledger)).startswith("claude-haiku-4-5: about ")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((7, ASK), TypeError, "model must be a str"),
        ((MINI, []), ValueError, "messages must not be empty"),
        ((MINI, ["a?", "b?"]), TypeError, "one conversation, not 2"),
        ((MINI, ASK, -1), ValueError, "max_tokens must not be negative"),
        ((MINI, ASK, 1.5), TypeError, "max_tokens must be an int"),
        ((MINI, ASK, True), TypeError, "max_tokens must be an int"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: tuple[Any, ...], error: type[Exception], says: str, ledger: CostLedger
):
    """What is wrong, and what would be right."""
    with pytest.raises(error, match=says):
        estimate(*arguments, ledger=ledger)


def test_an_async_client_cannot_be_waited_for(provider: LoopbackProvider, ledger: CostLedger):
    """It says so; nothing is left unawaited."""

    async def work() -> None:
        client = provider.async_anthropic()
        try:
            estimate(CLAUDE, "Is this one asked?", 50, ledger=ledger, client=client)
        finally:
            await client.close()

    with pytest.raises(TypeError, match="the client is async"):
        asyncio.run(work())


def test_an_async_client_is_awaited(provider: LoopbackProvider, ledger: CostLedger):
    """The same estimate as with a sync client; without a client nothing is sent."""

    async def work() -> tuple[Any, Any]:
        async with provider.async_anthropic() as client:
            alone = await aestimate(CLAUDE, ASK, 50, ledger=ledger)
            assert provider.requests == []
            return alone, await aestimate(CLAUDE, ASK, 50, ledger=ledger, client=client)

    alone, asked = asyncio.run(work())

    assert alone == estimate(CLAUDE, ASK, 50, ledger=ledger)
    assert asked == estimate(CLAUDE, ASK, 50, ledger=ledger, client=provider.anthropic())
    assert asked.input_tokens.exact

"""The path of one call: scope, reservation, request, usage, price, entry, restored SDK."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from patched import sdk_methods

from costtrace import BudgetExceededError, CostLedger, active, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
# 100 input and 20 output tokens at the list prices of each model, in USD
GPT = Decimal("0.000027")  # gpt-4o-mini: 0.15 and 0.60 per million
CLAUDE = Decimal("0.0002")  # claude-haiku-4-5: 1 and 5 per million
EMBEDDING = Decimal("0.000002")  # text-embedding-3-small: 0.02 per million


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, **more)


def test_a_chat_is_entered_under_its_function_and_user(openai_client: Any, any_ledger: CostLedger):
    """One call is one entry, with the exact cost of its reported usage."""

    @tracked(function_name="answer")
    def answer() -> None:
        chat(openai_client, max_tokens=50)

    with budget("alice", 1, ledger=any_ledger) as b:
        answer()
        assert (b.spent_usd, b.reserved_usd, b.remaining_usd) == (GPT, 0, 1 - GPT)

    (entry,) = any_ledger.entries
    assert (entry.function_name, entry.user_id, entry.call_path) == ("answer", "alice", ("answer",))
    assert (entry.cost_usd, entry.grade, entry.status) == (GPT, "reported", "ok")
    assert (entry.provider, entry.operation, entry.model) == ("openai", "chat", "gpt-4o-mini")
    assert (entry.prompt_tokens, entry.completion_tokens) == (100, 20)
    assert entry.reserved_usd is not None
    assert entry.reserved_usd > GPT


@pytest.mark.parametrize(
    ("operation", "cost", "call"),
    [
        ("chat", GPT, lambda c, a: chat(c)),
        ("chat", GPT, lambda c, a: list(chat(c, stream=True))),
        ("responses", GPT, lambda c, a: c.responses.create(model="gpt-4o-mini", input="hi")),
        (
            "responses",
            GPT,
            lambda c, a: list(c.responses.create(model="gpt-4o-mini", input="hi", stream=True)),
        ),
        (
            "embeddings",
            EMBEDDING,
            lambda c, a: c.embeddings.create(model="text-embedding-3-small", input="hi"),
        ),
        (
            "messages",
            CLAUDE,
            lambda c, a: a.messages.create(model="claude-haiku-4-5", max_tokens=99, messages=ASK),
        ),
        (
            "messages",
            CLAUDE,
            lambda c, a: list(
                a.messages.create(
                    model="claude-haiku-4-5", max_tokens=99, messages=ASK, stream=True
                )
            ),
        ),
    ],
)
@pytest.mark.parametrize("limit", [None, 5])
def test_each_operation_is_priced_exactly(
    operation: str,
    cost: Decimal,
    call: Any,
    limit: int | None,
    openai_client: Any,
    anthropic_client: Any,
    ledger: CostLedger,
):
    """With and without a limit, plain and streamed: one entry, exact."""
    with budget("alice", limit, ledger=ledger) as b:
        call(openai_client, anthropic_client)
        assert b.spent_usd == cost

    (entry,) = ledger.entries
    assert (entry.operation, entry.cost_usd, entry.grade) == (operation, cost, "reported")
    assert entry.status == "ok"


def test_async_calls_of_both_sdks_are_entered(provider: LoopbackProvider, any_ledger: CostLedger):
    """The async clients, plain and streamed, under one budget."""

    @tracked(function_name="ask")
    async def ask(openai_client: Any, anthropic_client: Any) -> None:
        await chat(openai_client)
        async for _ in await chat(openai_client, stream=True):
            pass
        await anthropic_client.messages.create(
            model="claude-haiku-4-5", max_tokens=99, messages=ASK
        )
        async with anthropic_client.messages.stream(
            model="claude-haiku-4-5", max_tokens=99, messages=ASK
        ) as stream:
            async for _ in stream:
                pass

    async def main() -> None:
        async with (
            provider.async_openai() as c,
            provider.async_anthropic() as a,
            budget("alice", 1, ledger=any_ledger) as b,
        ):
            await ask(c, a)
            assert b.spent_usd == 2 * GPT + 2 * CLAUDE
            assert b.reserved_usd == 0

    asyncio.run(main())

    assert [e.function_name for e in any_ledger.entries] == ["ask"] * 4
    assert {e.status for e in any_ledger.entries} == {"ok"}


def test_a_refused_call_sends_nothing(
    openai_client: Any, provider: LoopbackProvider, any_ledger: CostLedger
):
    """Past the limit the provider sees no further request, and no entry is made."""
    with budget("alice", "0.0001", ledger=any_ledger):
        chat(openai_client, max_tokens=20)
        sent = len(provider.requests)
        with pytest.raises(BudgetExceededError) as refused:
            chat(openai_client, max_tokens=1000)

    assert len(provider.requests) == sent == len(any_ledger.entries)
    error = refused.value
    assert (error.user_id, error.limit_usd, error.spent_usd) == ("alice", Decimal("0.0001"), GPT)
    assert (error.reserved_usd, error.model) == (0, "gpt-4o-mini")
    assert error.requested_usd > Decimal("0.0006")


def test_a_limit_of_zero_blocks_every_paid_call(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Zero is a limit, not the absence of one; free calls still pass."""
    with budget("alice", 0, ledger=ledger):
        with pytest.raises(BudgetExceededError):
            chat(openai_client, max_tokens=1)
        with pytest.raises(BudgetExceededError):
            chat(openai_client)
        openai_client.moderations.create(input="hello")

    assert [request.path for request in provider.requests] == ["/v1/moderations"]
    assert len(ledger.entries) == 0


def test_a_restart_continues_the_spend(openai_client: Any, tmp_path: Any):
    """A new ledger on the same file knows what every user has spent."""
    for spent in (GPT, 2 * GPT):
        with CostLedger(path=tmp_path / "costs.db") as ledger:
            with budget("alice", 1, ledger=ledger) as b:
                chat(openai_client)
                assert b.spent_usd == spent
            assert ledger.spent(user_id="alice") == spent


def test_the_sdks_are_patched_only_while_a_scope_is_open(ledger: CostLedger):
    """Attributes are the original objects before the first scope and after the last."""
    before = sdk_methods()
    with budget("alice", ledger=ledger):
        assert active()
        with budget("bob", ledger=ledger):
            assert sdk_methods().keys() == before.keys()
        assert all(sdk_methods()[key] is not method for key, method in before.items())
    assert not active()
    assert all(sdk_methods()[key] is method for key, method in before.items())


def test_every_enclosing_budget_is_charged_and_must_agree(openai_client: Any, ledger: CostLedger):
    """A user inside a team: both pay, and the team's limit refuses the user's call."""
    with budget("team", "0.0002", ledger=ledger) as team, budget("alice", 1) as alice:
        chat(openai_client, max_tokens=20)
        assert (team.spent_usd, alice.spent_usd) == (GPT, GPT)
        with pytest.raises(BudgetExceededError) as refused:
            chat(openai_client, max_tokens=10_000)

    assert refused.value.user_id == "team"
    assert (ledger.spent(user_id="alice"), ledger.spent(user_id="team")) == (GPT, 0)
    assert ledger.total_cost == GPT


def test_the_same_user_nested_is_charged_once(openai_client: Any, ledger: CostLedger):
    """Two limits of one user: one charge, and the lower limit holds."""
    with budget("alice", 1, ledger=ledger) as outer, budget("alice", "0.0001") as inner:
        chat(openai_client, max_tokens=20)
        assert outer.spent_usd == inner.spent_usd == GPT
        with pytest.raises(BudgetExceededError) as refused:
            chat(openai_client, max_tokens=10_000)
    assert refused.value.limit_usd == Decimal("0.0001")


def test_budgets_of_two_ledgers_are_charged_in_both(openai_client: Any, ledger: CostLedger):
    """The home ledger is the innermost one named; the other keeps its budget's balance too."""
    other = CostLedger()
    with budget("team", 1, ledger=other) as team, budget("alice", 1, ledger=ledger) as alice:
        chat(openai_client)
        assert team.spent_usd == alice.spent_usd == GPT
    assert other.total_cost == ledger.total_cost == GPT
    assert other.verify() == []


def test_a_streams_extra_usage_chunk_is_hidden(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """The caller gets the very chunks it would have got, and its own dict is untouched."""
    plain = [chunk.choices for chunk in chat(openai_client, stream=True)]
    options: dict[str, Any] = {"include_obfuscation": False}

    with budget("alice", ledger=ledger):
        seen = list(chat(openai_client, stream=True, stream_options=options))

    assert [chunk.choices for chunk in seen] == plain
    assert all(chunk.usage is None for chunk in seen)
    assert options == {"include_obfuscation": False}
    sent = provider.requests[-1].body["stream_options"]
    assert sent == {"include_obfuscation": False, "include_usage": True}
    assert ledger.total_cost == GPT


def test_usage_that_the_caller_asked_for_is_not_hidden(openai_client: Any, ledger: CostLedger):
    """With the caller's own include_usage the extra chunk stays."""
    with budget("alice", ledger=ledger):
        seen = list(chat(openai_client, stream=True, stream_options={"include_usage": True}))
    assert seen[-1].choices == []
    assert seen[-1].usage.completion_tokens == 20


def test_a_call_without_a_cap_is_bounded_by_what_is_left(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """The request's own cap is set to what half of the rest pays for, only where it has to be."""
    with budget("rich", 100, ledger=ledger):
        chat(openai_client)
    assert "max_completion_tokens" not in provider.requests[-1].body

    with budget("poor", "0.001", ledger=ledger):
        chat(openai_client)
    cap = provider.requests[-1].body["max_completion_tokens"]
    assert 700 < cap <= 833  # half of 0.001 USD, less the prompt, at 0.60 USD per million


def test_fit_sends_the_cap_that_fits(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """With on_exceed="fit" the request's own cap is lowered to what the budget pays for."""
    with budget("alice", "0.0001", on_exceed="fit", ledger=ledger) as b:
        chat(openai_client, max_tokens=5000)
        assert b.spent_usd == GPT
    assert 100 < provider.requests[-1].body["max_tokens"] < 167


def test_a_call_dearer_than_per_call_is_refused(openai_client: Any, ledger: CostLedger):
    """`per_call` bounds one call, with no other limit."""
    with budget("alice", per_call="0.0001", ledger=ledger):
        chat(openai_client, max_tokens=20)
        with pytest.raises(BudgetExceededError, match="per_call"):
            chat(openai_client, max_tokens=5000)
    assert len(ledger.entries) == 1


def test_a_failed_call_costs_nothing_and_holds_nothing(
    openai_client: Any, provider: LoopbackProvider, any_ledger: CostLedger
):
    """A refusal with a status is one entry of no cost; the SDK's own error reaches the caller."""
    import openai

    provider.queue(Reply(status=429))
    with budget("alice", 1, ledger=any_ledger) as b:
        with pytest.raises(openai.RateLimitError):
            chat(openai_client)
        assert (b.spent_usd, b.reserved_usd) == (0, 0)
    (entry,) = any_ledger.entries
    assert (entry.status, entry.cost_usd, entry.prompt_tokens) == ("error", 0, 0)


def test_retries_inside_the_sdk_are_one_entry(provider: LoopbackProvider, ledger: CostLedger):
    """Two refusals and an answer: one entry that tells of three attempts."""
    client = provider.openai(max_retries=2)
    provider.queue(
        Reply(status=500, headers={"retry-after-ms": "1"}),
        Reply(status=429, headers={"retry-after-ms": "1"}),
    )
    with budget("alice", 1, ledger=ledger):
        chat(client)
    (entry,) = ledger.entries
    assert (entry.attempts, entry.cost_usd) == (3, GPT)


def test_a_cut_connection_is_charged_at_what_it_may_have_cost(
    openai_client: Any, provider: LoopbackProvider, any_ledger: CostLedger
):
    """The provider may have billed it: the reservation becomes the charge, until it is resolved."""
    import openai

    provider.queue(Reply(cut_before_headers=True))
    with budget("alice", 1, ledger=any_ledger) as b:
        with pytest.raises(openai.APIConnectionError):
            chat(openai_client, max_tokens=50)
        (entry,) = any_ledger.entries
        assert (entry.grade, entry.cost_usd) == ("assumed", entry.reserved_usd)
        assert b.spent_usd == entry.cost_usd
        assert [e.call_id for e in any_ledger.provisional()] == [entry.call_id]

        any_ledger.resolve(entry.call_id, "0.00001")
        assert b.spent_usd == Decimal("0.00001")
        assert any_ledger.provisional() == []


def test_a_rejected_request_leaves_no_entry(anthropic_client: Any, ledger: CostLedger):
    """What the SDK refuses to send was never billed."""
    with budget("alice", 10, ledger=ledger) as b:
        with pytest.raises(ValueError, match="treaming"):
            anthropic_client.messages.create(
                model="claude-opus-4-8", max_tokens=100_000, messages=ASK
            )
        assert b.reserved_usd == 0
    assert len(ledger.entries) == 0


def test_a_stream_left_early_is_never_free(openai_client: Any, ledger: CostLedger):
    """Broken off after a few chunks: one partial entry, counted from what came."""
    with budget("alice", 1, ledger=ledger) as b:
        for n, _ in enumerate(chat(openai_client, stream=True, max_tokens=50)):
            if n == 5:
                break
    (entry,) = ledger.entries
    assert (entry.status, entry.grade) == ("partial", "estimated")
    assert 0 < entry.completion_tokens < 20
    assert entry.prompt_tokens > 0
    assert 0 < b.spent_usd < GPT


def test_a_stream_read_after_its_scope_is_corrected(openai_client: Any, any_ledger: CostLedger):
    """Entered as partial at the scope's exit, and as ok when the rest is read after all."""
    with budget("alice", 1, ledger=any_ledger) as b:
        stream = chat(openai_client, stream=True, max_tokens=50)
        next(stream)
    (entry,) = any_ledger.entries
    assert entry.status == "partial"
    assert b.reserved_usd > 0  # what it may still cost

    assert len(list(stream)) > 10

    (entry,) = any_ledger.entries
    assert (entry.status, entry.grade, entry.cost_usd) == ("ok", "reported", GPT)
    assert (b.spent_usd, b.reserved_usd) == (GPT, 0)


def test_an_alert_fires_once_at_ninety_percent(
    openai_client: Any, any_ledger: CostLedger, caplog: pytest.LogCaptureFixture
):
    """Log record, the ledger's callback and the budget's own, each once."""
    heard: list[str] = []
    any_ledger.on_alert(lambda alert: heard.append(f"ledger {alert}"))
    with budget(
        "alice", "0.0006", ledger=any_ledger, on_alert=lambda alert: heard.append(str(alert))
    ) as b:
        for _ in range(20):
            chat(openai_client, max_tokens=20)
        assert b.spent_usd == 20 * GPT
    text = "90% of budget used: $0.0005 / $0.0006 (user alice)"
    assert heard == [f"ledger {text}", text]
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [text]


def test_an_unknown_model_is_never_free(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Refused under a limit, unless the budget says otherwise; without one its cost is None."""
    from costtrace import UnknownPriceError, UnpricedModelWarning

    def ask() -> None:
        openai_client.chat.completions.create(model="gpt-99", messages=ASK, max_tokens=20)

    with budget("alice", 1, ledger=ledger), pytest.raises(UnknownPriceError, match="gpt-99"):
        ask()
    assert provider.requests == []
    with budget("alice", 1, on_unknown_model="assume_max", ledger=ledger) as b:
        ask()
        assert b.spent_usd > 0
    with budget("bob", ledger=ledger) as b, pytest.warns(UnpricedModelWarning, match="gpt-99") as w:
        ask()
    assert ledger.unpriced_calls == 1
    assert [warned.filename for warned in w] == [__file__]  # the line that made the call

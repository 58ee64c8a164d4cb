"""What a ledger advises: computed from recorded usage, and nothing where nothing is to say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from costtrace import Advice, CostLedger, PriceTable, Usage, advise, budget
from costtrace.testing import LoopbackProvider, Reply

OPUS, SONNET, HAIKU = "claude-opus-4-8", "claude-sonnet-4-6", "claude-haiku-4-5"
Record = Callable[..., None]


@pytest.fixture
def past(clock: Any) -> CostLedger:
    """A ledger of calls that were made in the hours before now."""
    return CostLedger(clock=clock)


@pytest.fixture
def record(past: CostLedger, clock: Any) -> Record:
    """Records so many calls, one after another at an interval, the last of them now."""

    def write(
        model: str, sent: int, made: int, calls: int = 20, every_s: float = 60, **details: Any
    ) -> None:
        function, user = details.pop("function_name", "answer"), details.pop("user_id", "alice")
        start = clock.now - timedelta(seconds=every_s * calls)
        for number in range(calls):
            at = start + timedelta(seconds=every_s * number)
            past.record(model, function, user, sent, made, timestamp=at, **details)

    return write


def kinds(found: list[Advice]) -> set[str]:
    return {advice.kind for advice in found}


def of_kind(ledger: CostLedger, kind: str) -> list[Advice]:
    return [advice for advice in ledger.advise() if advice.kind == kind]


def only(ledger: CostLedger, kind: str) -> Advice:
    (advice,) = of_kind(ledger, kind)
    return advice


# Nothing to say


def test_an_empty_ledger_gets_no_advice(past: CostLedger):
    """Nothing is made up."""
    assert past.advise() == []


def test_a_few_calls_show_no_habit(past: CostLedger, record: Record):
    """Nine calls, however large, are no reason to change anything."""
    record(OPUS, 9_000, 500, calls=9)

    assert past.advise() == []


def test_calls_that_cannot_be_cheaper_get_no_advice(past: CostLedger, record: Record):
    """The cheapest model of its generation, streamed, with small prompts and no reservation."""
    record(HAIKU, 100, 500, calls=50, streamed=True)

    assert past.advise() == []


@pytest.mark.filterwarnings("ignore::costtrace.UnpricedModelWarning")
def test_what_is_no_answered_call_of_known_cost_does_not_count(past: CostLedger, record: Record):
    """Errors, worst cases, models without a price, and calls of other kinds."""
    record(OPUS, 9_000, 500, status="error", cost_usd=1)
    record(OPUS, 9_000, 500, status="partial", grade="assumed")
    record("my-own-model", 9_000, 500)
    record("text-embedding-3-large", 9_000, 0, operation="embeddings")

    assert past.advise() == []


# Prompt caching


def test_large_prompts_at_short_intervals_could_be_cached(past: CostLedger, record: Record):
    """At most as much of them as the smallest one holds, written once and read after that."""
    record(SONNET, 10_000, 100, calls=19)
    past.record(SONNET, "answer", "bob", 8_000, 100)
    advice = only(past, "caching")

    # 19 reads of 8,000 tokens at 0.30 instead of 3, one write at 3.75 USD per million
    saved = 19 * Decimal("0.0216") - Decimal("0.006")
    assert advice.saving_usd == saved
    assert (advice.function_name, advice.model) == ("answer", SONNET)
    assert (advice.calls, advice.cost_usd) == (20, past.total_cost)
    assert "up to $0.4044 of $0.6240" in advice.text
    assert "19 of 20 calls" in advice.how
    assert "8,000 tokens" in advice.how
    assert "cache_control" in advice.text


def test_prompts_that_come_too_rarely_could_not(past: CostLedger, record: Record):
    """What was written is gone before it is asked for again: it would only cost more."""
    record(SONNET, 10_000, 100, every_s=301)

    assert of_kind(past, "caching") == []


def test_prompts_that_are_read_from_a_cache_need_no_advice(past: CostLedger, record: Record):
    """It is on already, as far as recorded."""
    record(SONNET, 10_000, 100, usage=Usage(10_000, 100, cache_read_tokens=5_000))

    assert of_kind(past, "caching") == []


def test_small_prompts_cannot_be_cached(past: CostLedger, record: Record):
    """The providers cache from a size on; calls below it are left out of the sum."""
    record(SONNET, 4_095, 100)
    record("gpt-4o", 1_023, 100, function_name="other")
    assert of_kind(past, "caching") == []

    record("gpt-4o", 1_024, 100, function_name="other")
    # 1,024 tokens, 19 times at 1.25 instead of 2.50 per million; OpenAI charges no writes for it
    assert only(past, "caching").saving_usd == 19 * 1024 * Decimal("0.00000125")


def test_a_model_without_a_cached_price_saves_nothing(past: CostLedger, record: Record):
    """As those from before caching."""
    record("gpt-4-turbo", 5_000, 100)

    assert of_kind(past, "caching") == []


# Batch


def test_calls_that_nobody_waits_for_go_at_half_price(past: CostLedger, record: Record):
    """Those that were not streamed, at the batch price of the tokens they had."""
    record(HAIKU, 1_000, 1_000, calls=30)
    advice = only(past, "batch")

    assert advice.saving_usd == past.total_cost / 2 == Decimal("0.09")
    assert "if nobody waits" in advice.text


def test_streamed_calls_have_somebody_waiting(past: CostLedger, record: Record):
    """So have those that paid for priority; and a batch is there already."""
    record(HAIKU, 1_000, 1_000, streamed=True)
    record("gpt-4o", 1_000, 1_000, service_tier="priority", function_name="urgent")
    record(HAIKU, 1_000, 1_000, service_tier="batch", function_name="nightly")

    assert of_kind(past, "batch") == []


# Cheaper models


def test_cheaper_models_of_the_generation_are_named(past: CostLedger, record: Record):
    """The cheapest and the nearest, at the same tokens; whether they do is not known here."""
    record(OPUS, 100, 1_000, calls=10, streamed=True)
    found = past.advise()

    assert [(advice.kind, advice.alternative) for advice in found] == [
        ("model", HAIKU),
        ("model", SONNET),
    ]
    # 100 tokens at 5 and 1,000 at 25, against 1 and 5, and 3 and 15 USD per million
    assert [advice.saving_usd for advice in found] == [
        10 * (Decimal("0.0255") - Decimal("0.0051")),
        10 * (Decimal("0.0255") - Decimal("0.0153")),
    ]
    assert f'compare_models(["{OPUS}", "{HAIKU}"], ...)' in found[0].text


def test_a_model_that_is_no_longer_served_is_not_named(
    past: CostLedger, clock: Any, record: Record
):
    """One that goes on for a while is, with the day on which it ends."""
    record("gpt-4o", 100, 1_000, streamed=True)
    assert "gpt-4o-mini (served until 2027-01-14) saves" in past.advise()[0].text

    clock.now = datetime.fromisoformat("2026-10-22T12:00:00+00:00")
    assert past.advise()[0].alternative == "gpt-4.1-nano"


def test_a_model_that_cannot_take_the_requests_is_not_named(past: CostLedger, record: Record):
    """One call of 500,000 tokens is enough: the small one holds 200,000."""
    record(OPUS, 100, 1_000, streamed=True)
    past.record(OPUS, "answer", "alice", 500_000, 10, streamed=True)

    assert [advice.alternative for advice in of_kind(past, "model")] == [SONNET]


def test_what_is_hardly_cheaper_is_not_named(past: CostLedger, record: Record):
    """Less than a tenth is not worth another model's answers."""
    prices = PriceTable.bundled().with_prices({OPUS: {"input": 3, "output": 16}})
    ledger = CostLedger(prices=prices, clock=past.now)
    for _ in range(20):
        ledger.record(OPUS, "answer", "alice", 100, 1_000, streamed=True)

    assert [advice.alternative for advice in ledger.advise()] == [HAIKU]


def test_a_dated_name_is_its_model(past: CostLedger, record: Record):
    """Calls under both names are one history."""
    record("gpt-4o", 100, 1_000, calls=5, streamed=True)
    record("gpt-4o-2024-08-06", 100, 1_000, calls=5, streamed=True)

    assert {(advice.model, advice.calls) for advice in past.advise()} == {("gpt-4o", 10)}


# Shorter histories


def converse(
    ledger: CostLedger,
    start: datetime,
    calls: int,
    *,
    cached: bool = False,
    user: str = "alice",
    every_s: float = 20,
    reasoning: int = 0,
) -> None:
    """A conversation whose every call sends all of what was said before it."""
    sent = 200
    for number in range(calls):
        usage = Usage(
            sent,
            100 + reasoning,
            cache_read_tokens=sent - 150 if cached and number else 0,
            reasoning_tokens=reasoning,
        )
        at = start + timedelta(seconds=every_s * number)
        made = usage.output_tokens
        ledger.record(SONNET, "chat", user, sent, made, usage=usage, timestamp=at, streamed=True)
        sent += 150


def test_a_history_that_only_grows_could_be_shorter(past: CostLedger, clock: Any):
    """Kept at the size of the third call, the calls after it would have sent less."""
    converse(past, clock.now - timedelta(hours=1), 12)
    advice = only(past, "history")

    # calls 4 to 12 sent 150, 300 ... 1,350 tokens more than the third, at 3 USD per million
    assert advice.saving_usd == sum(range(150, 1_351, 150)) * Decimal("0.000003")
    assert "200 input tokens in the first call on average, 1,850 in the last" in advice.how
    assert "trim_messages()" in advice.text


def test_a_cached_history_saves_less(past: CostLedger, clock: Any):
    """What was read from the cache is the first to go, and was cheap already."""
    converse(past, clock.now - timedelta(hours=1), 12, cached=True)

    # all of what goes was read at 0.30 USD per million
    saved = sum(range(150, 1_351, 150)) * Decimal("0.0000003")
    assert [one.saving_usd for one in of_kind(past, "history")] == [saved]


def test_what_was_only_thought_is_not_sent_again(past: CostLedger, clock: Any):
    """A history holds the answers without their reasoning, and is one all the same."""
    converse(past, clock.now - timedelta(hours=1), 12, reasoning=500)

    assert len(of_kind(past, "history")) == 1


def test_calls_far_apart_are_no_conversation(past: CostLedger, clock: Any):
    """Half an hour and more: a nightly job over growing data looks just so."""
    converse(past, clock.now - timedelta(days=1), 12, every_s=1_801)

    assert of_kind(past, "history") == []


def test_a_conversation_among_other_calls_is_no_habit(past: CostLedger, record: Record, clock: Any):
    """Most calls of the function have to be parts of one."""
    converse(past, clock.now - timedelta(hours=1), 12)
    record(SONNET, 1_000, 100, calls=13, streamed=True, function_name="chat", user_id="bob")

    assert of_kind(past, "history") == []


def test_each_user_has_a_conversation_of_their_own(past: CostLedger, clock: Any):
    """At the same time, as in a service."""
    start = clock.now - timedelta(hours=1)
    for number, user in enumerate(("alice", "bob")):
        converse(past, start + timedelta(seconds=number), 8, user=user)
    advice = only(past, "history")

    assert advice.how.startswith("In 2 conversations")


def test_prompts_of_all_sizes_are_no_conversation(past: CostLedger, record: Record, clock: Any):
    """Some of them follow a smaller one by chance."""
    start, dice = clock.now - timedelta(hours=1), Random(7)
    for number in range(200):
        at = start + timedelta(seconds=number)
        sent = dice.randrange(100, 5_000)
        past.record(SONNET, "answer", "anon", sent, 10, timestamp=at, streamed=True)

    assert of_kind(past, "history") == []


def test_a_prompt_that_stays_the_same_is_no_conversation(past: CostLedger, record: Record):
    """It does not hold what was answered before."""
    record(SONNET, 1_000, 100, streamed=True)

    assert of_kind(past, "history") == []


# Reservations


def test_a_reservation_far_above_the_cost_could_be_smaller(past: CostLedger, record: Record):
    """By a max_tokens near the 99th percentile of what was generated."""
    record(HAIKU, 100, 50, calls=198, streamed=True, reserved_usd="0.02")
    record(HAIKU, 100, 4_000, calls=2, streamed=True, reserved_usd="0.02")
    advice = only(past, "max_tokens")

    # 100 tokens at 1 and 50 at 5 USD per million would be reserved
    assert advice.freed_usd == 200 * (Decimal("0.02") - Decimal("0.00035"))
    assert advice.saving_usd is None
    assert "max_tokens=50 frees up to $0.0196 of the $0.0200" in advice.text


def test_a_tight_reservation_is_left_alone(past: CostLedger, record: Record):
    """Also where there are too few calls to tell what is rare."""
    record(HAIKU, 100, 50, calls=200, streamed=True, reserved_usd="0.0006")
    record(HAIKU, 100, 50, calls=99, streamed=True, reserved_usd=1, function_name="other")

    assert past.advise() == []


def test_a_reservation_that_some_calls_need_is_left_alone(past: CostLedger, record: Record):
    """Most calls cost little, but one in twenty generates all that it may."""
    record(HAIKU, 100, 50, calls=190, streamed=True, reserved_usd="0.0201")
    record(HAIKU, 100, 4_000, calls=10, streamed=True, reserved_usd="0.0201")

    assert past.advise() == []


# All of it together


def test_the_largest_saving_comes_first(past: CostLedger, record: Record):
    """And what only frees money comes after all that saves some."""
    record(OPUS, 6_000, 50, calls=150, reserved_usd=1)
    found = past.advise()
    savings = [advice.saving_usd for advice in found if advice.saving_usd is not None]

    assert kinds(found) == {"caching", "batch", "model", "max_tokens"}
    assert savings == sorted(savings, reverse=True)
    assert found[-1].kind == "max_tokens"


def test_no_saving_is_more_than_was_spent(past: CostLedger, record: Record, clock: Any):
    """Whatever was recorded."""
    record(OPUS, 6_000, 50, calls=150, reserved_usd=1)
    record("gpt-4o", 30_000, 1, calls=30)
    converse(past, clock.now - timedelta(hours=1), 30)

    for advice in past.advise():
        assert advice.saving_usd is None or 0 < advice.saving_usd < advice.cost_usd


def test_advice_rests_on_entries_that_can_be_looked_at(past: CostLedger, record: Record):
    """Function, model, count, sum and the time from the first to the last."""
    record(OPUS, 100, 1_000, streamed=True)
    advice = past.advise()[0]
    entries = list(past.entries)

    assert advice.calls == len(entries)
    assert advice.cost_usd == past.spent(function_name=advice.function_name, model=advice.model)
    assert (advice.first, advice.last) == (entries[0].timestamp, entries[-1].timestamp)
    assert str(advice) == f"{advice.text}\n    {advice.how}"


def test_a_stretch_of_time_can_be_asked_for(past: CostLedger, record: Record, clock: Any):
    """As everywhere: from, and before."""
    record(OPUS, 100, 1_000, calls=20, every_s=60, streamed=True)
    middle = clock.now - timedelta(minutes=10)

    assert [a.calls for a in past.advise(since=middle)] == [10, 10]
    assert [a.calls for a in advise(past, until=middle)] == [10, 10]


def test_a_store_can_be_asked_too(tmp_path: Path, clock: Any):
    """As the ledger that wrote it, in another process."""
    with CostLedger(path=tmp_path / "costs.db", clock=clock) as ledger:
        for _ in range(20):
            ledger.record(OPUS, "answer", "alice", 100, 1_000)
        assert advise(ledger.store) == ledger.advise() != []


def test_advice_on_real_calls(
    openai_client: Any, anthropic_client: Any, past: CostLedger, provider: LoopbackProvider
):
    """What the SDKs' calls leave in the ledger is enough; streams are told from the others."""
    provider.default = Reply(input_tokens=5_000, output_tokens=10)
    ask = [{"role": "user", "content": "x" * 20_000}]
    with budget("alice", 100, ledger=past):
        for _ in range(10):
            openai_client.chat.completions.create(model="gpt-4o", messages=ask, max_tokens=10)
            with anthropic_client.messages.stream(
                model=OPUS, messages=ask, max_tokens=10
            ) as stream:
                stream.until_done()
    found = past.advise()

    assert kinds([one for one in found if one.model == "gpt-4o"]) == {"caching", "batch", "model"}
    assert kinds([one for one in found if one.model == OPUS]) == {"caching", "model"}


def test_wrong_arguments_are_named():
    """What is wrong, and what would be right."""
    with pytest.raises(TypeError, match="from a CostLedger or a store, not str"):
        advise("costs.db")
    with pytest.raises(ValueError, match="since must be aware"):
        advise(CostLedger(), since=datetime(2026, 11, 1))

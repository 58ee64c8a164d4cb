"""What is remembered from one call to the next is never what another call needs."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from costtrace import (
    BudgetExceededError,
    CostLedger,
    PriceTable,
    budget,
    tracked,
)
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "gpt-4o-mini", "max_tokens": 9, "messages": ASK, **options}
    )


def last(ledger: CostLedger) -> Any:
    return list(ledger.entries)[-1]


def table(price: str) -> PriceTable:
    return PriceTable.bundled().with_prices({"house-model": {"input": price, "output": price}})


def test_each_ledger_prices_by_its_own_table(openai_client: Any, provider: LoopbackProvider):
    """The same model, in turns, at the prices of two ledgers."""
    cheap, dear = CostLedger(prices=table("1")), CostLedger(prices=table("10"))
    provider.script(lambda _: Reply(input_tokens=100, output_tokens=5, model="house-model"))

    for _ in range(3):
        for ledger in (cheap, dear):
            with budget("alice", 5, ledger=ledger):
                ask(openai_client, model="house-model")

    assert {entry.cost_usd for entry in cheap.entries} == {Decimal("0.000105")}
    assert {entry.cost_usd for entry in dear.entries} == {Decimal("0.00105")}
    (least,) = {entry.reserved_usd for entry in cheap.entries}
    (most,) = {entry.reserved_usd for entry in dear.entries}
    assert most == 10 * least


def test_a_price_changes_at_its_midnight(openai_client: Any, clock: Any):
    """What was reserved in the evening says nothing of the next morning."""
    clock.now = datetime(2026, 7, 29, 23, 59, tzinfo=timezone.utc)
    with CostLedger(clock=clock) as ledger, budget("alice", 50, ledger=ledger):
        ask(openai_client, model="gpt-5.6-luna")
        clock.advance(minutes=2)
        ask(openai_client, model="gpt-5.6-luna")
        evening, morning = ledger.entries

    prices = PriceTable.bundled()
    for entry in (evening, morning):
        price = prices.price(entry.model, entry.timestamp)
        assert price is not None
        assert entry.price_id == price.id
    assert evening.reserved_usd != morning.reserved_usd


def test_a_budget_entered_again_with_another_limit_has_that_limit(
    openai_client: Any, ledger: CostLedger
):
    """The chain of budgets is another one each time, whatever it was called."""
    for limit, is_allowed in (("1", True), ("0.0000001", False), ("2", True)):
        with budget("alice", limit, ledger=ledger):
            if is_allowed:
                ask(openai_client)
            else:
                with pytest.raises(BudgetExceededError):
                    ask(openai_client)

    assert len(ledger.entries) == 2


def test_the_same_budget_in_other_company(openai_client: Any, ledger: CostLedger):
    """Who else pays is looked up for each call: inside, outside and after an inner budget."""
    outer = budget("team", 5, ledger=ledger)
    inner = budget("alice", 5, ledger=ledger)
    with outer:
        ask(openai_client)
        for _ in range(2):
            with inner:
                ask(openai_client)
            ask(openai_client)

    assert [entry.user_id for entry in ledger.entries] == ["team", "alice", "team", "alice", "team"]
    assert outer.spent_usd == ledger.total_cost
    assert inner.spent_usd == ledger.spent(user_id="alice")


def test_a_block_counts_for_one_with_alone(openai_client: Any, ledger: CostLedger):
    """Its owner is another one each time, and is not remembered for the user's next call."""
    spent = []
    for _ in range(3):
        with budget("alice", 5, window="block", ledger=ledger) as block:
            ask(openai_client)
            spent.append(block.spent_usd)

    assert spent == [last(ledger).cost_usd] * 3


def test_a_function_pays_into_the_ledger_of_each_call(openai_client: Any):
    """One decorated function, two ledgers in turns, with budgets and without."""
    one, other = CostLedger(), CostLedger()
    answer = tracked(function_name="answer")(lambda: ask(openai_client))
    for ledger in (one, other, one, other):
        with budget("alice", ledger=ledger):
            answer()
        with budget("bob", 5, ledger=ledger):
            answer()

    for ledger in (one, other):
        assert [entry.user_id for entry in ledger.entries] == ["alice", "bob"] * 2


def test_a_decorated_method_called_bound_and_unbound(openai_client: Any, ledger: CostLedger):
    """How a function is called is found out once for each of both ways."""

    class Bot:
        @tracked(function_name="reply")
        def reply(self) -> int:
            return int(ask(openai_client).usage.total_tokens)

        @tracked(function_name="areply")
        async def areply(self) -> int:
            return self.reply()

    bot = Bot()
    with budget("alice", ledger=ledger):
        for _ in range(2):
            assert bot.reply() == Bot.reply(bot)
    assert {entry.call_path for entry in ledger.entries} == {("reply",)}
    assert len(ledger.entries) == 4


def test_the_wrapper_is_the_same_again_and_gives_way(openai_client: Any, ledger: CostLedger):
    """Scopes that come and go put one wrapper on and off; what others did meanwhile stays."""
    owner: Any = openai._base_client.SyncAPIClient
    original, wrappers = owner.request, []
    for _ in range(3):
        with budget("alice", ledger=ledger):
            wrappers.append(vars(owner)["request"])
            ask(openai_client)
        assert vars(owner)["request"] is original
    assert wrappers[0] is wrappers[1] is wrappers[2]

    seen = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append("theirs")
        return original(self, *args, **kwargs)

    owner.request = theirs
    try:
        with budget("alice", ledger=ledger):
            assert vars(owner)["request"] is not wrappers[0]
            ask(openai_client)
        assert vars(owner)["request"] is theirs
    finally:
        owner.request = original
    assert seen == ["theirs"]
    assert len(ledger.entries) == 4


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_remembers_nothing_wrong(
    openai_client: Any, provider: LoopbackProvider, tmp_path: Path
):
    """Parent and child go on in one file, each with the same function and budget."""
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        with budget("alice", 5, ledger=ledger) as purse:
            ask(openai_client)
            child = os.fork()
            if child == 0:
                try:
                    ask(provider.openai(max_retries=0))
                    os._exit(0 if len(ledger.entries) >= 2 else 1)
                except BaseException:
                    os._exit(2)
            ask(openai_client)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            ask(openai_client)
            assert purse.spent_usd == 4 * last(ledger).cost_usd
        assert len(ledger.entries) == 4
        assert len({entry.call_id for entry in ledger.entries}) == 4
        assert ledger.verify() == []


def test_who_pays_is_worked_out_for_as_many_chains_as_there_are(
    openai_client: Any, ledger: CostLedger
):
    """More chains than are remembered, and more users, each with a limit of its own."""
    with budget("all", 50, ledger=ledger) as total:
        for number in range(70):
            with budget(f"user-{number}", 1, ledger=ledger) as purse:
                ask(openai_client)
                assert purse.spent_usd == last(ledger).cost_usd
        assert total.spent_usd == ledger.total_cost

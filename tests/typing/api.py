"""Each public call as a user writes it; checked by mypy --strict, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from typing_extensions import assert_type

import costtrace
from costtrace import (
    Advice,
    Alert,
    Budget,
    BudgetExceededError,
    Comparison,
    CostEntry,
    CostLedger,
    Estimate,
    MemoryStore,
    PriceTable,
    SQLiteStore,
    TokenCount,
    Total,
    Usage,
    acompare_models,
    acount_tokens,
    advise,
    aestimate,
    budget,
    carry,
    compare_models,
    configure,
    count_message_tokens,
    count_tokens,
    estimate,
    estimate_cost,
    headers,
    resume,
    tracked,
    trim_messages,
    truncate_text,
)


@tracked
def bare(question: str) -> int:
    return len(question)


@tracked()
def called(question: str) -> int:
    return len(question)


@tracked(function_name="named", tags={"team": "search"})
async def named(question: str) -> str:
    return question


@tracked
def numbers() -> Iterator[int]:
    yield 1


@tracked
async def async_numbers() -> AsyncIterator[int]:
    yield 1


assert_type(bare("x"), int)
assert_type(called("x"), int)
assert_type(asyncio.run(named("x")), str)
assert_type(numbers(), Iterator[int])
assert_type(async_numbers(), AsyncIterator[int])


class Service:
    @tracked
    def method(self, n: int) -> int:
        return n

    @staticmethod
    @tracked(function_name="static")
    def static(n: int) -> int:
        return n


assert_type(Service().method(1), int)
assert_type(Service.static(1), int)


def heard(alert: Alert) -> None:
    assert_type(alert.spent_usd, Decimal)
    assert_type(alert.user_id, str | None)


ledger = configure(path="costs.db", budget_usd=50, on_alert=heard)
assert_type(ledger, CostLedger)
assert_type(costtrace.ledger, CostLedger)
CostLedger(budget_usd="5", store=MemoryStore(), alert_at=(0.5, 0.9), on_exceed="raise")
CostLedger(store=SQLiteStore("costs.db"), clock=lambda: datetime.now(timezone.utc))
CostLedger(path="costs.db", spool="/var/spool/costs")
CostLedger(path="costs.db", spool=False)
assert_type(ledger.record("gpt-4o", "f", "u", 1, 1, service_tier="batch"), Decimal | None)
assert_type(ledger.record("gpt-4o", "f", "u", 1, 1, usage=Usage(1, 1)), Decimal | None)
assert_type(ledger.spent(user_id="alice"), Decimal)
assert_type(ledger.totals(by=("user_id", "model")), list[Total])
assert_type(ledger.top(5, by="tag:team"), list[Total])
assert_type(ledger.verify(), list[str])
assert_type(ledger.render("html"), str)
assert_type(CostLedger(path="kept.db", keep_days=90).prune(datetime.now(timezone.utc)), int)
assert_type(ledger.forget("alice").pseudonym, str)
assert_type(ledger.copy_to(MemoryStore()).conflicts, list[str])
assert_type(ledger.copy_to(CostLedger()).added, int)
for entry in ledger.entries:
    assert_type(entry, CostEntry)
    assert_type(entry.cost_usd, Decimal | None)
with ledger:
    ledger.report()

with budget("alice", 5.00, window="month", tz="Europe/Berlin", on_alert=heard) as b:
    assert_type(b, Budget)
    assert_type(b.remaining_usd, Decimal | None)
    assert_type(b.resets_at, datetime | None)
with budget("alice", window=timedelta(hours=1), on_exceed="fit", ledger=ledger):
    pass


async def handler() -> None:
    async with budget("alice", "5.00") as entered:
        assert_type(entered, Budget)


@budget("alice", Decimal(5))
def decorated(n: int) -> int:
    return n


assert_type(decorated(1), int)
hold = budget("alice", 5).authorize("0.02")
hold.settle("0.01")
hold.release()

try:
    bare("x")
except BudgetExceededError as refused:
    assert_type(refused.limit_usd, Decimal | None)

assert_type(estimate_cost("gpt-4o", 1, 1), Decimal)
tokens = count_tokens("text", "gpt-4o")
assert_type(tokens.exact, bool)
assert_type(count_message_tokens([{"role": "user", "content": "hi"}], "gpt-4o").method, str)
trim_messages([{"role": "user", "content": "hi"}], 100, "gpt-4o")
PriceTable.bundled().with_prices({"x": {"input": "0.5", "output": 2}}).price("x")
costtrace.instrument()
costtrace.uninstrument()
assert_type(costtrace.active(), bool)
assert_type(truncate_text("text", 10, "gpt-4o"), str)
assert_type(estimate("gpt-4o", "hi", 50), Estimate)
assert_type(estimate("gpt-4o", "hi", 50).worst_usd, Decimal | None)
assert_type(compare_models(["gpt-4o"], "hi", check=lambda text: "x" in text), Comparison)
assert_type(advise(ledger), list[Advice])
assert_type(ledger.advise(), list[Advice])


async def awaited() -> None:
    assert_type(await acount_tokens("text", "gpt-4o"), TokenCount)
    assert_type(await aestimate("gpt-4o", "hi"), Estimate)
    assert_type(await acompare_models(["gpt-4o"], "hi"), Comparison)


assert_type(carry(bare)("x"), int)
with resume(headers()):
    pass

"""Names and numbers of every kind: what every store must do, part four."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from store_calls import ALICE, DAY, Clock, entry, hold, limit

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.base import ALWAYS, Balance, BudgetRecord, Query, Store, Watch
from costtrace.usage import Usage

TEXTS = {
    "empty": "",
    "long": "x" * 255,
    "longer": "x" * 256,
    "megabyte": "m" * 1_000_000,
    "nul": "a\0b",
    "nul, then something else": "a\0c",
    "newline": "a\nb",
    "quotes": "'; DROP TABLE entry; --\"",
    "separators": "a:b|c%d{}",
    "emoji": "👩‍👩‍👧‍👦",
    "right to left": "\u202eעברית",
    "composed": "é",
    "decomposed": "e\u0301",
    "look-alike": "аlice",
}


class NameContract:
    """Any text is a name, any whole number an amount; what cannot be kept changes nothing."""

    def test_any_text_is_a_name(self, store: Store) -> None:
        """Names are kept apart, whatever they are made of, in every place that takes one."""
        calls = [
            entry(
                2**n,
                call_id=text,
                user_id=text,
                function_name=text,
                response_id=text,
                call_path=(text,),
                tags={text: text},
            )
            for n, text in enumerate(TEXTS.values())
        ]
        for call in calls:
            store.reserve(
                hold(call, limit(10**9, owner=f"user:{call.user_id}"), process=call.user_id)
            )
            assert store.renew(call.user_id, 60) == 1
            watch = Watch("ledger", ALWAYS, 1, call.user_id)
            assert len(store.settle(call, ("ledger", f"user:{call.user_id}"), [watch])) == 1

        assert list(store.entries()) == calls
        for n, text in enumerate(TEXTS.values()):
            for query in (
                Query(user_id=text),
                Query(function_name=text),
                Query(tags={text: text}),
                Query(call_id=text),
                Query(response_id=text),
            ):
                assert list(store.entries(query)) == [calls[n]]
                assert store.sums(query).cost_usd == calls[n].cost_usd
            assert store.balance(f"user:{text}", ALWAYS).spent_pico in (2**n, 0)
        assert len(store.totals(["user_id"])) == len(calls)

    @pytest.mark.parametrize("field", ["call_id", "user_id", "model", "response_id", "region"])
    def test_half_a_character_is_refused(self, store: Store, field: str) -> None:
        """A lone surrogate cannot be written down."""
        with pytest.raises(ValueError, match=f"{field} holds half a surrogate pair"):
            store.settle(entry(**{field: "a\ud800"}), ALICE)
        with pytest.raises(ValueError, match="half a surrogate pair"):
            store.settle(entry(tags={"a": "\udfff"}), ALICE)
        with pytest.raises(ValueError, match="half a surrogate pair"):
            store.settle(entry(), ("ledger", "user:\ud800"))
        assert store.sums().entries == 0

    def test_renamed_user_keeps_everything(self, store: Store, clock: Clock) -> None:
        """Entries, holds, balances, budgets and alerts go to the new name."""
        watch = Watch("user:alice", DAY, 1, "user:alice|day|90")
        held, settled = entry(20), entry(100, tags={"a": "b"})
        store.reserve(hold(held, limit(1000), limit(1000, DAY)))
        store.settle(settled, ALICE, [watch])
        store.settle(entry(7, user_id="bob"), ("ledger", "user:bob", "user:alice"))
        store.define(BudgetRecord("alice", "day", None, 5, ()))

        assert store.rename_user("alice", "gone-1") == 1

        assert store.balance("user:alice", ALWAYS) == Balance()
        assert store.balance("user:gone-1", ALWAYS) == Balance(107, 20, 30, 15, 2, 1)
        assert store.balance("user:gone-1", DAY) == Balance(107, 20, 30, 15, 2, 1)
        assert [total.key for total in store.totals(["user_id"])] == [("gone-1",), ("bob",)]
        assert store.budgets() == [BudgetRecord("gone-1", "day", None, 5, ())]
        clock.forward(100)
        (crossing,) = store.undelivered(10)
        assert (crossing.watch.owner, "alice" in crossing.watch.key) == ("user:gone-1", False)
        store.lapse()
        assert [call.user_id for call in store.provisional()] == ["gone-1"]
        store.settle(entry(1), ALICE)
        assert store.balance("user:alice", ALWAYS).spent_pico == 1

    def test_user_can_be_renamed_to_one_that_exists(self, store: Store) -> None:
        """Two users become one, and calls that both paid for are charged once."""
        store.settle(entry(100), ALICE)
        store.settle(entry(30, user_id="bob"), ("ledger", "user:bob"))
        store.settle(entry(5, user_id="bob"), ("ledger", "user:alice", "user:bob"))
        store.reserve(hold(entry(1), limit(1000), limit(1000, owner="user:bob")))
        store.define(BudgetRecord("alice", None, None, 5, ()))
        store.define(BudgetRecord("bob", None, None, 6, ()))

        assert store.rename_user("alice", "bob") == 1
        assert store.rename_user("nobody", "bob") == 0

        assert store.balance("user:bob", ALWAYS).spent_pico == 135
        assert store.balance("user:bob", ALWAYS).reserved_pico == 1
        assert store.totals(["user_id"])[0].calls == 3
        assert store.budgets() == [BudgetRecord("bob", None, None, 6, ())]

    # -- numbers -----------------------------------------------------------------------------

    def test_sums_are_exact_above_what_a_float_holds(self, store: Store) -> None:
        """Integers all the way: no digit is lost above 2**53, in any sum."""
        amounts = [2**53 + 1, 2**53 + 3, 2**60 + 7, 1]
        for amount in amounts:
            store.settle(entry(amount), ALICE)

        whole = Decimal(sum(amounts)).scaleb(-12)
        assert store.sums().cost_usd == whole
        assert store.totals(["day"])[0].cost_usd == whole
        assert store.balance("ledger", DAY).spent_pico == sum(amounts)
        assert [call.cost_usd for call in store.entries()] == [
            Decimal(amount).scaleb(-12) for amount in amounts
        ]

    @pytest.mark.parametrize(
        "cost",
        [
            Decimal(2**62 + 1).scaleb(-12),
            Decimal("1e400"),
            Decimal("NaN"),
            Decimal("-Infinity"),
            Decimal("-0.01"),
            Decimal("0.0000000000001"),
            Decimal("0.1") + Decimal("1e-27"),
            0.1,
        ],
    )
    def test_amount_that_cannot_be_kept_is_refused(self, store: Store, cost: Any) -> None:
        """What is not a whole number of picodollars, or too large, changes nothing."""
        call = entry(cost_usd=cost)
        with pytest.raises((ValueError, TypeError), match="cost_usd"):
            store.settle(call, ALICE)
        with pytest.raises((ValueError, TypeError), match="cost_usd"):
            store.reserve(hold(call, limit(10**30)))
        assert (store.sums().entries, store.balance("ledger", ALWAYS)) == (0, Balance())

    def test_sum_that_cannot_be_counted_is_refused(self, store: Store) -> None:
        """At the end of 64 bits a call is refused, and all its owners are as they were."""
        store.settle(entry(2**62), ALICE)
        store.settle(entry(2**62 - 1), ALICE)
        call = entry(1)
        with pytest.raises(BudgetStoreError, match="count to"):
            store.settle(call, ALICE)

        assert store.balance("ledger", ALWAYS).spent_pico == 2**63 - 1
        assert list(store.entries(Query(call_id=call.call_id))) == []
        assert store.settle(entry(0), ALICE) == []

    def test_huge_counts_come_back(self, store: Store) -> None:
        """Rare sizes are kept too."""
        call = entry(1, usage=Usage(2**40, 2**33, seconds=2**35), attempts=70_000)
        store.settle(call, ALICE)
        with pytest.raises(ValueError, match="tokens"):
            store.settle(entry(1, usage=Usage(2**62, 1)), ALICE)

        assert list(store.entries()) == [call]
        assert store.sums().prompt_tokens == 2**40
        assert store.balance("ledger", DAY).spent_tokens == 2**40 + 2**33

"""The states of a call and what moves it: what every store must do, part one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_calls import ALICE, Clock, costing, entry, hold, limit, rich_entry

from costtrace.entry import CostEntry
from costtrace.exceptions import CallConflictError
from costtrace.stores.base import ALWAYS, Balance, Query, Store
from costtrace.usage import Usage

ARRIVALS = ("none", "held", "settled", "released", "lapsed")


def brought_to(store: Store, clock: Clock, state: str) -> CostEntry:
    """Return a call of 1000 that is in this state; settled ones did cost 700."""
    call = entry(1000)
    if state != "none":
        store.reserve(hold(call))
    if state == "settled":
        store.settle(costing(call, 700), ALICE)
    if state == "released":
        store.release(call.call_id)
    if state == "lapsed":
        clock.forward(61)
        store.lapse()
    return call


def spent_and_reserved(store: Store) -> tuple[int, int]:
    balance = store.balance("user:alice", ALWAYS)
    return balance.spent_pico, balance.reserved_pico


class StateContract:
    """Five states, four arrivals: twenty cells, and what the ledger says afterwards."""

    @pytest.mark.parametrize("state", ["none", "released"])
    def test_reserve_holds_an_unknown_call(self, store: Store, clock: Clock, state: str) -> None:
        """A call that is unknown, or was released, can be held."""
        call = brought_to(store, clock, state)

        assert store.reserve(hold(call)) is None
        assert spent_and_reserved(store) == (0, 1000)

    def test_reserve_again_changes_nothing(self, store: Store, clock: Clock) -> None:
        """The same hold, sent again, stands once."""
        call = brought_to(store, clock, "held")

        assert store.reserve(hold(call, limit(1000))) is None
        assert spent_and_reserved(store) == (0, 1000)

    @pytest.mark.parametrize("state", ["settled", "lapsed"])
    def test_reserve_of_a_finished_call_is_a_conflict(
        self, store: Store, clock: Clock, state: str
    ) -> None:
        """An id whose call is over cannot be held again."""
        call = brought_to(store, clock, state)
        before = spent_and_reserved(store)

        with pytest.raises(CallConflictError, match=call.call_id):
            store.reserve(hold(call))
        assert spent_and_reserved(store) == before

    @pytest.mark.parametrize("state", ["held", "settled", "lapsed"])
    def test_reserve_of_another_amount_is_a_conflict(
        self, store: Store, clock: Clock, state: str
    ) -> None:
        """An id stands for one call only."""
        call = brought_to(store, clock, state)
        before = spent_and_reserved(store)

        with pytest.raises(CallConflictError):
            store.reserve(hold(costing(call, 999)))
        assert spent_and_reserved(store) == before

    def test_reserve_for_other_owners_is_a_conflict(self, store: Store, clock: Clock) -> None:
        """The owners belong to what a hold is, in whatever order they are named."""
        call = brought_to(store, clock, "held")

        with pytest.raises(CallConflictError):
            store.reserve(hold(call, owners=("ledger", "user:bob")))
        assert store.reserve(hold(call, owners=ALICE[::-1])) is None
        assert store.balance("user:bob", ALWAYS) == Balance()

    @pytest.mark.parametrize("state", ["none", "released"])
    def test_reserve_of_another_amount_holds_an_unknown_call(
        self, store: Store, clock: Clock, state: str
    ) -> None:
        """What was released is gone: its id is free."""
        call = brought_to(store, clock, state)

        assert store.reserve(hold(costing(call, 999))) is None
        assert spent_and_reserved(store) == (0, 999)

    @pytest.mark.parametrize("state", ["none", "held", "released", "lapsed"])
    def test_settle_replaces_whatever_stood(self, store: Store, clock: Clock, state: str) -> None:
        """What a call did cost takes the place of its hold or its provisional charge."""
        call = brought_to(store, clock, state)

        store.settle(costing(call, 700), ALICE)

        assert spent_and_reserved(store) == (700, 0)
        assert [found.cost_usd for found in store.entries()] == [costing(call, 700).cost_usd]

    def test_settle_again_changes_nothing(self, store: Store, clock: Clock) -> None:
        """The same cost, sent again, counts once."""
        call = brought_to(store, clock, "settled")

        assert store.settle(costing(call, 700), ALICE) == []
        assert spent_and_reserved(store) == (700, 0)

    def test_settle_with_another_cost_is_a_conflict(self, store: Store, clock: Clock) -> None:
        """Another cost for a settled call is refused, and nothing moves."""
        call = brought_to(store, clock, "settled")

        with pytest.raises(CallConflictError, match=call.call_id):
            store.settle(costing(call, 701), ALICE)
        with pytest.raises(CallConflictError):
            store.settle(costing(call, None), ALICE)
        assert spent_and_reserved(store) == (700, 0)

    @pytest.mark.parametrize(
        ("state", "is_given_back", "left"),
        [
            ("none", False, 0),
            ("held", True, 0),
            ("settled", False, 700),
            ("released", False, 0),
            ("lapsed", True, 0),
        ],
    )
    def test_release_gives_back_what_is_not_settled(
        self, store: Store, clock: Clock, state: str, is_given_back: bool, left: int
    ) -> None:
        """A hold and a provisional charge go; what was settled stays."""
        call = brought_to(store, clock, state)

        assert store.release(call.call_id) is is_given_back
        assert spent_and_reserved(store) == (left, 0)
        assert store.sums().calls == (1 if left else 0)

    def test_lapsed_hold_is_charged_as_its_worst_case(self, store: Store, clock: Clock) -> None:
        """A hold that nobody resolved is never freed: the provider may have billed the call."""
        call = brought_to(store, clock, "lapsed")

        assert spent_and_reserved(store) == (1000, 0)
        assert store.provisional() == [replace(call, grade="assumed")]
        assert list(store.entries()) == store.provisional()

    def test_settled_assumption_is_provisional_too(self, store: Store) -> None:
        """A call settled at its worst case, because nobody knows better, is listed as well."""
        store.settle(entry(900, grade="assumed"), ALICE)
        store.settle(entry(100), ALICE)

        assert [call.grade for call in store.provisional()] == ["assumed"]

    def test_hold_may_cost_more_than_it_reserved(self, store: Store, clock: Clock) -> None:
        """Money that is spent is recorded in full."""
        call = brought_to(store, clock, "held")

        store.settle(costing(call, 1300), ALICE)

        assert spent_and_reserved(store) == (1300, 0)

    def test_settled_owners_are_those_of_the_hold(self, store: Store, clock: Clock) -> None:
        """Who pays is decided when a call is reserved."""
        call = brought_to(store, clock, "held")

        store.settle(call, ("ledger", "user:bob"))

        assert spent_and_reserved(store) == (1000, 0)
        assert store.balance("user:bob", ALWAYS) == Balance()

    def test_amend_replaces_an_entry(self, store: Store, clock: Clock) -> None:
        """A partial stream that is read to its end after all becomes exact."""
        call = brought_to(store, clock, "none")
        store.settle(costing(call, 900, status="partial"), ALICE)
        other = entry(50)
        store.settle(other, ALICE)

        store.settle(costing(call, 950, usage=Usage(20, 9), model="new"), ALICE, amend=True)

        assert spent_and_reserved(store) == (1000, 0)
        assert store.balance("user:alice", ALWAYS).spent_tokens == 29 + 15
        first, second = store.entries()
        assert (first.status, first.model, first.usage) == ("ok", "new", Usage(20, 9))
        assert second == other
        assert [total.key for total in store.totals(["model"])] == [("new",), ("gpt-4o-mini",)]

    def test_call_that_goes_on_keeps_its_rest_reserved(self, store: Store, clock: Clock) -> None:
        """Entered before its end, and again, and at its end: what is held in all stays the same."""
        call = brought_to(store, clock, "held")
        first, second = entry(700), entry(400)

        store.settle(costing(call, 300, status="partial"), ALICE, rest=hold(first))
        assert spent_and_reserved(store) == (300, 700)

        partial = costing(call, 600, status="partial")
        store.settle(partial, ALICE, amend=True, rest=hold(second), frees=first.call_id)
        assert spent_and_reserved(store) == (600, 400)

        store.settle(costing(call, 950), ALICE, amend=True, frees=second.call_id)
        assert spent_and_reserved(store) == (950, 0)
        assert [one.call_id for one in store.entries()] == [call.call_id]
        assert store.verify() == []

    @pytest.mark.parametrize("state", ["none", "held", "lapsed"])
    def test_amend_serves_calls_that_are_not_settled(
        self, store: Store, clock: Clock, state: str
    ) -> None:
        """A correction is taken for what it says, whatever stood."""
        call = brought_to(store, clock, state)

        store.settle(costing(call, 0), ALICE, amend=True)

        assert spent_and_reserved(store) == (0, 0)
        assert store.provisional() == []

    def test_call_stays_in_the_time_it_was_authorized(self, store: Store, clock: Clock) -> None:
        """A settlement that names another time is still charged at the first one."""
        call = brought_to(store, clock, "held")
        late = call.timestamp.replace(year=2027)

        store.settle(replace(call, timestamp=late), ALICE)

        assert [found.timestamp for found in store.entries()] == [call.timestamp]

    def test_unpriced_call_counts_everything_but_money(self, store: Store) -> None:
        """An unknown cost is None in the entry and nothing in the sums, which say so."""
        store.settle(entry(None), ALICE)

        (found,) = store.entries()
        assert found.cost_usd is None
        assert (store.sums().unpriced_calls, store.sums().calls) == (1, 1)
        assert store.balance("user:alice", ALWAYS) == Balance(0, 0, 15, 0, 1, 0)

    def test_unpriced_call_can_be_priced_later(self, store: Store) -> None:
        """An amendment from an unknown cost to a known one moves the money."""
        call = entry(None)
        store.settle(call, ALICE)

        store.settle(costing(call, 5, grade="reported"), ALICE, amend=True)

        assert (store.sums().unpriced_calls, spent_and_reserved(store)) == (0, (5, 0))

    def test_lapsed_unpriced_hold_stays_unpriced(self, store: Store, clock: Clock) -> None:
        """A worst case that nobody knows is None, and provisional all the same."""
        store.reserve(hold(entry(None, grade="assumed")))
        clock.forward(61)

        assert store.lapse() == 1
        assert [(call.cost_usd, call.grade) for call in store.provisional()] == [(None, "unpriced")]

    def test_adjusting_line_is_no_call(self, store: Store) -> None:
        """A line that corrects another moves money, also back, and counts no call."""
        call = entry(1000)
        store.settle(call, ALICE)

        store.settle(entry(-300, usage=Usage(), adjusts=call.call_id), ALICE)

        assert store.balance("user:alice", ALWAYS) == Balance(700, 0, 15, 0, 1, 0)
        assert (store.sums().entries, store.sums().calls) == (2, 1)
        assert [found.adjusts for found in store.entries()] == [None, call.call_id]

    def test_every_field_comes_back(self, store: Store, clock: Clock) -> None:
        """An entry is what it was, after a hold, alone, and lapsed."""
        held, alone, lapsed = (rich_entry(usage=Usage(*range(n, n + 21))) for n in (1, 2, 3))
        store.reserve(hold(held))
        store.settle(held, ALICE)
        store.settle(alone, ALICE)
        store.reserve(hold(lapsed))
        clock.forward(61)
        store.lapse()

        assert list(store.entries()) == [held, alone, replace(lapsed, grade="assumed")]

    def test_plain_entry_comes_back(self, store: Store) -> None:
        """An entry that leaves out what may be left out is what it was."""
        plain = entry()
        cached = entry(usage=Usage(100, 5, 20, 30, cache_write_5m_tokens=30))
        hexadecimal = entry(call_id="0123456789abcdef" * 2)
        upper = entry(call_id="0123456789ABCDEF" * 2)
        for call in (plain, cached, hexadecimal, upper):
            store.settle(call, ALICE)

        assert list(store.entries()) == [plain, cached, hexadecimal, upper]
        assert [call.call_id for call in store.entries(Query(call_id=upper.call_id))] == [
            upper.call_id
        ]

"""Cost stacks: what each function cost itself, and with all that it called."""

from __future__ import annotations

from decimal import Decimal

from report_rows import entry, totals_of

from costtrace.entry import CostEntry, Total
from costtrace.reports import collapsed, function_costs


def paths(*entries: CostEntry) -> list[Total]:
    return totals_of(entries)(["call_path"])


def test_collapsed_stacks_are_lines_of_path_and_picodollars() -> None:
    """What flame graph tools read: frames apart by semicolons, a blank, a whole number."""
    totals = paths(
        entry("0.000001", "outer", "inner"), entry("0.5", "outer"), entry("0.25", "outer", "inner")
    )

    assert collapsed(totals) == "outer 500000000000\nouter;inner 250001000000\n"


def test_semicolons_in_names_do_not_split_frames() -> None:
    """Nor does a line end in a name break the file."""
    assert collapsed(paths(entry("1", "a;b\nc"))) == "a,b c 1000000000000\n"


def test_path_without_cost_has_no_width() -> None:
    """Unpriced, free and corrected-below-zero paths are left out of the graph."""
    assert collapsed(paths(entry(None, "a"), entry("0", "b"), entry("-1", "c"))) == ""


def test_call_outside_every_function_is_unknown() -> None:
    """An empty path has one frame."""
    assert collapsed(paths(entry("1"))) == "unknown 1000000000000\n"


def test_function_has_its_own_cost_and_that_of_its_callees() -> None:
    """The outer function pays for its own call only, and stands for both."""
    costs = {
        one.function_name: one
        for one in function_costs(paths(entry("1", "outer"), entry("2", "outer", "inner")))
    }

    assert (costs["outer"].own_usd, costs["outer"].inclusive_usd) == (Decimal(1), Decimal(3))
    assert (costs["inner"].own_usd, costs["inner"].inclusive_usd) == (Decimal(2), Decimal(2))
    assert (costs["outer"].own_calls, costs["outer"].calls) == (1, 2)


def test_own_costs_sum_to_the_whole() -> None:
    """However deep the stacks are, each call is some function's own exactly once."""
    totals = paths(
        entry("1", "a", "b", "c"), entry("2", "a", "c"), entry("4", "b", "a"), entry("8", "c")
    )

    assert sum(one.own_usd or 0 for one in function_costs(totals)) == 15


def test_recursion_counts_once() -> None:
    """A function inside itself does not pay for the inner call twice."""
    (cost,) = function_costs(paths(entry("1", "f", "f", "f"), entry("2", "f")))

    assert (cost.own_usd, cost.inclusive_usd, cost.calls) == (Decimal(3), Decimal(3), 2)


def test_dearest_function_comes_first() -> None:
    """By what it costs with its callees."""
    totals = paths(entry("1", "cheap"), entry("5", "main", "dear"))

    assert [one.function_name for one in function_costs(totals)] == ["dear", "main", "cheap"]


def test_unknown_cost_is_none() -> None:
    """A function whose calls have no price costs something that nobody knows."""
    (cost,) = function_costs(paths(entry(None, "f")))

    assert (cost.own_usd, cost.inclusive_usd, cost.unpriced_calls) == (None, None, 1)


def test_totals_of_one_name_are_read_too() -> None:
    """A ledger's rows have the path as a text, a store's as a tuple of one."""
    total = Total(
        key="outer > inner",
        calls=1,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=Decimal(1),
        unpriced_calls=0,
    )

    assert collapsed([total]) == "outer;inner 1000000000000\n"

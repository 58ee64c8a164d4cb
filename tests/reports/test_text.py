"""The report for a terminal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Context, localcontext

import pytest
from report_rows import NOW, entry, totals_of

from costtrace.reports import Summary, render, render_text, summarize


def text_of(*entries: object, **more: object) -> str:
    summary = summarize(totals_of(entries), created_at=NOW, **more)  # type: ignore[arg-type]
    return render_text(summary, width=100)


def line_of(text: str, start: str) -> str:
    """Return the first line that begins so, with one blank between its cells."""
    line = next(line for line in text.split("\n") if line.startswith(start))
    return " ".join(line.split())


def test_report_shows_functions_models_and_users_with_a_total(summary: Summary) -> None:
    """Each group has its calls, tokens, cost and share; the total closes the table."""
    text = render_text(summary, width=100)

    assert line_of(text, "answer_question") == "answer_question 1 1,000 100 $3.6000 72% -"
    assert line_of(text, "gpt-4o-mini") == "gpt-4o-mini 3 3,000 300 $1.4000 28% -"
    assert line_of(text, "bob") == "bob 2 2,000 200 $0.5000 10% -"
    assert line_of(text, "Total") == "Total 6 6,000 600 $5.0000 100% 2"
    assert text.startswith(
        "costtrace report of costs.db, 2026-11-22 12:00 UTC\nsince 2026-11-01 00:00 UTC\n"
    )


def test_unpriced_calls_are_never_shown_as_zero_dollars(summary: Summary) -> None:
    """A group whose cost nobody knows says so, in every table that it is in."""
    text = render_text(summary, width=100)

    for name in ("experiment", "new-model", "carol"):
        assert line_of(text, name).endswith(" unpriced - 2")
    assert "$0.0000" not in text.split("Budget")[0]
    assert "2 calls unpriced, in no amount: new-model." in text


def test_group_with_priced_and_unpriced_calls_shows_both() -> None:
    """The known part is an amount, and beside it stands how many calls are not in it."""
    text = text_of(entry("1", "f"), entry(None, "f", model="new"))

    assert line_of(text, "f ").endswith(" $1.0000 100% 1")
    assert "1 call unpriced, in no amount: new." in text


def test_column_for_unpriced_calls_appears_only_where_there_are_some() -> None:
    """A ledger whose prices are all known has no such column."""
    assert "npriced" not in text_of(entry("1", "f"))


def test_small_cost_is_not_shown_as_zero() -> None:
    """One token of the cheapest model is still more than nothing."""
    text = text_of(entry("0.00000015", "tiny"), entry("9", "large"))

    assert line_of(text, "tiny").endswith(" $0.00000015 <1%")
    assert line_of(text, "large").endswith(" $9.0000 >99%")


def test_free_call_costs_zero_dollars() -> None:
    """Zero means free: it is an amount like any other."""
    text = text_of(entry("0", "free"))

    assert line_of(text, "free").endswith(" $0.0000 -")
    assert "Nothing was charged." in text


def test_report_says_how_exact_the_cost_is(summary: Summary) -> None:
    """Reported, estimated and assumed parts are told apart; shares are of the money."""
    assert (
        "90% of the cost is from reported usage, 9% is estimated, 1% is assumed as the worst case."
        in " ".join(render_text(summary, width=100).split())
    )
    assert "100% of the cost is estimated." in text_of(entry("1", "f", grade="estimated"))
    assert "No cost is known.\n1 call unpriced" in text_of(entry(None, "f"))


def test_many_unpriced_models_are_not_all_named() -> None:
    """Five names are enough to know where to look."""
    text = text_of(*(entry(None, "f", model=f"model-{place}") for place in range(8)))

    assert "model-3" in text.split("No cost is known")[1]
    assert "and 3 more." in text


def test_empty_ledger_says_so(empty: Summary) -> None:
    """No tables of nothing."""
    assert render_text(empty) == (
        "costtrace report of memory, 2026-11-22 12:00 UTC\n\nNo calls yet.\n"
    )


def test_budgets_are_shown_with_what_remains(summary: Summary) -> None:
    """Also for a budget without a limit, and the ledger's own."""
    text = render_text(summary, width=120)

    assert line_of(text.split("Budget")[1], "alice") == (
        "alice month $5.0000 $4.5000 $0.2000 $0.3000 90% 2026-12-01 00:00 UTC"
    )
    assert line_of(text, "(ledger)") == "(ledger) always no limit $5.0000 $0.0000 - - -"


def test_empty_ledger_still_shows_its_budgets(empty: Summary, summary: Summary) -> None:
    """A budget that nobody has used yet is worth seeing."""
    text = render_text(replace(empty, budgets=summary.budgets), width=100)

    assert "(ledger)" in text
    assert "No calls yet." in text


def test_long_list_ends_in_a_row_of_the_others() -> None:
    """A hundred users: the dearest 19, the others as one row, and the same total."""
    entries = [entry(f"{place}", "f", user_id=f"user-{place:03}") for place in range(1, 101)]
    text = text_of(*entries)

    assert "user-100" in text
    assert "user-082" in text
    assert "user-081" not in text
    assert line_of(text, "(81 others)").endswith(f" ${81 * 82 // 2:,}.0000 66%")
    assert line_of(text, "Total").endswith(" $5,050.0000 100%")


def test_call_paths_show_own_and_inclusive_cost(summary: Summary) -> None:
    """A function that only calls others still says what it stands for."""
    text = render_text(summary, width=100).split("With callees")[1]

    assert line_of(text, "answer_question") == "answer_question 2 $3.6000 $4.5000 90%"
    assert line_of(text, "experiment") == "experiment 2 unpriced unpriced 0%"


def test_report_fits_the_width_it_is_given() -> None:
    """Names give way, and sentences are wrapped."""
    entries = [
        entry("1", "package.module.function" * 5, model="provider/model" * 5),
        entry(None, "f", model="m" * 30),
    ]
    summary = summarize(totals_of(entries), created_at=NOW, notes=["word " * 40])

    assert max(map(len, render_text(summary, width=80).split("\n"))) <= 80


def test_times_are_shown_in_utc(summary: Summary) -> None:
    """Whatever zone a filter was given in."""
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    text = render_text(replace(summary, since=None, until=local), width=100)

    assert "\nuntil 2026-11-22 12:00 UTC\n" in text


def test_color_is_used_only_when_asked_and_allowed(
    summary: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`NO_COLOR` wins unless it is empty; a colored report differs in nothing but color."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = render_text(summary, width=100)
    colored = render_text(summary, width=100, is_colored=True)
    assert "\x1b" not in plain
    assert colored.replace("\x1b[1m", "").replace("\x1b[0m", "") == plain != colored

    monkeypatch.setenv("NO_COLOR", "")
    assert render_text(summary, width=100, is_colored=True) == colored
    monkeypatch.setenv("NO_COLOR", "0")
    assert render_text(summary, width=100, is_colored=True) == plain


def test_plain_names_make_a_plain_ascii_report(summary: Summary) -> None:
    """A terminal or a log that knows no Unicode can show it."""
    assert render(summary).isascii()


def test_callers_decimal_context_changes_nothing(summary: Summary) -> None:
    """A program that computes with three digits sees the same report."""
    expected = render_text(summary, width=100)
    with localcontext(Context(prec=3)):
        assert render_text(summary, width=100) == expected


@pytest.mark.parametrize("wrong", ["xml", "", "TEXT", None, 1])
def test_unknown_format_is_refused_with_the_known_ones(summary: Summary, wrong: object) -> None:
    """The error names what was given and all there is."""
    with pytest.raises(ValueError, match="'text', 'json', 'csv', 'markdown', 'html'") as caught:
        render(summary, wrong)  # type: ignore[arg-type]
    assert repr(wrong) in str(caught.value)


def test_correction_below_zero_is_shown_with_its_sign() -> None:
    """A line that lowers an earlier cost is a negative amount."""
    assert line_of(text_of(entry("-0.5", "f"), entry("2", "g")), "f ").endswith(" -$0.5000 -33%")

"""A ledger by itself: what is recorded, summed, asked and reported."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from costtrace import (
    Alert,
    BudgetExceededError,
    BudgetStoreError,
    CallConflictError,
    CostLedger,
    MemoryStore,
    PriceTable,
    Usage,
)

ANSWER = ("gpt-4o-mini", "answer", "alice", 1_000, 100)
COST = Decimal("0.00021")  # 1,000 at 0.15 and 100 at 0.60 USD per million


def test_record_returns_the_exact_cost(any_ledger: CostLedger):
    """Tokens times list price, as an entry of the present time."""
    assert any_ledger.record(*ANSWER) == COST
    (entry,) = any_ledger.entries
    assert (entry.model, entry.function_name, entry.user_id) == ANSWER[:3]
    assert (entry.prompt_tokens, entry.completion_tokens) == ANSWER[3:]
    assert entry.timestamp.utcoffset() == timedelta(0)
    assert entry.cost_usd == any_ledger.total_cost == COST
    assert any_ledger.total_tokens == 1_100


def test_an_unknown_model_has_no_cost_and_warns_once(any_ledger: CostLedger):
    """Its cost is None, never zero; every sum says how many calls it leaves out."""
    from costtrace import UnpricedModelWarning

    with pytest.warns(UnpricedModelWarning, match="gpt-77"):
        assert any_ledger.record("gpt-77", "f", "u", 10, 10) is None
    assert any_ledger.record("gpt-77", "f", "u", 10, 10) is None
    any_ledger.record(*ANSWER)
    assert any_ledger.unpriced_calls == 2
    assert any_ledger.total_cost == COST
    assert any_ledger.totals("model")[-1].unpriced_calls == 2
    assert "2 calls" in any_ledger.render()


def test_a_tier_without_a_price_is_named():
    """The model has a price: to give it another one would not help."""
    from costtrace import UnpricedModelWarning

    ledger = CostLedger()
    with pytest.warns(UnpricedModelWarning, match="'gpt-4o-mini' in the tier 'bogus'") as warned:
        ledger.record(*ANSWER, service_tier="bogus")
    assert warned[0].filename == __file__


def test_a_sink_that_takes_no_alerts_harms_nothing(caplog: pytest.LogCaptureFixture):
    """It is logged; the entry goes to it, and the alert to all others."""

    class Entries(list[Any]):
        """Takes entries alone, which is not all that a sink must do."""

        entry = list.append

    heard: list[Alert] = []
    ledger, entries = CostLedger(COST, on_alert=heard.append), Entries()
    ledger.sinks.append(entries)  # type: ignore[arg-type]
    assert ledger.record(*ANSWER) == COST
    assert [entry.cost_usd for entry in entries] == [COST]
    assert [alert.threshold for alert in heard] == [0.9]
    assert "a sink failed to take an alert" in caplog.messages


def test_the_same_call_id_is_one_entry(any_ledger: CostLedger):
    """Recording again what was recorded changes nothing."""
    for _ in range(3):
        any_ledger.record(*ANSWER, call_id="batch-7/line-1")
    assert len(any_ledger.entries) == 1
    assert any_ledger.total_cost == COST


def test_a_batch_is_priced_at_batch_rates(any_ledger: CostLedger):
    """`service_tier="batch"` halves the token price."""
    assert any_ledger.record(*ANSWER, service_tier="batch") == COST / 2


def test_details_of_the_usage_are_priced(any_ledger: CostLedger):
    """Cached tokens are a part of the prompt and have their own price."""
    usage = Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=800)
    cost = any_ledger.record(*ANSWER, usage=usage)
    assert cost == (200 * Decimal("0.15") + 800 * Decimal("0.075") + 100 * Decimal("0.6")) / 10**6


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"prompt_tokens": -1}, ValueError),
        ({"prompt_tokens": 1.5}, TypeError),
        ({"completion_tokens": True}, TypeError),
        ({"user_id": ""}, ValueError),
        ({"user_id": 7}, TypeError),
        ({"user_id": "\ud800"}, ValueError),
        ({"user_id": "x" * 2000}, ValueError),
        ({"function_name": None}, TypeError),
        ({"model": ""}, ValueError),
        ({"temperature": 1}, TypeError),
        ({"cost_usd": -1}, ValueError),
        ({"cost_usd": float("nan")}, ValueError),
        ({"cost_usd": True}, TypeError),
        ({"timestamp": datetime(2026, 1, 1)}, ValueError),
        ({"timestamp": "now"}, TypeError),
        ({"tags": {"a": 1}}, TypeError),
        ({"status": "fine"}, ValueError),
        ({"grade": "perfect"}, ValueError),
        ({"provider": 5}, TypeError),
        ({"operation": ["chat"]}, TypeError),
        ({"request_model": b"gpt"}, TypeError),
        ({"region": 5}, TypeError),
        ({"service_tier": 5}, TypeError),
        ({"response_id": 5}, TypeError),
        ({"price_id": 5}, TypeError),
        ({"adjusts": 5}, TypeError),
        ({"streamed": "no"}, TypeError),
        ({"attempts": "two"}, TypeError),
        ({"attempts": -1}, ValueError),
        ({"duration_s": "1 s"}, TypeError),
        ({"duration_s": float("nan")}, ValueError),
        ({"reserved_usd": -1}, ValueError),
        ({"call_path": ["main", 5]}, TypeError),
        ({"call_path": "main"}, TypeError),
        ({"call_path": 5}, TypeError),
        ({"usage": Usage(input_tokens=5)}, ValueError),
        ({"usage": {"input_tokens": 1000}}, TypeError),
    ],
)
def test_what_cannot_be_recorded_says_so_and_enters_nothing(
    any_ledger: CostLedger, wrong: dict[str, Any], error: type[Exception]
):
    """Bad input is refused before anything happens, by the name of what is wrong."""
    names = ("model", "function_name", "user_id", "prompt_tokens", "completion_tokens")
    with pytest.raises(error, match=next(iter(wrong)).rstrip("s")):
        any_ledger.record(**{**dict(zip(names, ANSWER, strict=True)), **wrong})
    assert len(any_ledger.entries) == 0
    assert any_ledger.health().waiting == 0


def test_a_detail_that_is_none_is_as_good_as_left_out(any_ledger: CostLedger):
    """Whoever passes on what another system may not know need not ask for each."""
    names = ("provider", "service_tier", "response_id", "duration_s", "attempts", "tags", "usage")
    any_ledger.record(*ANSWER, call_id="a", **dict.fromkeys(names))
    any_ledger.record(*ANSWER, call_id="b")
    one, other = any_ledger.entries
    assert replace(one, call_id="", timestamp=other.timestamp) == replace(other, call_id="")


def test_every_grouping_sums_to_the_total(any_ledger: CostLedger):
    """By function, user, model, day, tag, path, and by several at once."""
    for n in range(12):
        any_ledger.record(
            ("gpt-4o-mini", "gpt-4o")[n % 2],
            f"f{n % 3}",
            f"u{n % 4}",
            100 + n,
            10,
            tags={"team": f"t{n % 2}"},
            call_path=("main", f"f{n % 3}"),
        )
    for by in (
        "function_name",
        "user_id",
        "model",
        "provider",
        "day",
        "call_path",
        "tag:team",
        ("user_id", "model"),
    ):
        rows = any_ledger.totals(by)
        assert sum(row.cost_usd for row in rows) == any_ledger.total_cost
        assert sum(row.calls for row in rows) == 12
        assert [row.cost_usd for row in rows] == sorted((r.cost_usd for r in rows), reverse=True)
    assert {row.key for row in any_ledger.totals("tag:team")} == {"t0", "t1"}
    assert ("u1", "gpt-4o") in {row.key for row in any_ledger.totals(("user_id", "model"))}
    assert any_ledger.top(1)[0].key == any_ledger.totals()[0].key


def test_spent_takes_filters(any_ledger: CostLedger):
    """By user, function, model and time; `until` is exclusive."""
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    any_ledger.record(*ANSWER, timestamp=at)
    any_ledger.record("gpt-4o-mini", "other", "bob", 1_000, 100, timestamp=at + timedelta(days=1))
    assert any_ledger.spent() == 2 * COST
    assert any_ledger.spent(user_id="alice") == COST
    assert any_ledger.spent(function_name="other", model="gpt-4o-mini") == COST
    assert any_ledger.spent(since=at, until=at + timedelta(days=1)) == COST
    assert any_ledger.spent(user_id="nobody") == 0
    with pytest.raises(ValueError, match="since"):
        any_ledger.spent(since=datetime(2026, 1, 1))
    with pytest.raises(TypeError, match="team"):
        any_ledger.totals(team="x")


def test_the_ledgers_own_budget_alerts_and_does_not_refuse(caplog: pytest.LogCaptureFixture):
    """By default it warns once at 90%; the alert has the documented text."""
    heard: list[Alert] = []
    ledger = CostLedger(budget_usd=COST * 10, on_alert=heard.append)
    for _ in range(12):
        ledger.record(*ANSWER)
    assert [str(alert) for alert in heard] == ["90% of budget used: $0.0019 / $0.0021 (ledger)"]
    assert (heard[0].user_id, heard[0].threshold) == (None, 0.9)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [str(heard[0])]


def test_several_thresholds_alert_once_each_also_after_a_restart(tmp_path: Any):
    """What fired once fires never again for this budget, whoever opens the file."""
    heard: list[float] = []
    for _ in range(3):
        with CostLedger(
            COST * 10,
            path=tmp_path / "costs.db",
            alert_at=(0.5, 0.9),
            on_alert=lambda alert: heard.append(alert.threshold),
        ) as ledger:
            for _ in range(3):
                ledger.record(*ANSWER)
    assert heard == [0.5, 0.9]


def test_a_callback_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture):
    """It is logged, and the other callbacks still hear."""
    heard: list[Alert] = []

    def broken(alert: Alert) -> None:
        raise RuntimeError("no network")

    ledger = CostLedger(COST, on_alert=broken)
    ledger.on_alert(heard.append)
    assert ledger.record(*ANSWER) == COST
    assert len(heard) == 1
    assert "callback failed" in caplog.text


def test_each_entry_is_a_log_record(caplog: pytest.LogCaptureFixture, ledger: CostLedger):
    """Logger costtrace.usage, level INFO, the entry's fields as attributes."""
    with caplog.at_level("INFO", logger="costtrace.usage"):
        ledger.record(*ANSWER)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("costtrace.usage", "llm_call")
    facts: Any = record
    assert (facts.function_name, facts.user_id, facts.model) == ("answer", "alice", "gpt-4o-mini")
    assert (facts.input_tokens, facts.output_tokens, facts.cost_usd) == (1_000, 100, COST)


def test_the_report_prints_and_renders(any_ledger: CostLedger):
    """Text, JSON and CSV, of all or of some entries; an empty ledger says that it is empty."""
    assert "no calls" in any_ledger.render().lower()
    any_ledger.record(*ANSWER)
    out = io.StringIO()
    any_ledger.report(out)
    assert "answer" in out.getvalue()
    assert "alice" in out.getvalue()
    assert Decimal(json.loads(any_ledger.render("json"))["total"]["cost_usd"]) == COST
    assert "answer" in any_ledger.render("csv")
    assert "<table" in any_ledger._repr_html_()
    with pytest.raises(ValueError, match="text"):
        any_ledger.render("pdf")


@pytest.mark.parametrize("format_", ["text", "json", "csv", "markdown", "html"])
def test_a_written_report_is_the_rendered_one(format_: str):
    """No line is added to it: an empty one at the end of a CSV file is one row too many."""
    ledger = CostLedger(clock=lambda: datetime(2026, 11, 20, tzinfo=timezone.utc))
    ledger.record(*ANSWER)
    out = io.StringIO(newline="")
    ledger.report(out, format=format_)
    assert out.getvalue() == ledger.render(format_)
    with pytest.raises(TypeError, match="open for writing text, not"):
        ledger.report("report.txt")  # type: ignore[arg-type]


def test_a_closed_ledger_can_still_be_shown(tmp_path: Any):
    """A debugger that shows it, or a log line that names it, gets a text and no error."""
    ledger = CostLedger(path=tmp_path / "costs.db")
    entries = ledger.entries
    ledger.record(*ANSWER)
    assert (repr(ledger), repr(entries)) == (
        "<CostLedger of 1 entries, 0.00021 USD>",
        "<1 entries>",
    )
    ledger.close()
    assert "closed" in repr(ledger)
    assert "closed" in repr(entries)


def test_entries_are_found_by_their_place(any_ledger: CostLedger):
    """From the front and from the back, as in a list; what is not there is an `IndexError`."""
    for user in ("ann", "ben", "cy"):
        any_ledger.record("gpt-4o-mini", "answer", user, 10, 10)
    users = [entry.user_id for entry in any_ledger.entries]
    for place in (0, 2, -1, -3):
        assert any_ledger.entries[place].user_id == users[place]  # type: ignore[union-attr]
    assert [one.user_id for one in any_ledger.entries[1:]] == users[1:]  # type: ignore[union-attr]
    for place in (3, -4):
        with pytest.raises(IndexError, match=f"no entry {place}: there are 3"):
            any_ledger.entries[place]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"budget_usd": -1}, ValueError),
        ({"budget_usd": "five"}, ValueError),
        ({"budget_usd": True}, TypeError),
        ({"on_exceed": "explode"}, ValueError),
        ({"alert_at": 90}, ValueError),
        ({"on_alert": "mail"}, TypeError),
        ({"clock": datetime(2026, 1, 1)}, TypeError),
        ({"clock": lambda: datetime(2026, 1, 1)}, ValueError),
        ({"prices": 5}, TypeError),
        ({"store": object()}, TypeError),
        ({"store": MemoryStore}, TypeError),
        ({"path": 5}, TypeError),
        ({"path": "x.db", "store": MemoryStore()}, ValueError),
    ],
)
def test_a_wrong_option_is_an_error_at_once(options: dict[str, Any], error: type[Exception]):
    """Nothing is made of a ledger that cannot be right."""
    with pytest.raises(error):
        CostLedger(**options)


def test_own_prices_are_used(tmp_path: Any):
    """A table, or the path of a price file."""
    table = PriceTable.bundled().with_prices({"house-model": {"input": 1, "output": 2}})
    assert CostLedger(prices=table).record("house-model", "f", "u", 10**6, 10**6) == 3
    file = tmp_path / "prices.json"
    file.write_text('{"models": {"house-model": {"input": "0.5", "output": "1"}}}')
    assert CostLedger(prices=file).record("house-model", "f", "u", 10**6, 10**6) == Decimal("1.5")


def test_a_backup_holds_everything(tmp_path: Any):
    """A consistent copy of a file; a ledger in memory says why there is none."""
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        ledger.record(*ANSWER)
        ledger.backup(tmp_path / "copy.db")
    with CostLedger(path=tmp_path / "copy.db") as copy:
        assert copy.total_cost == COST
    with pytest.raises(TypeError, match="path="):
        CostLedger().backup(tmp_path / "never.db")


def test_what_cannot_be_written_to_is_named(tmp_path: Any):
    """The new file, not the ledger, which is well; and what would be a target to copy into."""
    with CostLedger(path=tmp_path / "costs.db") as ledger:
        with pytest.raises(BudgetStoreError, match=r"none/copy\.db: the folder .* create it"):
            ledger.backup(tmp_path / "none" / "copy.db")
        (tmp_path / "copy.db.part").write_text("no database " * 500)
        with pytest.raises(BudgetStoreError, match=r"copy\.db: the backup failed"):
            ledger.backup(tmp_path / "copy.db")
        with pytest.raises(TypeError, match=r"copy_to\(CostLedger\(path='copy.db'\)\)"):
            ledger.copy_to("copy.db")  # type: ignore[arg-type]


def test_the_clock_is_followed(clock: Any):
    """Timestamps, prices and windows are those of the ledger's clock."""
    ledger = CostLedger(clock=clock)
    ledger.record(*ANSWER)
    clock.advance(days=1)
    ledger.record(*ANSWER)
    assert [row.key for row in sorted(ledger.totals("day"), key=lambda row: row.key)] == [
        "2026-11-20",
        "2026-11-21",
    ]


def test_a_budget_error_pickles():
    """It crosses processes with all its facts."""
    error = BudgetExceededError("alice", Decimal(5), Decimal(4), Decimal(0), Decimal(2), "day")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.user_id, copy.limit_usd, copy.window) == ("alice", 5, "day")


def test_a_conflict_is_an_error_of_its_own():
    """The same id for another cost does not move a total."""
    ledger = CostLedger()
    ledger.record(*ANSWER, call_id="x")
    with pytest.raises(CallConflictError):
        ledger.record("gpt-4o-mini", "answer", "alice", 5_000, 100, call_id="x")
    assert ledger.total_cost == COST

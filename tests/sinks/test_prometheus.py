"""Entries and alerts as counters in Prometheus' text format."""

from __future__ import annotations

from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from sink_entries import entry

from costtrace.entry import Alert
from costtrace.sinks import PrometheusSink, Sink
from costtrace.usage import Usage

COST = "costtrace_cost_usd_total"
CALLS = "costtrace_calls_total"


def lines_of(sink: PrometheusSink, name: str) -> list[str]:
    return [line for line in sink.render().splitlines() if line.startswith(name)]


def test_calls_tokens_and_cost_are_counted_by_function_and_model() -> None:
    """Two calls of one function are one series, another model is another one."""
    sink = PrometheusSink()
    sink.entry(entry("0.25"))
    sink.entry(entry("0.5"))
    sink.entry(entry("1", model="claude-sonnet-4-5"))

    labels = 'function="answer_question",model="gpt-4o-mini-2024-07-18"'
    assert lines_of(sink, COST) == [
        f'{COST}{{function="answer_question",model="claude-sonnet-4-5"}} 1',
        f"{COST}{{{labels}}} 0.75",
    ]
    assert f"{CALLS}{{{labels}}} 2" in lines_of(sink, CALLS)
    assert lines_of(sink, "costtrace_input_tokens_total")[1].endswith("} 2000")
    assert lines_of(sink, "costtrace_output_tokens_total")[1].endswith("} 200")


def test_cost_is_exact() -> None:
    """A thousand tenths of a cent and a picodollar add up to the digit, without an exponent."""
    sink = PrometheusSink()
    for _ in range(1000):
        sink.entry(entry("0.001"))
    sink.entry(entry("0.000000000001"))

    assert lines_of(sink, COST)[0].endswith(" 1.000000000001")


def test_unpriced_call_is_counted_as_such() -> None:
    """It is a call, it adds nothing to the cost, and it shows in a counter of its own."""
    sink = PrometheusSink()
    sink.entry(entry(None))

    assert lines_of(sink, CALLS)[0].endswith(" 1")
    assert lines_of(sink, "costtrace_unpriced_calls_total")[0].endswith(" 1")
    assert lines_of(sink, COST)[0].endswith(" 0")


def test_user_is_no_label_unless_asked_for() -> None:
    """A service with a million users has no million series, and leaks no names."""
    sink = PrometheusSink()
    sink.entry(entry(user_id="secret-user"))

    assert "secret-user" not in sink.render()
    assert "user=" not in sink.render()


def test_users_beyond_the_cap_are_other() -> None:
    """The first two users keep their label for good; everyone else shares one."""
    sink = PrometheusSink(users=2)
    for user in ("alice", "bob", "carol", "dave", "alice", "carol"):
        sink.entry(entry("1", user_id=user))

    values = {line.split('user="')[1].split('"')[0]: line[-1] for line in lines_of(sink, COST)}
    assert values == {"alice": "2", "bob": "1", "other": "3"}


def test_functions_and_models_are_bounded_too() -> None:
    """Model names made up by callers cannot fill the memory of a monitoring system."""
    sink = PrometheusSink()
    for place in range(1200):
        sink.entry(entry("1", model=f"model-{place}"))

    lines = lines_of(sink, COST)
    assert len(lines) == 1001
    assert f'{COST}{{function="answer_question",model="other"}} 200' in lines


def test_correction_never_lowers_a_counter() -> None:
    """A line that takes cost back counts beside the cost, and is no call."""
    sink = PrometheusSink()
    sink.entry(entry("1"))
    before = lines_of(sink, COST)
    sink.entry(entry("-0.4", adjusts="call-1", usage=Usage()))

    assert lines_of(sink, COST) == before
    assert lines_of(sink, "costtrace_cost_corrections_usd_total")[0].endswith(" 0.4")
    assert lines_of(sink, CALLS)[0].endswith(" 1")


def test_alerts_are_counted(alert: Alert) -> None:
    """From zero on, so that the first one is a change."""
    sink = PrometheusSink()
    assert lines_of(sink, "costtrace_budget_alerts_total") == ["costtrace_budget_alerts_total 0"]

    sink.alert(alert)

    assert lines_of(sink, "costtrace_budget_alerts_total") == ["costtrace_budget_alerts_total 1"]


def test_counts_from_many_threads_are_all_there() -> None:
    """Eight threads, none of whose calls is lost."""
    sink, one = PrometheusSink(users=5), entry("0.001")

    def work() -> None:
        for _ in range(500):
            sink.entry(one)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines_of(sink, CALLS)[0].endswith(" 4000")
    assert lines_of(sink, COST)[0].endswith(" 4")


@pytest.mark.parametrize("users", [-1, True, 1.5, "10", None])
def test_number_of_users_must_be_a_number(users: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises(ValueError, match="users must be how many users get a label"):
        PrometheusSink(users=users)


def test_prometheus_own_parser_reads_it(alert: Alert) -> None:
    """Also names with quotes, backslashes and line ends come back as they were."""
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client, whose parser checks us, is missing"
    )
    sink = PrometheusSink(users=1)
    name = 'a"b\\c\nd{}=,#é分'
    sink.entry(entry("0.000000000001", function_name=name))
    sink.alert(alert)

    families = {one.name: one for one in parser.text_string_to_metric_families(sink.render())}

    assert {one.type for one in families.values()} == {"counter"}
    (sample,) = families["costtrace_cost_usd"].samples
    assert sample.labels == {
        "function": name,
        "model": "gpt-4o-mini-2024-07-18",
        "user": "alice",
    }
    assert sample.value == float(Decimal("0.000000000001"))
    assert len(families) == 7
    assert all(one.documentation for one in families.values())


def test_name_that_is_no_unicode_does_not_break_the_endpoint() -> None:
    """A lone surrogate cannot be sent as UTF-8; the series shows a question mark instead."""
    sink = PrometheusSink()
    sink.entry(entry("1", function_name="a\ud800b"))

    assert 'function="a?b"' in sink.render().encode("utf-8").decode("utf-8")


def test_prometheus_sink_is_a_sink() -> None:
    """It has what the protocol asks for."""
    assert isinstance(PrometheusSink(), Sink)

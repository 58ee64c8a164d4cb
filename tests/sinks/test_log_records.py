"""Entries and alerts as log records."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import fields
from decimal import Decimal
from typing import cast

import pytest
from sink_entries import NOW, entry

from costtrace.entry import Alert, CostEntry
from costtrace.sinks import LogSink, Sink
from costtrace.sinks.log import record_attributes
from costtrace.usage import Usage


def test_entry_is_a_record_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    """One record at INFO, whose message is always the same and whose attributes are the entry's."""
    caplog.set_level(logging.INFO, logger="costtrace.usage")

    LogSink().entry(entry())

    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (
        "costtrace.usage",
        "INFO",
        "llm_call",
    )
    facts = vars(record)
    assert facts["function_name"] == "answer_question"
    assert facts["user_id"] == "alice"
    assert facts["model"] == "gpt-4o-mini-2024-07-18"
    assert facts["operation"] == "chat"
    assert (facts["input_tokens"], facts["output_tokens"]) == (1000, 100)
    assert facts["cost_usd"] == Decimal("0.25")
    assert facts["cache_read_tokens"] == 400
    assert facts["call_path"] == ("main", "answer_question")
    assert facts["tags"] == {"team": "search"}
    assert facts["timestamp"] == NOW


def test_every_fact_of_an_entry_is_in_the_record() -> None:
    """A field added to entries or usage later cannot be forgotten here."""
    names = {one.name for one in (*fields(CostEntry), *fields(Usage))} - {"usage"}

    assert set(record_attributes(entry())) == names


def test_no_fact_clashes_with_a_records_own_attributes() -> None:
    """`logging` would refuse such a record, and formatters use more names than it checks."""
    record = logging.LogRecord("n", 20, "p", 1, "m", (), None)
    own = {*vars(record), "message", "asctime", "taskName"}

    assert not own & set(record_attributes(entry()))


def test_unknown_cost_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Never zero, in a record neither."""
    caplog.set_level(logging.INFO, logger="costtrace.usage")

    LogSink().entry(entry(None))

    assert vars(caplog.records[0])["cost_usd"] is None


def test_disabled_level_costs_next_to_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """For a record that nobody wants, the entry is not even looked at."""
    caplog.set_level(logging.WARNING, logger="costtrace.usage")

    LogSink().entry(cast(CostEntry, object()))

    assert caplog.records == []


def test_alert_is_a_warning_with_its_text(caplog: pytest.LogCaptureFixture, alert: Alert) -> None:
    """The line that the contract shows, on the package's own logger."""
    LogSink().alert(alert)

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("costtrace", "WARNING")
    assert record.getMessage() == "90% of budget used: $4.5210 / $5.0000 (user alice)"


def test_percent_sign_in_a_user_is_no_format(
    caplog: pytest.LogCaptureFixture, alert: Alert
) -> None:
    """A user called `%s` gets a line too."""
    LogSink().alert(
        Alert(
            user_id="%s %d",
            threshold=0.5,
            spent_usd=alert.spent_usd,
            limit_usd=alert.limit_usd,
            window=None,
            resets_at=None,
        )
    )

    assert caplog.records[0].getMessage().endswith("(user %s %d)")


def test_application_without_logging_sees_nothing() -> None:
    """An unconfigured program prints neither alerts nor complaints."""
    program = (
        "from costtrace.sinks.log import LogSink; LogSink().alert('90% of budget used');"
        "import logging; logging.getLogger('costtrace.usage').error('x')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_log_sink_is_a_sink() -> None:
    """It has what the protocol asks for."""
    assert isinstance(LogSink(), Sink)

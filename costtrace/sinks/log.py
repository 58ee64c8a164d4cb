"""Entries and alerts as log records.

Logger `costtrace.usage` at INFO: one record `llm_call` for each entry, its facts as attributes of
the record. Logger `costtrace` at WARNING: the text of each alert. Neither is shown unless the
application configures logging.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from costtrace.entry import Alert, CostEntry
from costtrace.usage import Usage

log = logging.getLogger("costtrace")
log.addHandler(logging.NullHandler())  # else Python prints what nobody has configured
usage_log = logging.getLogger("costtrace.usage")

_ENTRY_FIELDS = tuple(one.name for one in fields(CostEntry) if one.name not in ("usage", "tags"))
_COUNTS = tuple(one.name for one in fields(Usage))


class LogSink:
    """Writes each entry and alert to the standard library's logging."""

    def entry(self, entry: CostEntry) -> None:
        """Log an entry; costs next to nothing where INFO is not wanted."""
        if usage_log.isEnabledFor(logging.INFO):
            usage_log.info("llm_call", extra=record_attributes(entry))

    def alert(self, alert: Alert) -> None:
        """Log the text of an alert."""
        log.warning("%s", alert)


def record_attributes(entry: CostEntry) -> dict[str, Any]:
    """Return the facts of an entry by the names they have in `CostEntry` and `Usage`.

    None of them is an attribute that a log record has of its own. The values are those of the
    entry: `cost_usd` is a `Decimal` or None, `timestamp` an aware datetime, `tags` a dict.
    """
    attributes = {name: getattr(entry, name) for name in _ENTRY_FIELDS}
    attributes["tags"] = dict(entry.tags)
    attributes.update((name, getattr(entry.usage, name)) for name in _COUNTS)
    return attributes

"""Sinks: finished entries and alerts going out, besides the store and the report.

Each is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.lazy import lazily

if TYPE_CHECKING:
    from costtrace.sinks.base import Sink
    from costtrace.sinks.log import LogSink
    from costtrace.sinks.otel import OpenTelemetrySink
    from costtrace.sinks.prometheus import PrometheusSink

__all__ = ["LogSink", "OpenTelemetrySink", "PrometheusSink", "Sink"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "LogSink": "log",
        "OpenTelemetrySink": "otel",
        "PrometheusSink": "prometheus",
        "Sink": "base",
    },
)

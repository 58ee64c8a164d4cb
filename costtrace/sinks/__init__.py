"""Sinks: finished entries and alerts going out, besides the store and the report."""

from costtrace.sinks.base import Sink
from costtrace.sinks.log import LogSink
from costtrace.sinks.otel import OpenTelemetrySink
from costtrace.sinks.prometheus import PrometheusSink

__all__ = ["LogSink", "OpenTelemetrySink", "PrometheusSink", "Sink"]

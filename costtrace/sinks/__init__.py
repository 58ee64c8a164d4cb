"""Sinks: finished entries and alerts going out, besides the store and the report.

Each is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costtrace.sinks.base import Sink
    from costtrace.sinks.log import LogSink
    from costtrace.sinks.otel import OpenTelemetrySink
    from costtrace.sinks.prometheus import PrometheusSink

__all__ = ["LogSink", "OpenTelemetrySink", "PrometheusSink", "Sink"]

_MODULES = {
    "LogSink": "log",
    "OpenTelemetrySink": "otel",
    "PrometheusSink": "prometheus",
    "Sink": "base",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

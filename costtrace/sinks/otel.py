"""Entries as OpenTelemetry metrics and span attributes, through objects that the caller passes in.

Nothing of OpenTelemetry is imported. Its conventions for generative AI are in development: the
names are those that its published package has, or with `OTEL_SEMCONV_STABILITY_OPT_IN` set to
`gen_ai_latest_experimental` the newest ones. The conventions have no released name for money yet;
the proposed ones are used, besides attributes of our own that begin with `costtrace.`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from costtrace.entry import Alert, CostEntry
from costtrace.instant import to_us

_OPERATIONS = {  # ours -> the convention's, where it has one
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_TOKEN_BUCKETS = tuple(4**power for power in range(14))  # 1 to 67,108,864, as the convention says
_DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))  # 0.01 s to 81.92 s, likewise
_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
_LATEST = "gen_ai_latest_experimental"


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The names that differ between the published conventions and the newest ones."""

    input_tokens: str
    output_tokens: str
    duration: str
    cache_write: str
    has_token_counters: bool


_PUBLISHED = _Spelling(
    input_tokens="gen_ai.client.token.usage",
    output_tokens="gen_ai.client.token.usage",
    duration="gen_ai.client.operation.duration",
    cache_write="gen_ai.usage.cache_creation.input_tokens",
    has_token_counters=False,
)
_NEWEST = _Spelling(
    input_tokens="gen_ai.client.inference.operation.input_tokens",
    output_tokens="gen_ai.client.inference.operation.output_tokens",
    duration="gen_ai.client.operation.duration",
    cache_write="gen_ai.usage.cache_write.input_tokens",
    has_token_counters=True,
)
_TOKEN_COUNTERS = {  # newest conventions: metric -> the count of `Usage` that it sums
    f"gen_ai.client.inference.usage.{name}": count
    for name, count in (
        ("input_tokens", "input_tokens"),
        ("output_tokens", "output_tokens"),
        ("cache_read.input_tokens", "cache_read_tokens"),
        ("cache_write.input_tokens", "cache_write_tokens"),
        ("reasoning.output_tokens", "reasoning_tokens"),
    )
}


class OpenTelemetrySink:
    """Sends each entry to the caller's meter, and onto its spans.

    `meter`: tokens and durations as histograms, cost as a counter; by model, operation and
    function, never by user. `current_span`: `opentelemetry.trace.get_current_span`, whose span
    gets the entry's attributes; right where another instrumentation has a span around the call.
    `tracer`: a span of its own for each call; right where nothing else makes one.

    Counters only grow: a line that lowers an earlier cost counts in `costtrace.cost.corrections`.
    """

    def __init__(
        self,
        meter: Any = None,
        *,
        tracer: Any = None,
        current_span: Callable[[], Any] | None = None,
    ) -> None:
        if meter is None and tracer is None and current_span is None:
            raise ValueError("OpenTelemetrySink needs a meter, a tracer or current_span")
        opted = {part.strip() for part in os.environ.get(_OPT_IN, "").split(",")}
        self._names = _NEWEST if _LATEST in opted else _PUBLISHED
        self._instruments = {} if meter is None else _instruments(meter, self._names)
        self._tracer = tracer
        self._current_span = current_span

    def entry(self, entry: CostEntry) -> None:
        """Record an entry."""
        if self._instruments:
            self._measure(entry)
        if self._current_span is not None and entry.adjusts is None:
            span = self._current_span()
            if span.is_recording():
                span.set_attributes(span_attributes(entry, self._names.cache_write))
        if self._tracer is not None and entry.adjusts is None:
            self._trace(entry)

    def alert(self, alert: Alert) -> None:
        """Count an alert."""
        if self._instruments:
            self._instruments["costtrace.budget.alerts"].add(1)

    def _measure(self, entry: CostEntry) -> None:
        attributes = metric_attributes(entry)
        if entry.adjusts is None:
            self._measure_call(entry, attributes)
        if entry.cost_usd is None:
            self._instruments["costtrace.unpriced_calls"].add(int(not entry.adjusts), attributes)
            return
        is_lower = entry.cost_usd < 0
        name = "costtrace.cost.corrections" if is_lower else "gen_ai.client.operation.cost"
        money = {"gen_ai.usage.cost.currency": "USD", "gen_ai.usage.cost.source": "local"}
        self._instruments[name].add(abs(float(entry.cost_usd)), {**attributes, **money})

    def _measure_call(self, entry: CostEntry, attributes: Mapping[str, Any]) -> None:
        if entry.duration_s is not None:
            self._instruments[self._names.duration].record(entry.duration_s, attributes)
        sides = (
            ("input", self._names.input_tokens, entry.usage.input_tokens),
            ("output", self._names.output_tokens, entry.usage.output_tokens),
        )
        for side, name, count in sides:
            kind = {} if self._names.has_token_counters else {"gen_ai.token.type": side}
            if count:
                self._instruments[name].record(count, {**attributes, **kind})
        for name, part in _TOKEN_COUNTERS.items() if self._names.has_token_counters else ():
            if count := getattr(entry.usage, part):
                self._instruments[name].add(count, attributes)

    def _trace(self, entry: CostEntry) -> None:
        start_ns = to_us(entry.timestamp) * 1000
        attributes = span_attributes(entry, self._names.cache_write)
        operation = attributes.get("gen_ai.operation.name", "llm")
        span = self._tracer.start_span(
            f"{operation} {entry.request_model or entry.model}",
            start_time=start_ns,
            attributes=attributes,
        )
        span.end(end_time=start_ns + int((entry.duration_s or 0) * 1e9))


def metric_attributes(entry: CostEntry) -> dict[str, Any]:
    """Return what metrics are broken down by: few values each, and no user."""
    attributes = {
        "gen_ai.operation.name": _OPERATIONS.get(entry.operation, entry.operation),
        "gen_ai.provider.name": entry.provider,
        "gen_ai.request.model": entry.request_model or entry.model,
        "gen_ai.response.model": entry.model,
        "costtrace.function_name": entry.function_name,
    }
    attributes = {name: value for name, value in attributes.items() if value}
    if entry.status in ("error", "raised"):
        attributes["error.type"] = "_OTHER"
    return attributes


def span_attributes(entry: CostEntry, cache_write: str = _PUBLISHED.cache_write) -> dict[str, Any]:
    """Return the facts of an entry for a span; what is not known is left out."""
    usage, is_openai = entry.usage, entry.provider == "openai"
    attributes = {
        **metric_attributes(entry),
        "user.id": entry.user_id,
        "gen_ai.response.id": entry.response_id,
        "gen_ai.request.stream": entry.streamed or None,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens or None,
        cache_write: usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
        "openai.response.service_tier": entry.service_tier if is_openai else None,
        "costtrace.call_id": entry.call_id,
        "costtrace.grade": entry.grade,
        "costtrace.status": entry.status,
    }
    if entry.cost_usd is not None:
        attributes["gen_ai.usage.cost.amount"] = float(entry.cost_usd)
        attributes["gen_ai.usage.cost.currency"] = "USD"
        attributes["gen_ai.usage.cost.source"] = "local"
        attributes["costtrace.cost_usd"] = f"{entry.cost_usd:f}"
    return {name: value for name, value in attributes.items() if value is not None}


def _instruments(meter: Any, names: _Spelling) -> dict[str, Any]:
    found = {
        "gen_ai.client.operation.cost": _counter(
            meter, "gen_ai.client.operation.cost", "USD", "Known cost of calls."
        ),
        "costtrace.cost.corrections": _counter(
            meter, "costtrace.cost.corrections", "USD", "By how much earlier costs were too high."
        ),
        "costtrace.unpriced_calls": _counter(
            meter, "costtrace.unpriced_calls", "{call}", "Calls without a known price."
        ),
        "costtrace.budget.alerts": _counter(
            meter, "costtrace.budget.alerts", "{alert}", "Thresholds of budgets that were crossed."
        ),
        names.duration: _histogram(meter, names.duration, "s", _DURATION_BUCKETS),
    }
    for name in dict.fromkeys((names.input_tokens, names.output_tokens)):
        found[name] = _histogram(meter, name, "{token}", _TOKEN_BUCKETS)
    for name in _TOKEN_COUNTERS if names.has_token_counters else ():
        found[name] = _counter(meter, name, "{token}", "Tokens used.")
    return found


def _counter(meter: Any, name: str, unit: str, description: str) -> Any:
    return meter.create_counter(name, unit=unit, description=description)


def _histogram(meter: Any, name: str, unit: str, buckets: tuple[float, ...]) -> Any:
    try:
        return meter.create_histogram(
            name, unit=unit, explicit_bucket_boundaries_advisory=list(buckets)
        )
    except TypeError:  # its API before 1.30 takes no advice on buckets
        return meter.create_histogram(name, unit=unit)

"""Entries as OpenTelemetry metrics and spans, read back from its real SDK."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sink_entries import NOW, entry

from costtrace.entry import Alert
from costtrace.sinks import OpenTelemetrySink, Sink
from costtrace.usage import Usage

sdk_metrics = pytest.importorskip(
    "opentelemetry.sdk.metrics", reason="opentelemetry-sdk, which reads the metrics, is missing"
)
export = pytest.importorskip("opentelemetry.sdk.metrics.export")
sdk_trace = pytest.importorskip("opentelemetry.sdk.trace")
trace_export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
api_trace = pytest.importorskip("opentelemetry.trace")


class Metrics:
    """A meter of the real SDK, and what it has collected."""

    def __init__(self) -> None:
        self.reader = export.InMemoryMetricReader()
        self.provider = sdk_metrics.MeterProvider(metric_readers=[self.reader])
        self.meter = self.provider.get_meter("test")

    def read(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def metrics() -> Any:
    found = Metrics()
    yield found
    found.provider.shutdown()


@pytest.fixture
def spans() -> Any:
    exporter = in_memory.InMemorySpanExporter()
    provider = sdk_trace.TracerProvider()
    provider.add_span_processor(trace_export.SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def points_of(metric: Any) -> list[Any]:
    return list(metric.data.data_points)


def test_tokens_and_duration_are_histograms_by_the_published_names(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Input and output are told apart by an attribute; units and buckets are the convention's."""
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN", raising=False)
    OpenTelemetrySink(metrics.meter).entry(entry())

    found = metrics.read()
    tokens, duration = found["gen_ai.client.token.usage"], found["gen_ai.client.operation.duration"]
    assert (tokens.unit, duration.unit) == ("{token}", "s")
    sums = {one.attributes["gen_ai.token.type"]: one.sum for one in points_of(tokens)}
    assert sums == {"input": 1000, "output": 100}
    assert points_of(tokens)[0].explicit_bounds[:3] == (1, 4, 16)
    assert points_of(tokens)[0].explicit_bounds[-1] == 67_108_864
    assert points_of(duration)[0].sum == 1.5
    assert points_of(duration)[0].explicit_bounds[-1] == 81.92


def test_cost_is_a_growing_counter_in_us_dollars(metrics: Metrics) -> None:
    """Two calls add up, and the currency and source are named."""
    sink = OpenTelemetrySink(metrics.meter)
    sink.entry(entry("0.25"))
    sink.entry(entry("0.5"))

    cost = metrics.read()["gen_ai.client.operation.cost"]
    assert (cost.unit, cost.data.is_monotonic) == ("USD", True)
    (point,) = points_of(cost)
    assert point.value == 0.75
    assert dict(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "costtrace.function_name": "answer_question",
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
    }


def test_user_is_on_no_metric(metrics: Metrics, alert: Alert) -> None:
    """Nor are the call's id or its tags: each would be a series for every user or call."""
    sink = OpenTelemetrySink(metrics.meter)
    sink.entry(entry(user_id="secret-user", tags={"k": "secret-tag"}, call_id="secret-call"))
    sink.entry(entry(None, user_id="secret-user"))
    sink.alert(alert)

    for metric in metrics.read().values():
        for point in points_of(metric):
            assert "secret" not in str(dict(point.attributes))
            assert "alice" not in str(dict(point.attributes))


def test_unpriced_call_adds_no_cost(metrics: Metrics) -> None:
    """It is counted where such calls are counted, and the cost has no point at all."""
    OpenTelemetrySink(metrics.meter).entry(entry(None))

    found = metrics.read()
    assert "gen_ai.client.operation.cost" not in found
    assert points_of(found["costtrace.unpriced_calls"])[0].value == 1


def test_correction_never_lowers_the_cost(metrics: Metrics) -> None:
    """A line that takes cost back counts beside it, and measures no call."""
    sink = OpenTelemetrySink(metrics.meter)
    sink.entry(entry("1"))
    sink.entry(entry("-0.4", adjusts="call-1", usage=Usage()))

    found = metrics.read()
    assert points_of(found["gen_ai.client.operation.cost"])[0].value == 1
    assert points_of(found["costtrace.cost.corrections"])[0].value == 0.4
    assert points_of(found["gen_ai.client.operation.duration"])[0].count == 1


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("chat", "chat"),
        ("responses", "chat"),
        ("messages", "chat"),
        ("completions", "text_completion"),
        ("embeddings", "embeddings"),
        ("speech", "speech"),
    ],
)
def test_operations_have_the_conventions_names(metrics: Metrics, operation: str, name: str) -> None:
    """What the convention has no name for keeps its own."""
    OpenTelemetrySink(metrics.meter).entry(entry(operation=operation))

    (point,) = points_of(metrics.read()["gen_ai.client.operation.cost"])
    assert point.attributes["gen_ai.operation.name"] == name


@pytest.mark.parametrize(
    "opted", ["gen_ai_latest_experimental", "http, gen_ai_latest_experimental"]
)
def test_newest_names_are_used_when_opted_in(
    metrics: Metrics, spans: Any, monkeypatch: pytest.MonkeyPatch, opted: str
) -> None:
    """One variable switches all names that differ; tokens are counters then, which sum."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opted)
    tracer, exporter = spans
    sink = OpenTelemetrySink(metrics.meter, tracer=tracer)
    sink.entry(entry(usage=Usage(input_tokens=10, cache_write_tokens=4, output_tokens=5)))

    found = metrics.read()
    assert "gen_ai.client.token.usage" not in found
    assert points_of(found["gen_ai.client.inference.usage.input_tokens"])[0].value == 10
    assert points_of(found["gen_ai.client.inference.usage.cache_write.input_tokens"])[0].value == 4
    assert points_of(found["gen_ai.client.inference.operation.output_tokens"])[0].sum == 5
    (span,) = exporter.get_finished_spans()
    assert span.attributes["gen_ai.usage.cache_write.input_tokens"] == 4


def test_current_span_gets_the_facts_of_the_call(spans: Any) -> None:
    """The span that the application or the SDK has open is added to; no second one is made."""
    tracer, exporter = spans
    sink = OpenTelemetrySink(current_span=api_trace.get_current_span)
    with tracer.start_as_current_span("outer"):
        sink.entry(entry("0.1"))

    (span,) = exporter.get_finished_spans()
    assert span.name == "outer"
    facts = span.attributes
    assert facts["gen_ai.usage.input_tokens"] == 1000
    assert facts["gen_ai.usage.cache_read.input_tokens"] == 400
    assert facts["gen_ai.response.id"] == "chatcmpl-1"
    assert facts["gen_ai.usage.cost.amount"] == 0.1
    assert facts["gen_ai.usage.cost.currency"] == "USD"
    assert facts["costtrace.cost_usd"] == "0.1"
    assert facts["user.id"] == "alice"
    assert "gen_ai.usage.reasoning.output_tokens" not in facts


def test_no_current_span_is_no_trouble() -> None:
    """Outside every span there is nothing to add to."""
    OpenTelemetrySink(current_span=api_trace.get_current_span).entry(entry())


def test_span_that_is_over_is_left_alone(spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A reply that is read after its span has ended cannot be added to it, and nobody complains."""
    tracer, _ = spans
    span = tracer.start_span("over")
    span.end()

    OpenTelemetrySink(current_span=lambda: span).entry(entry())

    assert caplog.records == []
    assert "costtrace.grade" not in span.attributes


def test_tracer_gets_a_span_for_each_call(spans: Any) -> None:
    """With the call's own times, named by operation and model; unknown cost is left out."""
    tracer, exporter = spans
    OpenTelemetrySink(tracer=tracer).entry(entry(None))

    (span,) = exporter.get_finished_spans()
    assert span.name == "chat gpt-4o-mini"
    assert span.start_time == int(NOW.timestamp()) * 10**9
    assert span.end_time - span.start_time == 1_500_000_000
    assert "gen_ai.usage.cost.amount" not in span.attributes
    assert span.attributes["costtrace.grade"] == "reported"


def test_failed_call_has_an_error_type(metrics: Metrics) -> None:
    """So that failures can be told apart without a name for each."""
    OpenTelemetrySink(metrics.meter).entry(entry("0", status="error", usage=Usage()))

    found = metrics.read()
    (point,) = points_of(found["gen_ai.client.operation.duration"])
    assert point.attributes["error.type"] == "_OTHER"
    assert "gen_ai.client.token.usage" not in found


def test_entry_recorded_by_hand_has_no_empty_attributes(metrics: Metrics, spans: Any) -> None:
    """What is not known is left out, not empty."""
    tracer, exporter = spans
    one = entry(provider="", operation="", request_model="", response_id=None, duration_s=None)
    OpenTelemetrySink(metrics.meter, tracer=tracer).entry(one)

    (point,) = points_of(metrics.read()["gen_ai.client.operation.cost"])
    (span,) = exporter.get_finished_spans()
    assert "" not in point.attributes.values()
    assert "" not in span.attributes.values()
    assert span.name == "llm gpt-4o-mini-2024-07-18"


def test_alerts_are_counted(metrics: Metrics, alert: Alert) -> None:
    """By no attribute at all."""
    OpenTelemetrySink(metrics.meter).alert(alert)

    (point,) = points_of(metrics.read()["costtrace.budget.alerts"])
    assert (point.value, dict(point.attributes)) == (1, {})


def test_meter_of_an_older_api_is_taken_too(metrics: Metrics) -> None:
    """Before buckets could be advised, a histogram had a name and a unit only."""

    class OlderMeter:
        create_counter = metrics.meter.create_counter

        def create_histogram(self, name: str, unit: str = "", description: str = "") -> Any:
            return metrics.meter.create_histogram(name, unit, description)

    OpenTelemetrySink(OlderMeter()).entry(entry())

    assert "gen_ai.client.token.usage" in metrics.read()


def test_sink_without_anywhere_to_send_is_refused() -> None:
    """It would do nothing, and nobody would know."""
    with pytest.raises(ValueError, match="needs a meter, a tracer or current_span"):
        OpenTelemetrySink()


def test_opentelemetry_is_never_imported_by_the_package() -> None:
    """The caller's objects are used, whatever version they are of."""
    program = "import sys, costtrace.sinks; sys.exit('opentelemetry' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_opentelemetry_sink_is_a_sink(metrics: Metrics) -> None:
    """It has what the protocol asks for."""
    assert isinstance(OpenTelemetrySink(metrics.meter), Sink)

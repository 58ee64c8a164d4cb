"""Other instrumentation above, below and in place of ours; objects made earlier or kept longer."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openai._base_client import AsyncAPIClient, SyncAPIClient

from costtrace import BudgetExceededError, CostLedger, InstrumentationWarning, budget
from costtrace.instrumentation import begin
from costtrace.instrumentation.patch import Patch, PatchedModule
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]
GPT = Decimal("0.000027")
CLAUDE = Decimal("0.0002")


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, **more)


class ForeignTool:
    """Wraps `request` with a plain closure, as many tools do, and puts back what it found."""

    def __init__(self) -> None:
        self.calls = 0
        self.found: Any = None

    def apply(self) -> None:
        self.found = found = vars(SyncAPIClient)["request"]

        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return found.__get__(client)(*args, **kwargs)

        SyncAPIClient.request = request  # type: ignore[method-assign]

    def remove(self) -> None:
        SyncAPIClient.request = self.found  # type: ignore[method-assign]


@pytest.fixture
def original() -> Iterator[Any]:
    """The SDK's own method, put back whatever a test has done."""
    found = vars(SyncAPIClient)["request"]
    yield found
    SyncAPIClient.request = found  # type: ignore[method-assign]


def test_a_tool_below_ours_goes_on_working(openai_client: Any, ledger: CostLedger, original: Any):
    """It was there first, and is there afterwards."""
    tool = ForeignTool()
    tool.apply()
    theirs = vars(SyncAPIClient)["request"]
    with budget("alice", 1, ledger=ledger):
        chat(openai_client)
    assert vars(SyncAPIClient)["request"] is theirs
    chat(openai_client)
    assert (tool.calls, ledger.total_cost) == (2, GPT)


def test_a_tool_above_ours_is_left_in_place(openai_client: Any, ledger: CostLedger, original: Any):
    """Ours stays below it, silent without a scope, and counts once when it is on again."""
    tool = ForeignTool()
    with budget("alice", 1, ledger=ledger):
        tool.apply()
        chat(openai_client)
    theirs = vars(SyncAPIClient)["request"]
    chat(openai_client)
    assert (tool.calls, len(ledger.entries)) == (2, 1)
    for _ in range(3):
        with budget("alice", 1, ledger=ledger):
            assert vars(SyncAPIClient)["request"] is theirs
            chat(openai_client)
    assert ledger.total_cost == 4 * GPT
    tool.remove()
    with budget("alice", 1, ledger=ledger):
        chat(openai_client)
    assert (len(ledger.entries), vars(SyncAPIClient)["request"]) == (5, original)


def test_a_tool_that_puts_back_the_original_does_not_blind_us_for_ever(
    openai_client: Any, ledger: CostLedger, original: Any
):
    """It wiped us out; the next scope sees again."""
    with budget("alice", 1, ledger=ledger):
        SyncAPIClient.request = original  # type: ignore[method-assign]
    assert vars(SyncAPIClient)["request"] is original
    with budget("alice", 1, ledger=ledger):
        chat(openai_client)
    assert len(ledger.entries) == 1
    assert vars(SyncAPIClient)["request"] is original

    with budget("alice", 1, ledger=ledger):
        ForeignTool().apply()  # on top of ours when the scope is left
    SyncAPIClient.request = original  # type: ignore[method-assign]
    with budget("alice", 0, ledger=ledger), pytest.raises(BudgetExceededError):
        chat(openai_client)
    assert vars(SyncAPIClient)["request"] is original


def replaced(client: Any) -> Any:
    """Replace `request` of one client before any scope, as some tools do."""
    inner = client.request

    @functools.wraps(inner)
    def request(_: Any, *args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    client.request = types.MethodType(request, client)
    return client


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_whose_request_was_replaced_is_entered(
    is_stream: bool, provider: LoopbackProvider, ledger: CostLedger
):
    """We are bypassed, and see its answers below it all the same."""
    client = replaced(provider.openai(max_retries=0))
    other = replaced(provider.anthropic(max_retries=0))
    with budget("alice", ledger=ledger):
        made = (
            chat(client, stream=is_stream, stream_options={"include_usage": True})
            if (is_stream)
            else chat(client)
        )
        if is_stream:
            list(made)
        client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=ASK)
        client.responses.create(model="gpt-4o-mini", input="Hi")
        other.messages.create(model="claude-haiku-4-5", messages=ASK, max_tokens=9)
    assert [e.cost_usd for e in ledger.entries][:3] == [GPT] * 3
    assert len(ledger.entries) == 4
    assert {e.status for e in ledger.entries} == {"ok"}


def test_a_limit_that_cannot_hold_such_a_client_says_so(
    provider: LoopbackProvider, ledger: CostLedger, monkeypatch: pytest.MonkeyPatch
):
    """Entered, but not refused: that is a warning, once."""
    monkeypatch.setattr(begin, "_warned", set())
    client = replaced(provider.openai(max_retries=0))
    with budget("alice", 0, ledger=ledger) as b:
        with pytest.warns(InstrumentationWarning, match=r"request\(\) that another tool"):
            chat(client)
        chat(client)
        assert b.spent_usd == 2 * GPT


def test_an_async_client_whose_request_was_replaced_is_entered(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """The same on an event loop."""
    import asyncio

    async def main() -> None:
        async with provider.async_openai() as client:
            replaced(client)
            with budget("alice", ledger=any_ledger):
                await chat(client)
                await client.responses.create(model="gpt-4o-mini", input="Hi")

    asyncio.run(main())
    assert [e.cost_usd for e in any_ledger.entries] == [GPT] * 2


def test_a_client_class_of_ones_own_is_counted_once(provider: LoopbackProvider, ledger: CostLedger):
    """It overrides `request` and calls what it overrides."""

    class Own(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    client = Own(base_url=provider.openai_url, api_key="k")
    with client, budget("alice", 1, ledger=ledger):
        chat(client)
    assert ledger.total_cost == GPT


# Objects made before the scope, or kept after it


def test_accessors_and_methods_kept_from_before_are_seen(
    openai_client: Any, anthropic_client: Any, ledger: CostLedger
):
    """They are cached on first use and hold the methods of that time."""
    raw = openai_client.chat.completions.with_raw_response
    whole = openai_client.with_raw_response
    streaming = anthropic_client.messages.with_streaming_response
    create, stream = openai_client.chat.completions.create, anthropic_client.messages.stream
    message: Any = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 99}

    def everything() -> None:
        raw.create(model="gpt-4o-mini", messages=ASK)
        whole.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        create(model="gpt-4o-mini", messages=ASK)
        with streaming.create(**message) as response:
            response.read()
        with stream(**message) as events:
            events.get_final_message()

    with budget("alice", 1, ledger=ledger) as b:
        everything()
        assert b.spent_usd == 3 * GPT + 2 * CLAUDE
    everything()
    assert len(ledger.entries) == 5


def test_what_was_made_inside_a_scope_is_free_of_it_afterwards(
    openai_client: Any, ledger: CostLedger
):
    """No wrapper outlives its scope inside a cached accessor."""
    with budget("alice", 1, ledger=ledger):
        raw = openai_client.chat.completions.with_raw_response
        create = openai_client.chat.completions.create
        copy = openai_client.with_options(timeout=5)
    raw.create(model="gpt-4o-mini", messages=ASK)
    create(model="gpt-4o-mini", messages=ASK)
    chat(copy)
    assert len(ledger.entries) == 0


def test_async_create_is_no_coroutine_function_and_is_seen(
    provider: LoopbackProvider, any_ledger: CostLedger
):
    """Sync or async is told by the class of the client, never by looking at a method."""
    import asyncio
    import inspect

    async def main() -> None:
        async with provider.async_anthropic() as client:
            create = client.messages.create
            with budget("alice", 1, ledger=any_ledger):
                await create(model="claude-haiku-4-5", messages=ASK, max_tokens=99)
            assert inspect.iscoroutinefunction(AsyncAPIClient.request)

    asyncio.run(main())
    assert any_ledger.total_cost == CLAUDE


def test_the_sdks_own_warnings_name_the_callers_line(anthropic_client: Any, ledger: CostLedger):
    """A deprecated model is warned of where it was asked for, not inside of us."""
    with budget("alice", ledger=ledger), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        anthropic_client.messages.create(model="claude-3-opus-20240229", messages=ASK, max_tokens=9)
    (warning,) = [w for w in caught if w.category is DeprecationWarning]
    assert warning.filename == __file__


def test_a_byte_streams_own_attributes_are_passed_on(provider: LoopbackProvider):
    """An SDK puts its observer there."""
    from costtrace.instrumentation.stream import watch_bytes

    class Observed:
        stream_observer = "theirs"

        def close(self) -> None:
            self.is_closed = True

    class Watch:
        count = 0

        def dropped(self) -> None:
            self.count += 1

    response, watch = types.SimpleNamespace(stream=Observed()), Watch()
    inner = response.stream
    watch_bytes(response, watch)  # type: ignore[arg-type]
    assert response.stream is not inner
    assert response.stream.stream_observer == "theirs"
    response.stream.close()
    assert (inner.is_closed, watch.count) == (True, 1)


def test_the_spans_of_the_sdks_own_tracing_stay_as_they_are(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Anthropic's follow a stream through an observer on its bytes, which ours stand around."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = provider.anthropic(max_retries=0, open_telemetry={"tracer_provider": tracer_provider})

    def spans() -> list[Any]:
        exporter.clear()
        message: Any = {"model": "claude-haiku-4-5", "messages": ASK, "max_tokens": 99}
        list(client.messages.create(**message, stream=True))
        with client.messages.stream(**message) as stream:
            next(iter(stream))  # and is left
        with client.messages.with_streaming_response.create(**message) as response:
            response.read()
        with client.messages.with_streaming_response.create(**message, stream=True) as response:
            list(response.parse())
        return [
            (
                span.name,
                span.status.status_code,
                {
                    name: value
                    for name, value in (span.attributes or {}).items()
                    if name.rpartition(".")[2] not in ("id", "time_to_first_chunk")
                },
                [event.name for event in span.events],
            )
            for span in exporter.get_finished_spans()
        ]

    without = spans()
    with budget("alice", 1, ledger=ledger):
        assert spans() == without
    assert len(without) == 4
    assert [span[2].get("gen_ai.usage.output_tokens") for span in (without[0], without[3])] == [
        20
    ] * 2
    tracer_provider.shutdown()


# Middleware of the SDK: several billed requests inside one call


def test_an_answer_that_a_middleware_rejects_is_billed_too(
    provider: LoopbackProvider, ledger: CostLedger
):
    """Whether it has parsed the answer or only looked at its bytes."""

    def parse_and_retry(request: Any, call_next: Any) -> Any:
        call_next(request).parse()
        return call_next(request)

    def look_and_retry(request: Any, call_next: Any) -> Any:
        call_next(request).http_response.json()
        return call_next(request)

    for middleware in (parse_and_retry, look_and_retry):
        client = provider.anthropic(max_retries=0, middleware=[middleware])
        with budget("alice", 1, ledger=ledger) as b:
            spent = b.spent_usd
            client.messages.create(model="claude-haiku-4-5", messages=ASK, max_tokens=99)
            assert b.spent_usd - spent == 2 * CLAUDE
    assert [(e.prompt_tokens, e.completion_tokens) for e in ledger.entries] == [(200, 40)] * 2


def test_a_refusal_shown_to_a_middleware_costs_nothing(
    provider: LoopbackProvider, ledger: CostLedger
):
    """It sees answers of every status; only those that were given are billed."""
    client = provider.anthropic(max_retries=0, middleware=[lambda r, call_next: call_next(r)])
    provider.reply(status=429)
    with budget("alice", 1, ledger=ledger) as b:
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(model="claude-haiku-4-5", messages=ASK, max_tokens=99)
        assert b.spent_usd == 0
    assert [e.status for e in ledger.entries] == ["error"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_model_that_declined_before_another_served_is_billed(
    is_stream: bool, provider: LoopbackProvider, ledger: CostLedger
):
    """The SDK's own fallback middleware, plain and streamed."""
    fallback = anthropic.BetaRefusalFallbackMiddleware([{"model": "claude-sonnet-4-6"}])
    client = provider.anthropic(max_retries=0, middleware=[fallback])
    details = {"type": "refusal", "fallback_credit_token": "t", "category": "x"}

    def refuse(data: bytes) -> bytes:
        import json

        mark = b'"stop_sequence":null'
        return data.replace(mark, mark + b',"stop_details":' + json.dumps(details).encode())

    provider.reply(input_tokens=100, output_tokens=20, finish_reason="refusal", transform=refuse)
    with budget("alice", ledger=ledger):
        made = client.beta.messages.create(
            model="claude-haiku-4-5", messages=ASK, max_tokens=99, stream=is_stream
        )
        if is_stream:
            list(made)
    assert len(provider.model_calls) == 2
    (entry,) = ledger.entries
    assert entry.model == "claude-sonnet-4-6"
    assert (entry.prompt_tokens, entry.completion_tokens) == (200, 40)
    assert entry.cost_usd == CLAUDE + Decimal("0.0006")  # sonnet: 3 and 15


# Imports


def run_python(code: str, *arguments: str) -> str:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *arguments]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    ).stdout


LATE_IMPORT = """
import sys, costtrace
with costtrace.CostLedger() as ledger, costtrace.budget("alice", 1, ledger=ledger):
    assert "openai" not in sys.modules
    import openai
    openai.OpenAI(base_url=sys.argv[1], api_key="k").chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
    assert len(ledger.entries) == 1
assert openai._base_client.SyncAPIClient.request.__class__.__name__ == "function"
"""


def test_an_sdk_imported_inside_the_scope_is_seen(provider: LoopbackProvider):
    """The scope was open before the SDK was there."""
    run_python(LATE_IMPORT, provider.openai_url)


UNKNOWN_SDK = """
import sys, warnings, openai, costtrace
from openai import _base_client
_base_client.SyncAPIClient.__name__
_base_client.RenamedClient = _base_client.SyncAPIClient
del _base_client.SyncAPIClient
def ask():
    return openai.OpenAI(base_url=sys.argv[1], api_key="k").chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        with costtrace.budget("alice", 1):
            assert ask().usage.completion_tokens == 20
print([(w.category.__name__, str(w.message)) for w in caught])
"""


def test_an_sdk_that_cannot_be_patched_is_one_warning(provider: LoopbackProvider):
    """The caller's calls are unharmed."""
    said = run_python(UNKNOWN_SDK, provider.openai_url)
    assert said.count("InstrumentationWarning") == 1
    assert "openai._base_client has no SyncAPIClient.request" in said


def test_a_module_in_the_middle_of_its_import_is_patched_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another thread imports it just when the first scope opens."""
    source = (
        "import threading, builtins\n"
        "builtins._half_way.set()\n"
        "assert builtins._go_on.wait(10)\n"
        "class Client:\n"
        "    def request(self): return 1\n"
    )
    (tmp_path / "slowly_imported_sdk.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import builtins

    half_way, go_on, patched = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(builtins, "_half_way", half_way, raising=False)
    monkeypatch.setattr(builtins, "_go_on", go_on, raising=False)

    def wrapper(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs) + 1

    importer = threading.Thread(target=lambda: __import__("slowly_imported_sdk"))
    importer.start()
    assert half_way.wait(10)
    module = PatchedModule(
        "slow", "slowly_imported_sdk", (Patch("Client", "request", wrapper, is_required=True),)
    )
    module.apply()
    go_on.set()
    importer.join()
    import slowly_imported_sdk  # type: ignore[import-not-found]

    for _ in range(500):
        if module.is_applied or patched.wait(0.01):
            break
    assert slowly_imported_sdk.Client().request() == 2
    module.remove()
    assert slowly_imported_sdk.Client().request() == 1


def test_a_fault_in_an_import_hook_does_not_break_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever is wrong with us, the caller's module is imported."""
    (tmp_path / "innocent_sdk.py").write_text("class Client:\n    request = len\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Broken(Patch):
        def apply(self, module: Any) -> bool:
            raise RuntimeError("a fault of ours")

    patch = Broken("Client", "request", lambda *_: None, is_required=True)
    module = PatchedModule("innocent", "innocent_sdk", (patch,))
    module.apply()
    import innocent_sdk  # type: ignore[import-not-found]

    assert innocent_sdk.Client.request is len

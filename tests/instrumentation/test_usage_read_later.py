"""Work whose usage is told by a later request: background responses, runs, batches."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from costtrace import CostLedger, budget, tracked
from costtrace.testing import LoopbackProvider, Reply

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
GPT = Decimal("0.000027")  # gpt-4o-mini, 100 and 20 tokens
CLAUDE = Decimal("0.0002")  # claude-haiku-4-5
RUN = Decimal("0.00045")  # gpt-4o: 2.50 and 10 USD per million
HUNDRED = Reply(input_tokens=100, output_tokens=20)


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = HUNDRED


def in_background(client: Any, **more: Any) -> Any:
    return client.responses.create(model="gpt-4o-mini", input="Hi", background=True, **more)


@pytest.mark.parametrize("limit", [None, 1])
def test_a_background_response_is_exact_once_it_is_retrieved(
    limit: int | None, openai_client: Any, provider: LoopbackProvider, any_ledger: CostLedger
):
    """Entered at its worst case when created, made exact by the retrieval that has its usage."""
    provider.reply(input_tokens=100, output_tokens=20, polls=1)
    with budget("alice", limit, ledger=any_ledger) as b:
        made = in_background(openai_client, max_output_tokens=500)
        (entry,) = any_ledger.entries
        assert (entry.status, entry.grade, entry.response_id) == ("partial", "assumed", made.id)
        assert entry.cost_usd > Decimal("0.0003")
        assert limit is None or entry.cost_usd == entry.reserved_usd == b.spent_usd

        assert openai_client.responses.retrieve(made.id).usage is None
        assert [e.grade for e in any_ledger.entries] == ["assumed"]
        for _ in range(3):
            assert openai_client.responses.retrieve(made.id).usage.output_tokens == 20
        assert (b.spent_usd, b.reserved_usd) == (GPT, 0)

    (entry,) = any_ledger.entries
    assert (entry.status, entry.grade, entry.cost_usd) == ("ok", "reported", GPT)
    assert any_ledger.provisional() == []


def test_a_retrieval_outside_the_budget_still_corrects_it(openai_client: Any, ledger: CostLedger):
    """The one who asked pays, whoever reads the answer."""
    with budget("alice", 1, ledger=ledger) as alice:
        made = in_background(openai_client)
    with budget("bob", 1, ledger=ledger) as bob:
        openai_client.responses.retrieve(made.id)
    assert (alice.spent_usd, bob.spent_usd) == (GPT, 0)
    assert [e.user_id for e in ledger.entries] == ["alice"]


@pytest.mark.parametrize("accessor", ["with_raw_response", "with_streaming_response"])
def test_a_raw_retrieval_settles_too(accessor: str, openai_client: Any, ledger: CostLedger):
    """Raw, parsed or not: the usage is in the bytes."""
    with budget("alice", ledger=ledger):
        made = in_background(openai_client)
        answer = getattr(openai_client.responses, accessor).retrieve(made.id)
        if accessor == "with_streaming_response":
            with answer as response:
                response.read()
    assert ledger.total_cost == GPT


def test_async_retrievals_settle(provider: LoopbackProvider, any_ledger: CostLedger):
    """The same on an event loop."""

    async def main() -> None:
        async with provider.async_openai() as client, budget("alice", 1, ledger=any_ledger) as b:
            made = await in_background(client)
            await client.responses.retrieve(made.id)
            assert b.spent_usd == GPT

    asyncio.run(main())


def test_a_background_stream_that_is_left_is_resumed(openai_client: Any, ledger: CostLedger):
    """Left early it is charged at its worst case, since it goes on; the resumed stream is exact."""
    with budget("alice", 1, ledger=ledger) as b:
        with in_background(openai_client, stream=True, max_output_tokens=100) as stream:
            for event in stream:
                if event.sequence_number == 5:
                    break
        (entry,) = ledger.entries
        assert (entry.status, entry.grade) == ("partial", "assumed")
        assert b.spent_usd == entry.reserved_usd

        key = entry.response_id
        rest = openai_client.responses.retrieve(key, stream=True, starting_after=5)
        assert [event.type for event in rest][-1] == "response.completed"
        assert b.spent_usd == GPT
        list(openai_client.responses.retrieve(key, stream=True))
        with openai_client.responses.stream(response_id=key, starting_after=0) as again:
            assert again.get_final_response().usage.output_tokens == 20
    (entry,) = ledger.entries
    assert (entry.status, entry.cost_usd) == ("ok", GPT)


def test_a_stream_that_was_cut_is_exact_once_its_response_is_retrieved(
    openai_client: Any, ledger: CostLedger
):
    """A stored response tells its usage although nobody saw its last event."""
    with budget("alice", 1, ledger=ledger) as b:
        with openai_client.responses.create(model="gpt-4o-mini", input="Hi", stream=True) as stream:
            next(stream)
        (entry,) = ledger.entries
        assert (entry.status, entry.grade) == ("partial", "estimated")
        openai_client.responses.retrieve(entry.response_id)
        assert (b.spent_usd, b.reserved_usd) == (GPT, 0)
    assert [(e.status, e.grade) for e in ledger.entries] == [("ok", "reported")]


def test_a_response_that_nobody_here_made_is_not_counted(openai_client: Any, ledger: CostLedger):
    """Reading is free."""
    made = in_background(openai_client)
    with budget("alice", 0, ledger=ledger):
        openai_client.responses.retrieve(made.id)
    assert len(ledger.entries) == 0


def _in_another_process(provider: LoopbackProvider, code: str, *arguments: str) -> None:
    root = str(Path(__file__).parents[2])
    environ = {**os.environ, **provider.environ(), "PYTHONPATH": root}
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, env=environ, check=True, timeout=60)


RETRIEVE = """
import sys, openai, costtrace
with costtrace.CostLedger(path=sys.argv[1]) as ledger, costtrace.budget("bob", 1, ledger=ledger):
    openai.OpenAI().responses.retrieve(sys.argv[2])
"""


def test_another_process_may_retrieve(
    openai_client: Any, provider: LoopbackProvider, tmp_path: Path
):
    """The entry is found by its response's id in the ledger that both share."""
    path = tmp_path / "costs.db"
    with CostLedger(path=path) as ledger, budget("alice", 1, ledger=ledger) as b:
        made = in_background(openai_client)
        _in_another_process(provider, RETRIEVE, str(path), made.id)
        assert (b.spent_usd, b.reserved_usd) == (GPT, 0)
        assert [(e.user_id, e.grade) for e in ledger.entries] == [("alice", "reported")]
        assert ledger.verify() == []


# Runs of the Assistants API


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_is_exact_once_it_is_done(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Created, polled, done: one entry."""
    provider.reply(input_tokens=100, output_tokens=20, polls=1)
    runs = openai_client.beta.threads.runs
    with budget("alice", 10, ledger=ledger) as b:
        run = runs.create_and_poll(
            thread_id="thread_1", assistant_id="asst_1", model="gpt-4o", poll_interval_ms=1
        )
        assert run.status == "completed"
        runs.retrieve(run.id, thread_id="thread_1")
        assert b.spent_usd == RUN
    (entry,) = ledger.entries
    assert (entry.operation, entry.model, entry.status) == ("runs", "gpt-4o", "ok")
    assert (entry.cost_usd, entry.prompt_tokens, entry.completion_tokens) == (RUN, 100, 20)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_streamed_run_is_exact(openai_client: Any, ledger: CostLedger):
    """`runs.stream` passes no `create`; its usage comes with the run's last event."""
    with budget("alice", 10, ledger=ledger):
        with openai_client.beta.threads.runs.stream(
            thread_id="thread_1", assistant_id="asst_1", model="gpt-4o"
        ) as stream:
            stream.until_done()
        with openai_client.beta.threads.create_and_run_stream(
            assistant_id="asst_1", model="gpt-4o", thread={"messages": ASK}
        ) as stream:
            stream.until_done()
    assert [(e.cost_usd, e.status) for e in ledger.entries] == [(RUN, "ok")] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_streamed", [False, True])
def test_tool_outputs_belong_to_their_run(
    is_streamed: bool, openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """The run goes on: its usage, told at its end, is entered once."""
    runs = openai_client.beta.threads.runs
    provider.reply(finish_reason="requires_action", usage=None)
    with budget("alice", 10, ledger=ledger) as b:
        run = runs.create(thread_id="t", assistant_id="a", model="gpt-4o")
        arguments: Any = {"thread_id": "t", "run_id": run.id, "tool_outputs": []}
        if is_streamed:
            with runs.submit_tool_outputs_stream(**arguments) as stream:
                stream.until_done()
        else:
            runs.submit_tool_outputs(**arguments)
            runs.retrieve(run.id, thread_id="t")
        assert (b.spent_usd, b.reserved_usd) == (RUN, 0)
    assert [(e.status, e.cost_usd) for e in ledger.entries] == [("ok", RUN)]


SUBMIT = """
import sys, openai, costtrace
with costtrace.CostLedger(path=sys.argv[1]) as ledger, costtrace.budget("bob", 1, ledger=ledger):
    runs = openai.OpenAI().beta.threads.runs
    runs.submit_tool_outputs(thread_id="t", run_id=sys.argv[2], tool_outputs=[])
    runs.retrieve(sys.argv[2], thread_id="t")
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_process_may_submit_the_tool_outputs(
    openai_client: Any, provider: LoopbackProvider, tmp_path: Path
):
    """The run is found in the ledger that both share: it is still one call, of who began it."""
    provider.reply(finish_reason="requires_action", usage=None)
    path = tmp_path / "costs.db"
    with CostLedger(path=path) as ledger, budget("alice", 10, ledger=ledger) as b:
        run = openai_client.beta.threads.runs.create(
            thread_id="t", assistant_id="a", model="gpt-4o"
        )
        _in_another_process(provider, SUBMIT, str(path), run.id)
        assert (b.spent_usd, b.reserved_usd) == (RUN, 0)
        assert [(e.user_id, e.grade) for e in ledger.entries] == [("alice", "reported")]


# Batches


def made_batch(client: Any) -> Any:
    """Send a batch of two chats, a response, an embedding and a line that fails; return it."""
    lines = [
        {"url": "/v1/chat/completions", "body": {"model": "gpt-4o-mini", "messages": ASK}},
        {"url": "/v1/chat/completions", "body": {"model": "gpt-4o-mini", "messages": ASK}},
        {"url": "/v1/responses", "body": {"model": "gpt-4o-mini", "input": "Hi"}},
        {"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "Hi"}},
        {"url": "/v1/chat/completions", "body": {"model": "gpt-4o-mini"}},
    ]
    rows = [{"custom_id": f"c{n}", "method": "POST", **line} for n, line in enumerate(lines)]
    content = "\n".join(map(json.dumps, rows)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    return client.batches.retrieve(made.id)


BATCH = 3 * GPT / 2 + Decimal("0.000001")  # half the price of three answers and an embedding


@pytest.mark.parametrize("how", ["content", "raw", "streaming", "chunks"])
def test_a_batch_is_entered_line_by_line_when_its_output_is_read(
    how: str, openai_client: Any, any_ledger: CostLedger
):
    """At batch prices, each line once however often it is read."""

    @tracked(function_name="collect")
    def collect(key: str) -> None:
        files = openai_client.files
        if how == "content":
            assert files.content(key).text.count("\n") == 4
        elif how == "raw":
            files.with_raw_response.content(key)
        else:
            with files.with_streaming_response.content(key) as response:
                pieces = response.iter_bytes(100) if how == "chunks" else [response.read()]
                assert b"".join(pieces).count(b"\n") == 4

    with budget("alice", 1, ledger=any_ledger) as b:
        batch = made_batch(openai_client)
        assert len(any_ledger.entries) == 0
        collect(batch.output_file_id)
        collect(batch.output_file_id)
        openai_client.files.content(batch.error_file_id)
        assert b.spent_usd == BATCH

    entries = list(any_ledger.entries)
    assert [e.operation for e in entries] == ["chat", "chat", "responses", "embeddings"]
    assert {(e.service_tier, e.function_name, e.grade) for e in entries} == {
        ("batch", "collect", "reported")
    }


def test_a_file_that_is_no_batchs_output_is_left_alone(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Uploads come back as they were."""
    with budget("alice", ledger=ledger):
        for content in (b"", b"\x00\xff" * 40, b'{"custom_id": "a"}\n', b"{", b'{"a": 1}\n' * 3):
            file = openai_client.files.create(file=("f", content or b" "), purpose="batch")
            assert openai_client.files.content(file.id).content == (content or b" ")
    assert len(ledger.entries) == 0


READ_BATCH = """
import sys, openai, costtrace
with costtrace.CostLedger(path=sys.argv[1]) as ledger, costtrace.budget("bob", 1, ledger=ledger):
    openai.OpenAI().files.content(sys.argv[2])
"""


def test_a_batch_that_two_processes_read_is_entered_once(
    openai_client: Any, provider: LoopbackProvider, tmp_path: Path
):
    """Each line has the same id wherever it is read."""
    path = tmp_path / "costs.db"
    batch = made_batch(openai_client)
    with CostLedger(path=path) as ledger, budget("alice", 1, ledger=ledger):
        openai_client.files.content(batch.output_file_id)
        _in_another_process(provider, READ_BATCH, str(path), batch.output_file_id)
        assert ledger.total_cost == BATCH
        assert {e.user_id for e in ledger.entries} == {"alice"}


def claude_batch(client: Any, count: int = 3) -> Any:
    params = {"model": "claude-haiku-4-5", "max_tokens": 99, "messages": ASK}
    requests: Any = [{"custom_id": f"c{n}", "params": params} for n in range(count)]
    return client.messages.batches.create(requests=requests)


@pytest.mark.parametrize("is_raw", [False, True])
def test_an_anthropic_batch_is_entered_item_by_item(
    is_raw: bool, anthropic_client: Any, any_ledger: CostLedger
):
    """Half the price, each item once, and the items are the SDK's own."""
    batches = anthropic_client.messages.batches
    plain = [
        item.result.message.usage.output_tokens
        for item in batches.results(claude_batch(anthropic_client).id)
    ]
    with budget("alice", 1, ledger=any_ledger) as b:
        key = claude_batch(anthropic_client).id
        if is_raw:
            with batches.with_streaming_response.results(key) as response:
                response.read()
        for _ in range(2):
            items = [item.result.message.usage.output_tokens for item in batches.results(key)]
            assert items == plain
        assert b.spent_usd == 3 * CLAUDE / 2
    assert {(e.operation, e.service_tier) for e in any_ledger.entries} == {("messages", "batch")}
    assert len(any_ledger.entries) == 3


def test_results_left_early_enter_what_was_read(anthropic_client: Any, ledger: CostLedger):
    """Two of four items read: two entries, no later than the exit of the scope."""
    with budget("alice", 1, ledger=ledger):
        key = claude_batch(anthropic_client, 4).id
        results = anthropic_client.messages.batches.results(key)
        assert [next(results).custom_id, next(results).custom_id] == ["c0", "c1"]
    assert len(ledger.entries) == 2
    assert [item.custom_id for item in results] == ["c2", "c3"]
    assert len(ledger.entries) == 4


def test_async_results_are_entered(provider: LoopbackProvider, any_ledger: CostLedger):
    """Beta batches on an event loop."""

    async def main() -> None:
        async with provider.async_anthropic() as client, budget("alice", 1, ledger=any_ledger):
            key = (await claude_batch(client)).id
            async for _ in await client.beta.messages.batches.results(key):
                pass

    asyncio.run(main())
    assert any_ledger.total_cost == 3 * CLAUDE / 2

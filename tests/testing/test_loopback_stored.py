"""Files, batches and assistants' runs through OpenAI's own client."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from costtrace.testing import LoopbackProvider, Reply
from costtrace.usage import Usage

MESSAGES = [{"role": "user", "content": "abcd"}]


def batch_file() -> bytes:
    """Two lines of a batch's input."""
    lines = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions"},
    ]
    body = {"model": "gpt-4o-mini", "messages": MESSAGES}
    return "\n".join(json.dumps({**line, "body": body}) for line in lines).encode()


def test_batch_answers_each_line(provider: LoopbackProvider) -> None:
    """Answers and failures are files of lines; the batch reports its usage when it is done."""
    provider.queue(Reply(output_tokens=5), Reply(status=400))
    provider.on("/batches", Reply(polls=1))
    client = provider.openai()

    uploaded = client.files.create(file=("in.jsonl", batch_file()), purpose="batch")
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    states = [batch.status, client.batches.retrieve(batch.id).status]
    done = client.batches.retrieve(batch.id)

    assert [*states, done.status] == ["validating", "in_progress", "completed"]
    (line,) = client.files.content(done.output_file_id).text.splitlines()
    (failure,) = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(line)["response"]["body"]["usage"]["completion_tokens"] == 5
    assert json.loads(failure)["custom_id"] == "b"
    assert done.usage.output_tokens == 5
    bill = next(request.billed for request in provider.requests if request.billed)
    assert (bill.usage, bill.service_tier) == (Usage(2, 5), "batch")


@pytest.fixture
def threads(provider: LoopbackProvider) -> Any:
    """The assistants API, which the SDK calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield provider.openai().beta.threads


def test_run_has_usage_when_it_is_over(provider: LoopbackProvider, threads: Any) -> None:
    """A run's usage is null until it ends."""
    provider.reply(polls=1, model="gpt-4o-mini")
    thread = threads.create()
    run = threads.runs.create(thread_id=thread.id, assistant_id="asst_1")

    early = threads.runs.retrieve(run.id, thread_id=thread.id)
    done = threads.runs.retrieve(run.id, thread_id=thread.id)

    assert (run.status, run.usage) == ("queued", None)
    assert (early.status, early.usage) == ("in_progress", None)
    assert (done.status, done.usage.completion_tokens) == ("completed", 20)
    assert provider.model_calls[0].billed is not None
    assert provider.model_calls[0].billed.model == "gpt-4o-mini"


def test_run_streams(provider: LoopbackProvider, threads: Any) -> None:
    """The stream's last event about the run carries the usage."""
    stream = threads.create_and_run(assistant_id="asst_1", model="gpt-4o", stream=True)

    events = list(stream)
    assert events[0].event == "thread.run.created"
    assert events[-1].event == "thread.run.completed"
    assert events[-1].data.usage.completion_tokens == 20


def test_run_stream_helper(provider: LoopbackProvider, threads: Any) -> None:
    """The SDK's event handler follows the stream to its end."""
    with threads.create_and_run_stream(assistant_id="asst_1", model="gpt-4o") as stream:
        stream.until_done()

    assert provider.requests[0].billed is not None

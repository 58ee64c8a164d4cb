"""`include_usage`: asked for only where it is understood, and never seen by the caller."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from costtrace import CostLedger, budget
from costtrace.providers import OpenAI, Request
from costtrace.testing import LoopbackProvider, Reply

ASK: Any = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(autouse=True)
def _hundred_tokens(provider: LoopbackProvider) -> None:
    provider.default = Reply(input_tokens=100, output_tokens=20)


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True, **more)


def asked(path: str = "/chat/completions", *, body: Any = None, **where: str) -> bool:
    """Whether a stream to this host would be asked for its usage."""
    openai_sdk = OpenAI()
    request = openai_sdk.request(path, {"model": "m", "stream": True, **(body or {})}, **where)
    assert isinstance(request, Request)
    return openai_sdk.usage_option(request) is not None


@pytest.mark.parametrize(
    ("host", "version", "is_asked"),
    [
        ("api.openai.com", "", True),
        ("eu.api.openai.com", "", True),
        ("openrouter.ai", "", True),
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("::1", "", True),
        ("api.mistral.ai", "", False),
        ("my-vllm.internal", "", False),
        ("api.openai.com.evil.example", "", False),
        ("notapi.openai.com", "", False),
        ("x.openai.azure.com", "2024-06-01", False),
        ("x.openai.azure.com", "2024-02-15-preview", False),
        ("x.openai.azure.com", "2024-08-01-preview", True),
        ("x.openai.azure.com", "2024-10-21", True),
        ("x.openai.azure.com", "", True),  # its API without dated versions
        ("x.openai.azure.com", "preview", True),
        ("127.0.0.1", "2024-06-01", False),
    ],
)
def test_only_hosts_that_understand_are_asked(host: str, version: str, is_asked: bool):
    """Others answer 400 or 422 to a field that they do not know."""
    assert asked(host=host, api_version=version) is is_asked
    assert asked("/completions", host=host, api_version=version) is is_asked


@pytest.mark.parametrize(
    "body",
    [
        {"stream": False},
        {"stream_options": {"include_usage": False}},
        {"stream_options": {"include_usage": True}},
        {"data_sources": [{}]},  # Azure's "on your data" does not know it
    ],
)
def test_a_caller_who_has_decided_is_not_overruled(body: Any):
    """Neither are calls that do not stream at all."""
    assert not asked(body=body, host="api.openai.com")
    assert not asked("/responses", host="api.openai.com")


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_the_caller_sees_the_chunks_it_would_have_seen(
    kind: str, openai_client: Any, ledger: CostLedger
):
    """The same chunks to the last field that is set, and its own dict as it was."""
    options: dict[str, Any] = {"include_obfuscation": False}

    def read() -> list[str]:
        if kind == "chat":
            stream = chat(openai_client, stream_options=options)
        else:
            stream = openai_client.completions.create(
                model="gpt-3.5-turbo-instruct", prompt="Hi", stream=True, stream_options=options
            )
        chunks = [(repr(chunk), chunk.to_json(), chunk.model_fields_set) for chunk in stream]
        return [re.sub(r"(cmpl-\w+|created\W+\d+)", "", str(chunk)) for chunk in chunks]

    without = read()
    with budget("alice", ledger=ledger):
        assert read() == without
    assert options == {"include_obfuscation": False}
    assert [e.grade for e in ledger.entries] == ["reported"]


def test_extra_body_is_obeyed(openai_client: Any, provider: LoopbackProvider, ledger: CostLedger):
    """It wins over the arguments: its model, its tier and its stream options are what is sent."""
    extra = {"model": "gpt-4o", "service_tier": "priority", "stream_options": {"a": 1}}
    with budget("alice", ledger=ledger):
        chunks = list(chat(openai_client, extra_body=extra))
    assert all(chunk.choices for chunk in chunks)
    assert extra["stream_options"] == {"a": 1}
    sent = provider.requests[-1].body
    assert sent["stream_options"] == {"a": 1, "include_usage": True}
    (entry,) = ledger.entries
    assert (entry.model, entry.service_tier, entry.grade) == ("gpt-4o", "priority", "reported")
    assert entry.request_model == "gpt-4o"  # what was reserved for


def test_usage_refused_by_the_caller_is_counted(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """include_usage=False is sent as it is, and the call is estimated."""
    with budget("alice", ledger=ledger):
        list(chat(openai_client, stream_options={"include_usage": False}))
    assert provider.requests[-1].body["stream_options"] == {"include_usage": False}
    (entry,) = ledger.entries
    assert (entry.status, entry.grade) == ("ok", "estimated")
    assert entry.completion_tokens > 10


@pytest.mark.parametrize("accessor", ["with_raw_response", "with_streaming_response"])
def test_raw_bytes_are_never_changed(
    accessor: str, openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """Whoever reads the bytes would see the extra chunk."""
    create = getattr(openai_client.chat.completions, accessor).create
    with budget("alice", ledger=ledger):
        made = create(model="gpt-4o-mini", messages=ASK, stream=True)
        if accessor == "with_streaming_response":
            with made as response:
                response.read()
        else:
            made.http_response.read()
    assert "stream_options" not in provider.requests[-1].body
    assert [(e.status, e.grade) for e in ledger.entries] == [("ok", "estimated")]


def test_a_host_that_refuses_is_not_asked_again(provider: LoopbackProvider, ledger: CostLedger):
    """The refusal reaches the caller, since a second request is its own decision; then no more."""
    refusal = "Unrecognized request argument supplied: stream_options"
    with LoopbackProvider() as old:  # a host of its own: what is learned of it stays
        old.on(
            lambda received: "stream_options" in (received.body or {}),
            Reply(status=400, error=refusal),
        )
        client = old.openai(max_retries=0)
        with budget("alice", ledger=ledger):
            with pytest.raises(openai.BadRequestError, match="stream_options"):
                chat(client)
            list(chat(client))
            assert "stream_options" not in old.requests[-1].body
            list(chat(provider.openai()))
            assert "stream_options" in provider.requests[-1].body
    assert [e.status for e in ledger.entries] == ["error", "ok", "ok"]


def test_usage_is_accepted_wherever_it_stands(
    openai_client: Any, provider: LoopbackProvider, ledger: CostLedger
):
    """On every chunk, as a running total: the last one counts, and no chunk is hidden."""
    totals = iter(range(1, 1000))

    def with_usage(chunk: bytes) -> bytes:
        usage = b'"usage":{"prompt_tokens":100,"completion_tokens":%d}' % next(totals)
        return chunk.replace(b'"usage":null', usage)

    provider.reply(chunks=["a", "b"], transform=with_usage, truncate_after_chunks=4)
    with budget("alice", ledger=ledger):
        assert len(list(chat(openai_client))) == 4
    (entry,) = ledger.entries
    assert (entry.prompt_tokens, entry.completion_tokens) == (100, 4)

"""What goes wrong when a test asks for it: statuses, cuts, bad bodies, errors half-way."""

from __future__ import annotations

import gzip
import threading
from typing import Any

import anthropic
import openai
import pytest

from costtrace.testing import LoopbackProvider, Received, Reply

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def chat(client: Any, **options: Any) -> Any:
    """One chat call."""
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **options)


def bills(provider: LoopbackProvider) -> list[int | None]:
    """Output tokens billed for each request, None for the free ones."""
    return [r.billed.output_tokens if r.billed else None for r in provider.requests]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
def test_status_raises_the_sdks_error(
    provider: LoopbackProvider, status: int, error: type[Exception]
) -> None:
    """An error status reaches the user as the SDK's own exception, and bills nothing."""
    provider.default = Reply(status=status, error="Not now.")

    with pytest.raises(error, match="Not now") as caught:
        chat(provider.openai(max_retries=0))

    again = caught.value.response.headers.get("retry-after-ms")  # type: ignore[attr-defined]
    assert again == (None if status == 401 else "1")
    assert bills(provider) == [None]
    assert provider.requests[0].status == status


def test_overloaded_has_anthropics_words(provider: LoopbackProvider) -> None:
    """529 is Anthropic's own status."""
    provider.default = Reply(status=529)

    with pytest.raises(anthropic.APIStatusError) as caught:
        provider.anthropic(max_retries=0).messages.create(
            model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES
        )

    assert caught.value.status_code == 529
    assert caught.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]


def test_retries_are_requests_of_their_own(provider: LoopbackProvider) -> None:
    """The SDK tries again after 500 and 429, at once, and says how often it has tried."""
    provider.queue(Reply(status=500), Reply(status=429), Reply(output_tokens=3))

    completion = chat(provider.openai(max_retries=2))

    assert completion.usage.completion_tokens == 3
    assert [request.retry_count for request in provider.requests] == [0, 1, 2]
    assert bills(provider) == [None, None, 3]


def test_connection_closed_instead_of_an_answer_is_billed(provider: LoopbackProvider) -> None:
    """The client sees a lost connection; the model has worked."""
    provider.reply(cut_before_headers=True)

    with pytest.raises(openai.APIConnectionError):
        chat(provider.openai(max_retries=0))

    assert bills(provider) == [20]
    assert provider.requests[0].status is None
    assert not provider.requests[0].is_completed


def test_body_cut_half_way_is_billed(provider: LoopbackProvider) -> None:
    """A connection lost inside the body raises; the whole answer is billed."""
    provider.reply(cut_after_bytes=30)

    with pytest.raises(openai.APIConnectionError):
        chat(provider.openai(max_retries=0))

    assert bills(provider) == [20]
    assert not provider.requests[0].is_completed


def test_stream_cut_bills_what_was_generated(provider: LoopbackProvider) -> None:
    """After the role and four words, four tokens are billed."""
    provider.reply(cut_after_chunks=5)
    stream = chat(provider.openai(max_retries=0), stream=True)

    seen = []
    with pytest.raises(openai.APIConnectionError):
        seen.extend(chunk.choices[0].delta.content for chunk in stream)

    assert bills(provider) == [4]
    assert not provider.requests[0].is_completed


def test_stream_cut_inside_an_event(provider: LoopbackProvider) -> None:
    """A cut counted in bytes may fall inside an event."""
    provider.reply(cut_after_bytes=700)
    stream = chat(provider.openai(max_retries=0), stream=True)

    with pytest.raises(openai.APIConnectionError):
        list(stream)

    (billed,) = bills(provider)
    assert billed is not None
    assert 0 <= billed < 20


def test_stream_ending_early_looks_whole(provider: LoopbackProvider) -> None:
    """A clean early end raises nothing at all; only the protocol tells."""
    provider.reply(truncate_after_chunks=3)

    chunks = list(chat(provider.openai(), stream=True))

    assert len(chunks) == 3
    assert chunks[-1].choices[0].finish_reason is None
    assert bills(provider) == [2]
    assert not provider.requests[0].is_completed


def test_anthropic_stream_ending_early_looks_whole(provider: LoopbackProvider) -> None:
    """The same for Anthropic's events."""
    provider.reply(truncate_after_chunks=4)

    stream = provider.anthropic().messages.create(
        model="claude-haiku-4-5", max_tokens=50, messages=MESSAGES, stream=True
    )

    assert [event.type for event in stream][-1] == "content_block_delta"
    assert bills(provider) == [2]


def test_error_events_half_way(provider: LoopbackProvider) -> None:
    """Each protocol's own error event ends its stream; what came before is billed."""
    provider.default = Reply(error_after_chunks=6)
    client = provider.openai()

    with pytest.raises(openai.APIError):
        list(chat(client, stream=True))
    *_, last = client.responses.create(model="gpt-4o-mini", input="Hi", stream=True)
    with pytest.raises(anthropic.APIStatusError):
        list(
            provider.anthropic().messages.create(
                model="claude-haiku-4-5", max_tokens=50, messages=MESSAGES, stream=True
            )
        )

    assert last.type == "error"
    assert bills(provider) == [5, 2, 4]


@pytest.mark.parametrize(
    ("body", "sent"),
    [(b"not json", b"not json"), ("", b""), ({"id": 1}, b'{"id":1}'), ([1, 2], b"[1,2]")],
)
def test_any_body_can_be_sent(provider: LoopbackProvider, body: Any, sent: bytes) -> None:
    """A raw body replaces the answer; its call is billed."""
    provider.reply(body=body)

    raw = provider.openai().chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES
    )

    assert raw.content == sent
    assert bills(provider) == [20]


def test_transform_changes_every_event(provider: LoopbackProvider) -> None:
    """A function of the test's may rewrite the bytes on their way out."""
    provider.default = Reply(transform=lambda data: data.replace(b"yes", b"no!"))
    client = provider.openai()

    assert chat(client, max_tokens=1).choices[0].message.content == "no!"
    chunks = list(chat(client, max_tokens=1, stream=True))
    assert chunks[1].choices[0].delta.content == "no!"


def test_truncated_body_is_a_whole_answer_of_broken_json(provider: LoopbackProvider) -> None:
    """The length is right, the JSON is not."""
    provider.reply(truncate_after_bytes=10)

    raw = provider.openai().chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES
    )

    assert len(raw.content) == 10
    assert not provider.requests[0].is_completed


@pytest.mark.parametrize("stream", [False, True])
def test_compressed_answers(provider: LoopbackProvider, stream: bool) -> None:
    """gzip is what most real answers arrive in."""
    provider.reply(is_compressed=True)
    client = provider.openai()

    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=stream
    ) as response:
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join(response.http_response.iter_raw())

    assert b"yes" in gzip.decompress(raw)


def test_compressed_stream_is_read_by_the_sdk(provider: LoopbackProvider) -> None:
    """Every event can be read as it arrives."""
    provider.reply(is_compressed=True, delay_per_chunk_s=0.0001)

    assert len(list(chat(provider.openai(), stream=True))) == 22


def test_headers_can_be_set(provider: LoopbackProvider) -> None:
    """A reply may carry headers of its own; every answer has a request id."""
    provider.reply(headers={"X-RateLimit-Remaining-Requests": "7"})

    raw = provider.openai().chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES
    )

    assert raw.headers["x-ratelimit-remaining-requests"] == "7"
    assert raw.parse()._request_id.startswith("req_")


def test_replies_by_rule_queue_script_and_default(provider: LoopbackProvider) -> None:
    """Rules come first, then the queue, then the script, then the default."""

    def script(request: Received) -> Reply | None:
        return Reply(output_tokens=3) if request.body.get("user") == "scripted" else None

    provider.default = Reply(output_tokens=4)
    provider.script(script)
    provider.queue(Reply(output_tokens=2))
    provider.on(lambda request: request.body["model"] == "ruled", Reply(output_tokens=1), times=1)
    client = provider.openai()

    def ask(model: str, user: str = "x") -> int:
        completion = client.chat.completions.create(model=model, messages=MESSAGES, user=user)
        return int(completion.usage.completion_tokens)

    assert [ask("ruled"), ask("ruled"), ask("m", "scripted"), ask("m")] == [1, 2, 3, 4]


@pytest.mark.parametrize("pattern", ["/models", "*/models"])
def test_rules_reach_free_requests(provider: LoopbackProvider, pattern: str) -> None:
    """Only a rule changes what a free request gets."""
    provider.on(pattern, Reply(status=403))

    with pytest.raises(openai.PermissionDeniedError):
        provider.openai().models.list()


def test_mistake_in_a_script_reaches_the_test(provider: LoopbackProvider) -> None:
    """What the script raised is the message of an error that no SDK tries again."""

    def script(request: Received) -> Reply:
        raise KeyError("oops")

    provider.script(script)

    with pytest.raises(openai.BadRequestError, match="oops"):
        chat(provider.openai())

    assert len(provider.requests) == 1


def test_unknown_path_is_not_found(provider: LoopbackProvider) -> None:
    """A path no provider has is a 404."""
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        provider.openai().post("/nonsense", body={}, cast_to=object)


@pytest.mark.parametrize(
    "fields",
    [{"output_tokens": -1}, {"input_tokens": True}, {"status": 99}, {"latency_s": -1.0}],
)
def test_impossible_replies_are_refused_at_once(fields: dict[str, Any]) -> None:
    """A mistake in a reply is an error where it is written."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        Reply(**fields)


def test_time_out_is_billed_though_nobody_waited(provider: LoopbackProvider) -> None:
    """A client that gives up leaves a model at work, which is billed."""
    gate = threading.Event()
    provider.reply(gate=gate)

    with pytest.raises(openai.APITimeoutError):
        chat(provider.openai(max_retries=0, timeout=0.2))

    provider.wait_finished()
    assert bills(provider) == [20]
    assert not provider.requests[0].is_completed


def test_what_is_no_reply_is_refused_where_it_is_asked_for():
    """Not as a puzzling answer to a later call."""
    provider: Any = LoopbackProvider()

    with pytest.raises(TypeError, match=r"must be a Reply, not str: write Reply\(text='hello'\)"):
        provider.queue("hello")
    with pytest.raises(TypeError, match="must be a Reply, not type"):
        provider.default = Reply
    with pytest.raises(TypeError, match="a Reply or a function that returns one, not dict"):
        provider.on("/embeddings", {"status": 500})
    assert provider.queued == 0

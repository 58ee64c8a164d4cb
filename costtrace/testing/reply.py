"""What a test asks the loopback provider to answer, and how to deliver it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

DEFAULT_OUTPUT_TOKENS = 20


class Special(Enum):
    """Values of `Reply.usage` that are no usage."""

    COMPUTED = "computed"
    OMITTED = "omitted"


COMPUTED = Special.COMPUTED
"""The usage object holds the tokens that were billed."""
OMITTED = Special.OMITTED
"""The answer has no usage object at all, as some gateways answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the loopback provider; every field has a default a provider would choose.

    A "chunk" is one event of a stream, counted from the first one written. Counts of tokens are
    ints >= 0; a `ValueError` names the field that is not.
    """

    # What the model says.
    text: str | None = None
    """The answer; by default the word "yes" once for each output token."""
    chunks: Sequence[str] | None = None
    """The pieces a stream sends the text in; by default about one token each."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """Tools called: `{"name": "weather", "arguments": {"city": "Oslo"}}`, `"id"` if it matters."""
    reasoning: str | None = None
    """Shown thinking: a thinking block (Anthropic), a reasoning summary (Responses)."""
    output_items: Sequence[Mapping[str, Any]] = ()
    """Further items of `output` (Responses) or blocks of `content` (Messages), sent as they are."""
    finish_reason: str | None = None
    """In the provider's word: "length" (chat), "incomplete" or "failed" (Responses), "refusal"."""
    model: str | None = None
    """The model that answers; by default the one asked for."""
    service_tier: str | None = None
    """The tier that served the call; by default the one asked for."""

    # What is billed.
    input_tokens: int | None = None
    """Everything read, cached tokens included; by default `count_input` of the request."""
    output_tokens: int | None = None
    """Generated for each choice, cut at the request's limit; by default counted from the text."""
    usage: Any = COMPUTED
    """A `costtrace.usage.Usage` is put into the provider's words; any other value is sent as is."""
    usage_details: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the usage object: `{"prompt_tokens_details": {"cached_tokens": 5}}`."""
    is_over_limit: bool = False
    """Generate and bill past the request's token limit, as a provider never should."""
    seconds: int = 10
    """Length of the audio that a transcription heard."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the answer's JSON object (for Responses: `tool_usage`)."""

    # What goes wrong.
    status: int = 200
    """An HTTP status of 400 and more answers with the provider's error body; nothing is billed."""
    error: str | None = None
    """The error's message."""
    cut_before_headers: bool = False
    """Close the connection instead of answering; the tokens are billed."""
    cut_after_bytes: int | None = None
    """Close the connection after so many bytes of the body."""
    cut_after_chunks: int | None = None
    truncate_after_bytes: int | None = None
    """End the body there, without any sign that it is incomplete."""
    truncate_after_chunks: int | None = None
    error_after_chunks: int | None = None
    """Send the provider's error event after so many events, then end."""
    body: Any = None
    """Sent instead of the answer: bytes or text as they are, anything else as JSON."""
    transform: Callable[[bytes], bytes] | None = None
    """Changes the body, or each event of a stream, on its way out."""

    # How it is delivered.
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    """Time before the first byte."""
    delay_per_chunk_s: float = 0.0
    gate: threading.Event | None = None
    """Wait until it is set (or the client has left), for tests that must not sleep."""
    gate_after_chunks: int = 0
    """Wait at the gate after so many events; 0: before the first byte."""
    is_compressed: bool = False
    """Send the body as gzip."""
    polls: int = 0
    """How many retrievals of a background answer, run, batch or video find it unfinished."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 0):
                raise ValueError(f"Reply.{name} must be an int >= 0, not {count!r}")
        if self.status != 200 and not 400 <= self.status <= 599:
            raise ValueError(f"Reply.status must be 200 or 400 to 599, not {self.status!r}")
        if self.latency_s < 0 or self.delay_per_chunk_s < 0:
            raise ValueError("Reply.latency_s and Reply.delay_per_chunk_s must not be negative")

    @property
    def is_paced(self) -> bool:
        """Whether the events of a stream leave one by one rather than in few large writes."""
        return bool(self.delay_per_chunk_s) or (
            self.gate is not None and self.gate_after_chunks > 0
        )


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "seconds",
    "cut_after_bytes",
    "cut_after_chunks",
    "truncate_after_bytes",
    "truncate_after_chunks",
    "error_after_chunks",
    "gate_after_chunks",
    "polls",
)

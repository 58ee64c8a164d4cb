"""The OpenAI SDK over a transport in memory: no socket, no provider, the same answer each time.

Imports nothing of costtrace: rivals are measured with the same calls.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import openai

# openai 3 sits on httpx2, older ones on httpx: what its client is derived from tells which.
_BASES = [base.__module__ for base in openai.DefaultHttpxClient.__mro__]
httpx: Any = importlib.import_module("httpx2" if "httpx2._client" in _BASES else "httpx")

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue?"}]
EVENTS = 200
_USAGE = {
    "prompt_tokens": 13,
    "completion_tokens": 5,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_COMMON = {"id": "chatcmpl-1", "created": 1_795_000_000, "model": f"{MODEL}-2024-07-18"}
_ANSWER = {
    **_COMMON,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Rayleigh scattering."},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}


def _chunk(**facts: Any) -> bytes:
    chunk = {**_COMMON, "object": "chat.completion.chunk", "choices": [], **facts}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


_WHOLE = json.dumps(_ANSWER).encode()
_WORD = _chunk(choices=[{"index": 0, "delta": {"content": " word"}, "finish_reason": None}])
_STREAM = _WORD * EVENTS + _chunk(usage=_USAGE) + b"data: [DONE]\n\n"


def _respond(request: Any) -> Any:
    is_stream = b'"stream":true' in request.content or b'"stream": true' in request.content
    kind = "text/event-stream" if is_stream else "application/json"
    content = _STREAM if is_stream else _WHOLE
    return httpx.Response(200, content=content, headers={"content-type": kind})


def client(kind: type = openai.OpenAI) -> Any:
    """Return a client that never leaves the process."""
    transport = httpx.MockTransport(_respond)
    return kind(api_key="none", http_client=httpx.Client(transport=transport))


def async_client() -> Any:
    """Return the same for `await`."""
    transport = httpx.MockTransport(_respond)
    return openai.AsyncOpenAI(api_key="none", http_client=httpx.AsyncClient(transport=transport))


def ask(sdk: Any) -> Any:
    """Make one call."""
    return sdk.chat.completions.create(model=MODEL, max_tokens=300, messages=MESSAGES)


def read_stream(sdk: Any, through: Callable[[Any], Any] = iter) -> int:
    """Make one call and read its stream to the end."""
    events = sdk.chat.completions.create(
        model=MODEL,
        max_tokens=300,
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    return sum(1 for _ in through(events))

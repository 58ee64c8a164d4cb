"""Claude on Bedrock and on Vertex: the same messages under other paths and another framing."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import replace

from costtrace.testing.answer import Answer, Call, Frame, dump
from costtrace.testing.anthropic_messages import count_tokens, create

_BEDROCK_STREAM = "application/vnd.amazon.eventstream"


def invoke(call: Call) -> Answer:
    """Bedrock, POST /model/{model}/invoke."""
    return create(call)


def invoke_streamed(call: Call) -> Answer:
    """Bedrock, POST /model/{model}/invoke-with-response-stream: Amazon's binary event stream."""
    answer = create(_streamed(call))
    frames = [replace(frame, data=_amazon_event(frame)) for frame in answer.frames or ()]
    error = _amazon_event(Frame(answer.error_frame))
    return replace(answer, content_type=_BEDROCK_STREAM, frames=tuple(frames), error_frame=error)


def predict(call: Call) -> Answer:
    """Vertex, POST .../publishers/anthropic/models/{model}:rawPredict."""
    return create(call)


def predict_count(call: Call) -> Answer:
    """Vertex, POST .../publishers/anthropic/models/count-tokens:rawPredict."""
    return count_tokens(call)


def predict_streamed(call: Call) -> Answer:
    """Vertex, POST .../publishers/anthropic/models/{model}:streamRawPredict."""
    return create(_streamed(call))


def _streamed(call: Call) -> Call:
    received = replace(call.received, body={**call.body, "stream": True})
    return replace(call, received=received)


def _amazon_event(frame: Frame) -> bytes:
    """An event of ours in Amazon's framing: lengths, headers, payload, two checksums."""
    data = frame.data.partition(b"data: ")[2].strip()
    payload = dump({"bytes": base64.b64encode(dump(json.loads(data))).decode()})
    headers = b"".join(
        _amazon_header(name, value)
        for name, value in (
            (":event-type", "chunk"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = lengths + struct.pack("!I", zlib.crc32(lengths)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _amazon_header(name: str, value: str) -> bytes:
    text_type = 7
    start = struct.pack("!B", len(name)) + name.encode()
    return start + struct.pack("!BH", text_type, len(value)) + value.encode()

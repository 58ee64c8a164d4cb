"""Azure, Bedrock and Vertex: the same models behind other addresses."""

from __future__ import annotations

import base64
import http.client
import json
import struct
import zlib
from typing import Any

import anthropic
import openai
import pytest

from costtrace.testing import LoopbackProvider

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def test_azure_deployments(provider: LoopbackProvider) -> None:
    """The deployment stands in the path; a stream opens with a chunk without choices."""
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21"
    ) as client:
        plain = client.chat.completions.create(model="my-deployment", messages=MESSAGES)
        chunks = list(
            client.chat.completions.create(model="my-deployment", messages=MESSAGES, stream=True)
        )
        response = client.responses.create(model="my-deployment", input="Hi")

    assert plain.usage.completion_tokens == 20
    assert provider.requests[0].path == "/openai/deployments/my-deployment/chat/completions"
    assert (chunks[0].choices, chunks[0].usage) == ([], None)
    assert response.usage.output_tokens == 20


def test_vertex(provider: LoopbackProvider) -> None:
    """Plain, streamed and counted on Vertex's paths."""
    pytest.importorskip("google.auth")
    with anthropic.AnthropicVertex(
        base_url=f"{provider.url}/v1", region="eu", project_id="p", access_token="t"
    ) as client:
        plain = client.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES)
        with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES
        ) as stream:
            streamed = stream.get_final_message()
        counted = client.messages.count_tokens(model="claude-haiku-4-5", messages=MESSAGES)

    assert plain.usage.output_tokens == streamed.usage.output_tokens == 5
    assert counted.input_tokens == plain.usage.input_tokens
    assert [bool(request.billed) for request in provider.requests] == [True, True, False]


def test_bedrock(provider: LoopbackProvider) -> None:
    """Plain and streamed on Bedrock's paths, as the SDK reads them."""
    pytest.importorskip("botocore")
    with anthropic.AnthropicBedrock(
        base_url=provider.url, aws_region="eu-west-1", aws_access_key="a", aws_secret_key="s"
    ) as client:
        plain = client.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES)
        with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES
        ) as stream:
            streamed = stream.get_final_message()

    assert plain.usage.output_tokens == streamed.usage.output_tokens == 5


def test_bedrock_frames_hold_the_events(provider: LoopbackProvider) -> None:
    """Each binary frame has right checksums and one of Anthropic's events inside."""
    host, port = provider.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    body = json.dumps({"messages": MESSAGES, "max_tokens": 2})
    connection.request("POST", "/model/eu.anthropic.claude:0/invoke-with-response-stream", body)
    data = connection.getresponse().read()
    connection.close()

    kinds = []
    while data:
        total, headers = struct.unpack("!II", data[:8])
        message, data = data[:total], data[total:]
        assert zlib.crc32(message[:8]) == struct.unpack("!I", message[8:12])[0]
        assert zlib.crc32(message[:-4]) == struct.unpack("!I", message[-4:])[0]
        payload = json.loads(message[12 + headers : -4])
        kinds.append(json.loads(base64.b64decode(payload["bytes"]))["type"])

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert provider.requests[0].billed is not None
    assert provider.requests[0].billed.model == "eu.anthropic.claude:0"

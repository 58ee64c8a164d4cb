"""What is known of each SDK: which calls are billed and where their usage is written."""

from costtrace.providers.anthropic import Anthropic
from costtrace.providers.base import (
    BatchLine,
    Part,
    Provider,
    Reading,
    Request,
    Retrieval,
    StreamReader,
    parsed,
)
from costtrace.providers.openai import OpenAI

PROVIDERS: tuple[Provider, ...] = (OpenAI(), Anthropic())

__all__ = [
    "PROVIDERS",
    "Anthropic",
    "BatchLine",
    "OpenAI",
    "Part",
    "Provider",
    "Reading",
    "Request",
    "Retrieval",
    "StreamReader",
    "parsed",
]

"""What is known of each SDK: which calls are billed and where their usage is written."""

from costtrace.providers.anthropic import Anthropic
from costtrace.providers.base import Part, Provider, Reading, Request, StreamReader
from costtrace.providers.openai import OpenAI

PROVIDERS: tuple[Provider, ...] = (OpenAI(), Anthropic())

__all__ = [
    "PROVIDERS",
    "Anthropic",
    "OpenAI",
    "Part",
    "Provider",
    "Reading",
    "Request",
    "StreamReader",
]

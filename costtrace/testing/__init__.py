"""A provider on this machine for tests: real HTTP, both protocols, no network, no key."""

from costtrace.testing.generation import count_input, count_text
from costtrace.testing.log import Billed, LoggedRequest, Received, Upload
from costtrace.testing.provider import LoopbackProvider
from costtrace.testing.reply import COMPUTED, OMITTED, Reply

__all__ = [
    "COMPUTED",
    "OMITTED",
    "Billed",
    "LoggedRequest",
    "LoopbackProvider",
    "Received",
    "Reply",
    "Upload",
    "count_input",
    "count_text",
]

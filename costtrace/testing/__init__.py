"""A provider on this machine for tests: real HTTP, both protocols, no network, no key.

Loaded when first used: pytest imports this package wherever costtrace is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costtrace.lazy import lazily

if TYPE_CHECKING:
    from costtrace.testing.generation import count_input as count_input
    from costtrace.testing.generation import count_text as count_text
    from costtrace.testing.log import Billed as Billed
    from costtrace.testing.log import LoggedRequest as LoggedRequest
    from costtrace.testing.log import Received as Received
    from costtrace.testing.log import Upload as Upload
    from costtrace.testing.provider import LoopbackProvider as LoopbackProvider
    from costtrace.testing.reply import COMPUTED as COMPUTED
    from costtrace.testing.reply import OMITTED as OMITTED
    from costtrace.testing.reply import Reply as Reply

_HOME_OF = {
    "Billed": "log",
    "COMPUTED": "reply",
    "LoggedRequest": "log",
    "LoopbackProvider": "provider",
    "OMITTED": "reply",
    "Received": "log",
    "Reply": "reply",
    "Upload": "log",
    "count_input": "generation",
    "count_text": "generation",
}
__all__ = [*_HOME_OF]

__getattr__, __dir__ = lazily(__name__, _HOME_OF)

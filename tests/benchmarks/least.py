"""The least that a limit needs, in Python and where ours stands: one function for all of it.

It knows one model, two rates, one user and one shape of request and answer; it survives no error,
stream, retry, fork or signal, tells nobody of anything, and keeps a line of numbers for each call.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable
from typing import Any

INPUT_PICO, OUTPUT_PICO = 150_000, 600_000
FRAMING = 10
"""Tokens that a message may take beside its text."""


class LeastBudget:
    """One user's limit, in picodollars."""

    def __init__(self, limit_pico: int) -> None:
        self.limit_pico = limit_pico
        self.spent_pico = self.reserved_pico = 0
        self._held: dict[bytes, int] = {}
        self._entries = array("q")
        self._lock = threading.Lock()

    def around(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Return `SyncAPIClient.request` under the limit."""

        def limited(client: Any, cast_to: Any, options: Any, **more: Any) -> Any:
            body, call_id = options.json_data, os.urandom(16)
            sent = sum(len(one["content"].encode()) + FRAMING for one in body["messages"])
            worst = sent * INPUT_PICO + body["max_tokens"] * OUTPUT_PICO
            with self._lock:
                if self.spent_pico + self.reserved_pico + worst > self.limit_pico:
                    raise RuntimeError("the limit is reached")
                self.reserved_pico += worst
                self._held[call_id] = worst
            answer = request(client, cast_to, options, **more)
            usage = answer.usage
            cost = usage.prompt_tokens * INPUT_PICO + usage.completion_tokens * OUTPUT_PICO
            with self._lock:
                self.reserved_pico -= self._held.pop(call_id)
                self.spent_pico += cost
                self._entries.extend((usage.prompt_tokens, usage.completion_tokens, cost))
            return answer

        return limited

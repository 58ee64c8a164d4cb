"""What the loopback provider received and what it billed for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from costtrace.usage import Usage

REDACTED = "(redacted)"


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a multipart request."""

    field: str
    filename: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; the values of headers that hold keys are replaced."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: Any = None
    """The JSON value, or the fields of a form."""
    files: tuple[Upload, ...] = ()

    @property
    def retry_count(self) -> int:
        """How often the SDK had tried this call before."""
        return int(self.headers.get("x-stainless-retry-count", "0"))


@dataclass(frozen=True, slots=True)
class Billed:
    """What the provider charges for one request, whether its answer arrived or not."""

    provider: str
    """"openai" or "anthropic"."""
    model: str
    usage: Usage
    service_tier: str | None = None
    raw: Any = None
    """The usage object as it was sent, in the provider's words."""

    @property
    def input_tokens(self) -> int:
        """Everything read, cached tokens included."""
        return self.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        """Everything generated, reasoning included."""
        return self.usage.output_tokens


@dataclass(frozen=True, slots=True)
class LoggedRequest(Received):
    """A request and what became of it by the time the log was read."""

    billed: Billed | None = None
    """None for free requests, refused ones, and those not answered yet."""
    status: int | None = None
    """HTTP status; None before the answer starts, and when it never did."""
    is_completed: bool = False
    """The whole answer was sent to a client that was still there."""


class Exchange:
    """One request in progress; the thread of its connection writes, the log reads."""

    def __init__(self, received: Received) -> None:
        self.received = received
        self.billed: Billed | None = None
        self.status: int | None = None
        self.is_completed = False
        self.is_finished = False

    def snapshot(self) -> LoggedRequest:
        """The request as it stands now."""
        received = self.received
        return LoggedRequest(
            received.method,
            received.path,
            received.query,
            received.headers,
            received.body,
            received.files,
            billed=self.billed,
            status=self.status,
            is_completed=self.is_completed,
        )


class RequestLog:
    """All requests in order of arrival. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exchanges: list[Exchange] = []

    def open(self, received: Received) -> Exchange:
        """Enter a request that has arrived."""
        exchange = Exchange(received)
        with self._changed:
            self._exchanges.append(exchange)
            self._changed.notify_all()
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Note that nothing more will happen to `exchange`."""
        with self._changed:
            exchange.is_finished = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all requests."""
        with self._changed:
            self._exchanges.clear()

    def snapshots(self) -> list[LoggedRequest]:
        """Every request as it stands now."""
        with self._changed:
            return [exchange.snapshot() for exchange in self._exchanges]

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Return once `count` requests have arrived; `TimeoutError` after `timeout_s` seconds."""
        self._wait(lambda: len(self._exchanges) >= count, f"{count} requests", timeout_s)

    def wait_finished(self, timeout_s: float) -> None:
        """Return once no request is in progress; `TimeoutError` after `timeout_s` seconds."""
        self._wait(
            lambda: all(exchange.is_finished for exchange in self._exchanges),
            "the end of every request",
            timeout_s,
        )

    def _wait(self, is_met: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not is_met():
                left = deadline - time.monotonic()
                if left <= 0:
                    arrived = len(self._exchanges)
                    raise TimeoutError(f"waited {timeout_s} s for {what}; {arrived} arrived")
                self._changed.wait(left)

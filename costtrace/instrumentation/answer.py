"""What comes back from an SDK: read once, in whichever shape the caller asked for."""

from __future__ import annotations

from typing import Any

from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.outgoing import Outgoing
from costtrace.instrumentation.raw import watch_raw
from costtrace.instrumentation.stream import AsyncWatchedEvents, WatchedEvents, watch_bytes
from costtrace.instrumentation.watch import StreamWatch

NEVER_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
    "InvalidURL",
    "LocalProtocolError",
}
"""Failures of HTTP libraries, by name, that come before anything could be billed."""
RETRY_COUNT = "x-stainless-retry-count"
_without_usage_option: set[str] = set()


class AnswerHook:
    """Stands as the `post_parser` of a call's options, which gets every parsed answer.

    It also learns from the other seams what became of the call: it is found through the options.
    """

    def __init__(self, call: Call, outgoing: Outgoing) -> None:
        self.call = call
        self._outgoing = outgoing
        self._inner = outgoing.options.post_parser
        self._hides_usage = False
        self._watch: StreamWatch | None = None
        self._has_returned = False

    def install(self) -> None:
        """Take the place of the options' own parser, and ask a stream for its usage."""
        with guard("prepare a request"):
            self._ask_for_usage()
            self._outgoing.options.post_parser = self

    def __call__(self, answer: Any) -> Any:
        with guard("read an answer"):
            self._see(answer)
        return self._inner(answer) if callable(self._inner) else answer

    def answered(self, response: Any, retries: Any) -> None:
        """An answer has come, after so many retries."""
        self.call.is_answered = True
        if isinstance(retries, int):
            self.call.attempts = max(self.call.attempts, retries + 1)

    def retried(self, headers: Any, error: BaseException | None) -> None:
        """An attempt has failed and is followed by another; without headers, nobody answered."""
        self.call.attempts += 1
        if headers is None and not _was_never_sent(error):
            self.call.unknown_attempts += 1

    def returned(self, returned: Any) -> None:
        """`request` has returned: settle what it brought, or watch what is still to come."""
        with guard("settle a call"):
            self._has_returned = True
            if self._watch is not None:
                return
            if self.call.reading is not None:
                self.call.settle(self.call.reading)
                return
            http = getattr(returned, "http_response", None)
            if http is None:
                self.call.settle(self.call.provider.read(self.call.request, returned))
                return
            self._watch = watch_raw(http, self.call)

    def failed(self, error: BaseException) -> None:
        """`request` has raised: find out what that may have cost."""
        with guard("settle a failed call"):
            self._settle_failed(error)

    def _settle_failed(self, error: BaseException) -> None:
        call = self.call
        call.attempts = max(call.attempts, _attempts_of(error))
        if call.reading is not None:
            call.settle(call.reading, "raised")
        elif self._watch is not None:
            self._watch.broke(error)
        elif call.is_answered:
            call.assume(status="raised")
        elif isinstance(getattr(error, "status_code", None), int):
            self._learn_refusal(error)
            call.fail()
        elif _is_transport_error(error):
            if _was_never_sent(error.__cause__):
                call.fail()
            else:
                call.assume()
        elif isinstance(error, Exception):
            call.release()
        else:
            call.assume()

    def _see(self, answer: Any) -> None:
        if self._watch is not None and not self._watch.is_raw:
            return
        if hasattr(answer, "_iterator") and hasattr(answer, "response"):
            self._see_stream(answer)
            return
        if self.call.reading is None and not self.call.is_over:
            self.call.reading = self.call.provider.read(self.call.request, answer)
            if self._has_returned:  # a raw response, parsed by its caller
                self.call.settle(self.call.reading)

    def _see_stream(self, stream: Any) -> None:
        reader = self.call.provider.reader(self.call.request, hide_usage=self._hides_usage)
        if self._watch is not None:
            self._watch.stop()
        self._watch = watch = StreamWatch(self.call, reader)
        events = stream._iterator
        is_async = hasattr(events, "__anext__")
        watched = AsyncWatchedEvents if is_async else WatchedEvents
        stream._iterator = watched(events, watch)
        watch_bytes(stream.response, watch)
        watch.open()

    def _ask_for_usage(self) -> None:
        """Let a stream end with its usage, where that is known to be understood."""
        call, outgoing = self.call, self._outgoing
        if outgoing.is_raw or outgoing.host in _without_usage_option:
            return
        if (option := call.provider.usage_option(call.request)) is not None:
            outgoing.set(option)
            self._hides_usage = True

    def _learn_refusal(self, error: BaseException) -> None:
        """Stop asking a host for usage that has refused the question."""
        if self._hides_usage and "stream_options" in str(error):
            _without_usage_option.add(self._outgoing.host)


def _attempts_of(error: BaseException) -> int:
    """Return which attempt an SDK's error tells of, by the header that the SDK counts in."""
    for holder in (getattr(error, "response", None), error):
        headers = getattr(getattr(holder, "request", None), "headers", None)
        count = headers.get(RETRY_COUNT) if headers is not None else None
        if isinstance(count, str) and count.isdigit():
            return int(count) + 1
    return 1


def _is_transport_error(error: BaseException) -> bool:
    """Tell whether nobody answered: the SDK's own connection errors, or an HTTP library's."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"APIConnectionError", "TransportError", "TimeoutException"})


def _was_never_sent(error: BaseException | None) -> bool:
    return error is not None and any(kind.__name__ in NEVER_SENT for kind in type(error).__mro__)

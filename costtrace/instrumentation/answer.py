"""What comes back from an SDK: read once, in whichever shape the caller asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costtrace.entry import Status
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.failure import (
    attempts_of,
    has_status,
    is_transport_error,
    was_never_sent,
)
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.instrumentation.known import remember
from costtrace.instrumentation.outgoing import OptionsHook, Outgoing
from costtrace.instrumentation.raw import body_reader, read_body, watch_body
from costtrace.instrumentation.stream import is_stream, watch_events
from costtrace.instrumentation.watch import StreamWatch
from costtrace.providers import Part, Reading

_without_usage_option: set[str] = set()


class AnswerHook(OptionsHook):
    """Stands as the `post_parser` of a call's options, which gets every parsed answer.

    It also learns from the other seams what became of the call: it is found through the options.
    It does not lead back to them: a circle would keep answers in memory until it is collected.
    """

    def __init__(self, call: Call, outgoing: Outgoing) -> None:
        self.call = call
        self._site = outgoing.site
        self._inner = outgoing.options.post_parser
        self._hides_usage = False
        self._watch: StreamWatch | None = None
        self._has_returned = False
        self._answers: list[Any] = []

    def install(self, outgoing: Outgoing) -> None:
        """Take the place of the options' own parser, and ask a stream for its usage."""
        try:
            outgoing.options.post_parser = self
            if self.call.request.is_stream:
                self._ask_for_usage(outgoing)
        except Exception as error:
            swallowed("prepare a request", error)

    def install_late(self, outgoing: Outgoing) -> None:
        """Take the place of the options' own parser when the answer has come already."""
        outgoing.options.post_parser = self

    def __call__(self, answer: Any) -> Any:
        try:
            self._see(answer)
        except Exception as error:
            swallowed("read an answer", error)
        return self._inner(answer) if callable(self._inner) else answer

    def answered(self, response: Any, retries: Any) -> None:
        """An answer has come, after so many retries; middleware also shows refusals here."""
        if getattr(response, "status_code", 200) >= 400:
            return
        self.call.is_answered = True
        self._answers.append(response)
        if isinstance(retries, int):
            self.call.attempts = max(self.call.attempts, retries + 1)

    def retried(self, headers: Any, error: BaseException | None) -> None:
        """An attempt has failed and is followed by another; without headers, nobody answered."""
        self.call.attempts += 1
        if headers is None and not was_never_sent(error):
            self.call.unknown_attempts += 1

    def returned(self, returned: Any) -> None:
        """`request` has returned: settle what it brought, or watch what is still to come."""
        self._has_returned = True
        if self._watch is not None:
            return
        try:
            if self.call.reading is not None:
                self._settle(self.call.reading)
            elif (http := _http_of(returned)) is not None:
                self._see_raw(http)
            else:
                self._settle(self.call.provider.read(self.call.request, returned))
        except Exception as error:
            swallowed("settle a call", error)

    def failed(self, error: BaseException) -> None:
        """`request` has raised: find out what that may have cost."""
        with guard("settle a failed call"):
            self._settle_failed(error)

    def _settle_failed(self, error: BaseException) -> None:
        call = self.call
        call.attempts = max(call.attempts, attempts_of(error))
        if call.reading is not None:
            self._settle(call.reading, "raised")
        elif self._watch is not None:
            self._watch.broke(error)
        elif call.is_answered:
            self._settle_unread()
        elif has_status(error):
            self._learn_refusal(error)
            call.fail()
        elif is_transport_error(error):
            if was_never_sent(error.__cause__):
                call.fail()
            else:
                call.assume()
        elif isinstance(error, Exception):
            call.release()
        else:
            call.assume()

    def _settle_unread(self) -> None:
        """Settle an answer that the SDK did not accept: it may say what it used all the same."""
        call = self.call
        reading = read_body(call.provider, call.request, _content(self._answers[-1]))
        if reading.usage is None:
            call.assume(status="raised")
        else:
            self._settle(reading, "raised")

    def _settle(self, reading: Reading, status: Status = "ok") -> None:
        call = self.call
        if len(self._answers) > 1 and not call.request.is_stream:
            reading = self._with_rejected_answers(reading)
        if reading.is_pending:
            call.settle_pending(reading)
            remember(call)
        else:
            call.settle(reading, status)

    def _see(self, answer: Any) -> None:
        if self._watch is not None and not self._watch.is_raw:
            return
        if is_stream(answer):
            self._see_stream(answer)
        elif not self.call.is_over:
            self._see_whole(answer)

    def _see_whole(self, answer: Any) -> None:
        call = self.call
        reading = call.provider.read(call.request, answer)
        if call.reading is not None and call.reading.response_id == reading.response_id:
            return  # the same one, parsed again
        call.reading = reading
        if self._has_returned:  # a raw response, parsed by its caller
            self._settle(reading)

    def _see_stream(self, stream: Any) -> None:
        reader = self.call.provider.reader(self.call.request, hide_usage=self._hides_usage)
        if self._watch is not None:
            self._watch.stop()
        self._watch = watch = StreamWatch(self.call, reader)
        watch_events(stream, watch)
        watch.open()

    def _see_raw(self, http: Any) -> None:
        call = self.call
        if getattr(http, "is_closed", False) and not call.request.is_stream:
            self._settle(read_body(call.provider, call.request, _content(http)))
            return
        reader = body_reader(http, call.provider, call.request)
        self._watch = watch = StreamWatch(call, reader, is_raw=True)
        watch_body(http, watch)
        watch.open()

    def _with_rejected_answers(self, reading: Reading) -> Reading:
        """Add the answers that a middleware rejected before this one: they were billed too."""
        call = self.call
        seen = {reading.response_id, *(part.response_id for part in reading.parts)}
        for response in self._answers[:-1]:
            rejected = read_body(call.provider, call.request, _content(response))
            if rejected.response_id not in seen:
                reading = self._after(rejected, reading)
        return reading

    def _after(self, rejected: Reading, reading: Reading) -> Reading:
        """Return the reading of an answer and of the one that a middleware rejected before it."""
        if rejected.usage is None:
            return reading
        model = rejected.model or self.call.request.model
        hop = Part(model, rejected.usage, rejected.response_id)
        return replace(reading, parts=(*rejected.parts, hop, *reading.parts))

    def _ask_for_usage(self, outgoing: Outgoing) -> None:
        """Let a stream end with its usage, where that is known to be understood."""
        if self._site in _without_usage_option:
            return
        option = self.call.provider.usage_option(self.call.request)
        if option is not None and not outgoing.is_raw:
            outgoing.set(option)
            self._hides_usage = True

    def _learn_refusal(self, error: BaseException) -> None:
        """Stop asking a host for usage that has refused the question."""
        if self._hides_usage and "stream_options" in str(error):
            _without_usage_option.add(self._site)


def _http_of(returned: Any) -> Any:
    """Return the HTTP response inside a raw response, or one that was asked for as it is."""
    http = getattr(returned, "http_response", None)
    if http is None and hasattr(returned, "iter_bytes") and hasattr(returned, "status_code"):
        return returned
    return http


def _content(http: Any) -> bytes:
    content = getattr(http, "content", b"") if getattr(http, "is_closed", False) else b""
    return content if isinstance(content, bytes) else b""

"""Streams: followed to their end, and entered as far as known when their scope is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costtrace.accounting.ledger import CostLedger
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.instrumentation.known import remember
from costtrace.instrumentation.offload import off_loop
from costtrace.instrumentation.opened import close_watch, open_watch
from costtrace.providers import Reading, StreamReader


class StreamWatch:
    """Follows one stream for its call; none of it raises, and it settles the call once."""

    def __init__(self, call: Call, reader: StreamReader, *, is_raw: bool = False) -> None:
        self.call = call
        self.is_raw = is_raw
        self._reader = reader
        self.see: Callable[[Any], bool] = reader.see
        self._is_stopped = False
        self._left_at: Reading | None = None

    @property
    def ledger(self) -> CostLedger:
        return self.call.ledger

    @property
    def is_over(self) -> bool:
        return self.call.is_over or self._left_at is not None

    def open(self) -> None:
        """Enter it no later than its scope is left."""
        open_watch(self.call.scope, self)

    def stop(self) -> None:
        """Follow it no more: it is at its end, or another watch has taken its place."""
        self._is_stopped = True
        close_watch(self.call.scope, self)

    def saw(self, event: object) -> bool:
        try:
            return self.see(event)
        except Exception as error:
            self.overlooked(error)
            return False

    def overlooked(self, error: Exception) -> None:
        swallowed("read a stream's event", error)

    def ended(self) -> None:
        with guard("settle a stream"):
            self._finish()

    async def ended_async(self) -> None:
        with guard("settle a stream"):
            await off_loop(self.call.charges.payers.is_blocking, self._finish, lambda _: None)

    def broke(self, error: BaseException) -> None:
        with guard("settle a broken stream"):
            self._finish()

    def dropped(self) -> None:
        if not (self._is_stopped or self.call.is_over):
            self.ledger.postings.dropped.put(self._leave)

    def flush(self) -> None:
        """Enter what is known so far; what it may still cost stays reserved until it ends."""
        with guard("enter an open stream"):
            reading = self._reader.reading()
            if reading.is_complete and reading.usage is not None:
                self._finish()
            elif reading.is_pending:
                self._wait_for(reading)
            else:
                self.call.settle_partial(reading, is_final=False, goes_on=True)

    def _leave(self) -> None:
        """Its bytes were closed: enter it, though what was received may still be iterated."""
        with guard("settle a stream that was left"):
            reading = self._reader.reading()
            if reading != self._left_at and not self._is_stopped:
                self._left_at = reading
                self._settle(reading, is_final=False)
                close_watch(self.call.scope, self)

    def _finish(self) -> None:
        if not self._is_stopped:
            self.stop()
            self._settle(self._reader.reading(), is_final=True)

    def _settle(self, reading: Reading, *, is_final: bool) -> None:
        if reading.is_complete:
            self.call.settle(reading)
        elif reading.is_pending:
            self._wait_for(reading)
        else:
            self.call.settle_partial(reading, is_final=is_final)
            remember(self.call)

    def _wait_for(self, reading: Reading) -> None:
        """Enter work that goes on without us at its worst case, until somebody retrieves it."""
        self.call.settle_pending(reading)
        remember(self.call)

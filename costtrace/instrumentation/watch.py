"""Open streams: followed to their end, and entered as far as known when their scope is left."""

from __future__ import annotations

import threading
from dataclasses import replace
from weakref import WeakKeyDictionary

from costtrace.accounting.recording import new_call_id
from costtrace.instrumentation.call import Call
from costtrace.instrumentation.faults import guard
from costtrace.instrumentation.offload import off_loop
from costtrace.providers import StreamReader
from costtrace.scopes import Scope

_open: WeakKeyDictionary[Scope, set[StreamWatch]] = WeakKeyDictionary()
_lock = threading.Lock()


class StreamWatch:
    """Follows one stream for its call; none of it raises, and it settles the call once."""

    def __init__(self, call: Call, reader: StreamReader, *, is_raw: bool = False) -> None:
        self.call = call
        self.is_raw = is_raw
        self._reader = reader
        self._is_stopped = False
        self._rest_id: str | None = None

    def open(self) -> None:
        """Enter it no later than its scope is left."""
        if self.call.scope is not None:
            with _lock:
                _open.setdefault(self.call.scope, set()).add(self)

    def stop(self) -> None:
        """Follow it no more: another watch has taken its place."""
        self._is_stopped = True
        self._close()

    def saw(self, event: object) -> bool:
        with guard("read a stream's event"):
            return self._reader.see(event)
        return False

    def ended(self) -> None:
        with guard("settle a stream"):
            self._finish()

    async def ended_async(self) -> None:
        with guard("settle a stream"):
            await off_loop(self.call.charges.is_blocking, self._finish, lambda _: None)

    def broke(self, error: BaseException) -> None:
        with guard("settle a broken stream"):
            self._finish()

    def dropped(self) -> None:
        if not (self._is_stopped or self.call.is_over):
            self.call.ledger.postings.dropped.put(self.ended)

    def flush(self) -> None:
        """Enter what is known so far; what it may still cost stays reserved until it ends."""
        with guard("enter an open stream"):
            reading = self._reader.reading()
            if reading.is_complete and reading.usage is not None:
                self._finish()
            else:
                self._hold_rest()
                self.call.settle_partial(reading, is_final=False)

    def _finish(self) -> None:
        if self._is_stopped:
            return
        reading = self._reader.reading()
        if reading.is_complete:
            self.call.settle(reading)
        else:
            self.call.settle_partial(reading, is_final=True)
        self._close()
        self._release_rest()

    def _close(self) -> None:
        scope = self.call.scope
        if scope is not None:
            with _lock:
                if (watches := _open.get(scope)) is not None:
                    watches.discard(self)

    def _hold_rest(self) -> None:
        """Keep reserved what the stream may still cost when its partial entry takes its hold."""
        reserved = self.call.reserved
        if reserved is None or not reserved.cost_usd or self._rest_id is not None:
            return
        self._rest_id = new_call_id()
        rest = replace(reserved, call_id=self._rest_id, adjusts=self.call.call_id)
        self.call.charges.hold(rest)

    def _release_rest(self) -> None:
        rest_id, self._rest_id = self._rest_id, None
        if rest_id is not None:
            self.call.charges.release(rest_id)


def flush(scope: Scope) -> None:
    """Enter all streams that were opened in a scope which is being left."""
    with _lock:
        watches = list(_open.get(scope, ()))
    for watch in watches:
        watch.call.ledger.postings.collect()
        if not watch.call.is_over:
            watch.flush()

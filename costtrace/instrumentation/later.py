"""Requests that cost nothing, but whose answers tell what earlier work used.

Background responses and runs are made exact when they are retrieved; a batch's lines become
entries, each once, when its results are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from costtrace.accounting.charges import Charges
from costtrace.accounting.default import default_ledger
from costtrace.accounting.ledger import CostLedger
from costtrace.entry import CostEntry
from costtrace.instrumentation.faults import guard, swallowed
from costtrace.instrumentation.known import make_exact
from costtrace.instrumentation.offload import off_loop
from costtrace.instrumentation.opened import close_watch, open_watch
from costtrace.instrumentation.outgoing import OptionsHook
from costtrace.instrumentation.raw import MOST_KEPT, body_reader, read_body, watch_body
from costtrace.instrumentation.stream import is_stream, watch_events
from costtrace.instrumentation.valuing import valued
from costtrace.providers import BatchLine, Provider, Reading, Request, Retrieval, StreamReader
from costtrace.scopes import Scope
from costtrace.stores.base import Query
from costtrace.usage import Usage

MOST_WAITING = 500
"""Lines of a batch that are kept until they are entered together."""


class Findings:
    """What the answer to one retrieval tells, until it is entered under whoever asked."""

    def __init__(self, provider: Provider, retrieval: Retrieval, scope: Scope | None) -> None:
        self.provider = provider
        self.retrieval = retrieval
        self.scope = scope
        home = scope.ledger if scope is not None else None
        self.ledger: CostLedger = home if isinstance(home, CostLedger) else default_ledger()
        self.charges = Charges(self.ledger, scope.budgets if scope else ())
        self.request = Request(
            provider=retrieval.provider, operation=retrieval.operation, model="unknown", body={}
        )
        self._lines: list[BatchLine] = []
        self._reading: Reading | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found that is not entered yet."""
        return self._reading is None and not self._lines

    def take(self, answer: object) -> None:
        """Take a whole answer, or an item of one that is read in items."""
        if not self.retrieval.is_batch:
            self.take_reading(self.provider.read(self.request, answer))
            return
        self._lines.extend(self.provider.batch_lines(self.retrieval, answer))
        if len(self._lines) >= MOST_WAITING:
            self.enter()

    def take_body(self, content: bytes) -> None:
        """Take a whole answer as it was sent."""
        if self.retrieval.is_batch:
            self.take(content)
        else:
            self.take_reading(read_body(self.provider, self.request, content))

    def take_reading(self, reading: Reading) -> None:
        """Take what is known of the earlier work by now."""
        self._reading = reading

    def enter(self) -> None:
        """Enter what was found; what the ledger has already stays as it is."""
        lines, self._lines = self._lines, []
        self._enter_lines(lines)
        reading, self._reading = self._reading, None
        if reading is not None and reading.is_complete and not reading.is_pending:
            make_exact(self.retrieval.key, reading, self.charges)

    def _enter_lines(self, lines: Iterable[BatchLine]) -> None:
        for line in lines:
            with guard("enter a line of a batch"):
                entry = self._entry(line)
                known = self.ledger.store.entries(Query(call_id=entry.call_id))
                if next(iter(known), None) is None:
                    self.charges.enter(entry)

    def _entry(self, line: BatchLine) -> CostEntry:
        scope, reading = self.scope, line.reading
        entry = CostEntry(
            model=reading.model or "unknown",
            function_name=scope.function_name if scope else "unknown",
            user_id=scope.user_id if scope else "anon",
            usage=reading.usage or Usage(),
            cost_usd=None,
            timestamp=self.ledger.now(),
            call_id=f"batch:{self.provider.name}:{line.line_id}",
            provider=self.provider.name,
            operation=line.operation,
            request_model=reading.model or "unknown",
            call_path=scope.call_path if scope else (),
            tags=scope.tags if scope else {},
            service_tier="batch",
            region=reading.region,
            response_id=reading.response_id,
            grade="unpriced" if reading.usage is None else "reported",
            gateway_cost_usd=reading.gateway_cost,
        )
        if reading.usage is None:
            return entry
        return valued(self.ledger.prices, entry, reading.parts)


class LaterHook(OptionsHook):
    """Stands as the `post_parser` of such a request, which gets its parsed answer."""

    def __init__(self, findings: Findings, options: Any) -> None:
        self.findings = findings
        self._inner = options.post_parser
        self._is_watching = False
        self._has_seen = False
        options.post_parser = self

    @property
    def is_blocking(self) -> bool:
        """Whether entering what was read may wait for a disk or a network."""
        return self.findings.charges.payers.is_blocking

    def __call__(self, answer: Any) -> Any:
        with guard("read a retrieved answer"):
            self._see(answer)
        return self._inner(answer) if callable(self._inner) else answer

    def returned(self, returned: Any) -> None:
        """`request` has returned: enter what it brought, or watch what is still to come."""
        with guard("enter what was retrieved"):
            http = getattr(returned, "http_response", None)
            if http is not None and not self._has_seen:
                self._see_raw(http)
            self.findings.enter()

    def failed(self, error: BaseException) -> None:
        """`request` has raised: what was read before that counts all the same."""
        with guard("enter what was retrieved"):
            self.findings.enter()

    def _see(self, answer: Any) -> None:
        if self._has_seen and not self._is_watching:
            return  # parsed once more
        self._has_seen = True
        findings = self.findings
        if is_stream(answer):
            self._is_watching = True
            source = _Items(findings) if findings.retrieval.is_batch else self._events()
            watch_events(answer, LaterWatch(findings, source))
        else:
            findings.take(answer)

    def _see_raw(self, http: Any) -> None:
        self._has_seen = True
        findings = self.findings
        if getattr(http, "is_closed", False):
            findings.take_body(http.content)
            return
        self._is_watching = True
        if findings.retrieval.is_batch:
            source: _Source = _Bytes(findings)
        else:
            reader = body_reader(http, findings.provider, findings.request)
            source = _Whole(findings, reader)
        watch_body(http, LaterWatch(findings, source))

    def _events(self) -> _Source:
        findings = self.findings
        reader = findings.provider.reader(findings.request, hide_usage=False)
        return _Whole(findings, reader)


class _Source(Protocol):
    def see(self, event: object) -> None: ...

    def finish(self) -> None: ...


class _Items:
    """The results of a batch, item by item."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def see(self, event: object) -> None:
        self._findings.take(event)

    def finish(self) -> None:
        return


class _Bytes:
    """The results of a batch, as they are sent."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._rest = b""
        self._is_something_else = False

    def see(self, event: object) -> None:
        if not isinstance(event, bytes) or self._is_something_else:
            return
        self._rest += event
        if not self._rest.startswith(b"{") or len(self._rest) > MOST_KEPT:
            self._is_something_else, self._rest = True, b""
        elif b"\n" in event:
            whole, _, self._rest = self._rest.rpartition(b"\n")
            self._findings.take(whole)

    def finish(self) -> None:
        rest, self._rest = self._rest, b""
        self._findings.take(rest)


class _Whole:
    """One response or run, as events or as the bytes of its body."""

    def __init__(self, findings: Findings, reader: StreamReader) -> None:
        self._findings = findings
        self._reader = reader

    def see(self, event: object) -> None:
        self._reader.see(event)

    def finish(self) -> None:
        self._findings.take_reading(self._reader.reading())


class LaterWatch:
    """Follows an answer that is read bit by bit; none of it raises."""

    def __init__(self, findings: Findings, source: _Source) -> None:
        self._findings = findings
        self._source = source
        self._is_dropped = False
        self.is_over = False
        open_watch(findings.scope, self)

    @property
    def ledger(self) -> CostLedger:
        return self._findings.ledger

    def saw(self, event: object) -> bool:
        with guard("read a retrieved answer"):
            self._source.see(event)
        return False

    see = saw

    def overlooked(self, error: Exception) -> None:
        swallowed("read a retrieved answer", error)

    def ended(self) -> None:
        with guard("enter what was retrieved"):
            self.flush()
            self.is_over = True
            close_watch(self._findings.scope, self)

    async def ended_async(self) -> None:
        with guard("enter what was retrieved"):
            await off_loop(self._findings.charges.payers.is_blocking, self.ended, lambda _: None)

    def broke(self, error: BaseException) -> None:
        self.ended()

    def dropped(self) -> None:
        if not (self.is_over or self._is_dropped):
            self._is_dropped = True
            self.ledger.postings.dropped.put(self.ended)

    def flush(self) -> None:
        """Enter what was read so far."""
        with guard("enter what was retrieved"):
            self._source.finish()
            self._findings.enter()

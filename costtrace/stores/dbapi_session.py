"""A thread's connection to PostgreSQL: steps are sent again where that is safe, and never too late.

Every step may be sent twice, since a call is known by its id. A step carries the instant, on the
server's clock, after which the server must not do it any more: whoever waited for it has given up.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from costtrace.exceptions import BudgetStoreError
from costtrace.stores.dbapi_driver import AGAIN, as_ours, has_ended_connection, sqlstate
from costtrace.stores.dbapi_link import Connector, Link, Rows, Step, number_of, schema_lock
from costtrace.stores.lanes import Unanswered

_MOST_TRIES, _UNDONE_AT_ONCE = 8, 20
_LONGEST_PAUSE_S = 0.02
T = TypeVar("T")


class Session:
    """The seat of a lane: a connection that is opened when it is needed, and replaced if it breaks.

    `voids` are reservations whose callers were told that they failed: they are undone first.
    """

    def __init__(
        self,
        connector: Connector,
        timeout_s: float,
        voids: deque[tuple[str, str]],
        *,
        is_for_steps: bool = False,
    ) -> None:
        self._connector = connector
        self._timeout_s = timeout_s
        self._voids = voids
        self._is_for_steps = is_for_steps
        self._link: Link | None = None
        self._ahead_us = 0
        self._schema_lock = schema_lock(connector.schema)

    def set_up(self) -> str:
        """Open the first connection, and make the schema a ledger if it is none; return its id."""
        link = self._opened(is_checked=False)
        try:
            if not link.is_ready():
                link.migrate()
            ledger_id = link.ledger_id()
        except BudgetStoreError:
            raise
        except Exception as error:
            raise as_ours(error) from error
        second = self._connector.open(self._timeout_s)  # a factory must make new ones each time
        second.close()
        return ledger_id

    def step(
        self,
        name: Step,
        payload: dict[str, Any],
        deadline: float,
        sent: list[str] | None = None,
    ) -> list[Any]:
        """Do a step, and return what the server says of it; the deadline is `time.monotonic`'s.

        Its name is added to `sent` before the server can hear of it.
        """
        return self._again_while_unsettled(
            lambda link: self._step(link, name, payload, deadline, sent), deadline
        )

    def transaction(
        self, work: Callable[[Callable[..., Rows]], T], deadline: float, *, is_snapshot: bool
    ) -> T:
        """Do several statements as one."""

        def run_all(link: Link) -> T:
            with link.transaction(is_snapshot=is_snapshot) as run:
                return work(run)

        return self._again_while_unsettled(run_all, deadline)

    def statement(self, statement: str, values: tuple[Any, ...], deadline: float) -> Rows:
        """Execute one statement as a transaction of its own; doing it twice must be harmless."""
        return self._again_while_unsettled(lambda link: link.alone(statement, values), deadline)

    # -- the seat of a lane ------------------------------------------------------------------

    def probe(self) -> None:
        """Return when the server answers, and undo what must not stand."""
        link = self._opened()
        while self._voids:
            self._undo(link, time.monotonic() + self._timeout_s)

    def interrupt(self) -> None:
        """Cut the connection from another thread."""
        if self._link is not None:
            self._link.interrupt()

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # -- trying ------------------------------------------------------------------------------

    def _again_while_unsettled(self, work: Callable[[Link], T], deadline: float) -> T:
        is_replaced = False
        for tries in range(1, _MOST_TRIES + 1):
            try:
                link = self._opened()
                return self._attempt(link, work)
            except _Broken as broken:
                self.close()
                if is_replaced:
                    raise as_ours(broken.error) from broken.error
                is_replaced = True
            except _Unsettled as unsettled:
                if tries == _MOST_TRIES:
                    raise as_ours(unsettled.error) from unsettled.error
                time.sleep(random.uniform(0, _LONGEST_PAUSE_S))
            if time.monotonic() >= deadline:
                raise Unanswered("the time for the step was over before it could be done")
        raise AssertionError("the last try returns or raises")  # pragma: no cover

    def _attempt(self, link: Link, work: Callable[[Link], T]) -> T:
        try:
            return work(link)
        except (BudgetStoreError, _Unsettled, Unanswered, TypeError, ValueError):
            raise
        except Exception as error:
            if sqlstate(error) in AGAIN:
                raise _Unsettled(error) from error
            if has_ended_connection(error):
                raise _Broken(error) from error
            raise as_ours(error) from error

    def _step(
        self,
        link: Link,
        name: Step,
        payload: dict[str, Any],
        deadline: float,
        sent: list[str] | None,
    ) -> list[Any]:
        for _ in range(min(len(self._voids), _UNDONE_AT_ONCE)):
            self._undo(link, deadline)
        if sent is not None:
            sent.append(name)
        return self._call(link, name, payload, deadline)

    def _call(self, link: Link, name: Step, payload: dict[str, Any], deadline: float) -> list[Any]:
        sent = time.monotonic()
        not_after_us = int(deadline * 1_000_000) + self._ahead_us
        text = json.dumps(
            {**payload, "schema_lock": self._schema_lock, "not_after_us": not_after_us}
        )
        answer: list[Any] = json.loads(link.call(name, text))
        now_us = answer.pop()
        self._ahead_us = now_us - int(time.monotonic() * 1_000_000)
        if answer[:1] == ["late"]:  # its clock was set, or ours was asleep
            if sent >= deadline:
                raise Unanswered("the time for the step was over before it could be done")
            raise _Unsettled(BudgetStoreError("the server's clock jumps"))
        return answer

    def _undo(self, link: Link, deadline: float) -> None:
        with suppress(IndexError):
            call_id, attempt = self._voids[0]
            payload = {"call_id": call_id, "call_lock": number_of(call_id), "attempt": attempt}
            self._call(link, "release", payload, deadline)
            if self._voids[0] == (call_id, attempt):
                self._voids.popleft()

    def _opened(self, *, is_checked: bool = True) -> Link:
        if self._link is None:
            link = self._connector.open(self._timeout_s, is_planned_once=self._is_for_steps)
            try:
                if is_checked:
                    link.check_version()
                now_us = link.alone(
                    "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
                )[0][0]
            except BudgetStoreError:
                link.close()
                raise
            except Exception as error:
                link.close()
                raise as_ours(error) from error
            self._ahead_us = now_us - int(time.monotonic() * 1_000_000)
            self._link = link
        return self._link


class _Broken(Exception):  # noqa: N818
    """The connection has ended; what it was doing may or may not have been done."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Unsettled(Exception):  # noqa: N818
    """The database has undone the step and wants it again."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextmanager
def unanswered_as_ours(what: str) -> Iterator[None]:
    """Raise `BudgetStoreError` where no answer came in time."""
    try:
        yield
    except Unanswered as silence:
        raise BudgetStoreError(f"{what}: {silence}") from None

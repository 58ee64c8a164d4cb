"""How scripts are sent to Redis: with the client that the user passed, whatever its settings."""

from __future__ import annotations

import inspect
import json
import os
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from costtrace.exceptions import BudgetStoreError, EvictingStoreWarning, StoreResetError
from costtrace.stores.lanes import Lane, Unanswered
from costtrace.stores.redis_more_scripts import MORE_SCRIPTS
from costtrace.stores.redis_scripts import SCRIPTS
from costtrace.stores.redis_words import Script

SCHEMA = 1
_WANTED = "a synchronous client for one Redis server, such as redis.Redis(...)"
_MOST_THREADS = 8
_UNDONE_AT_ONCE = 20
T = TypeVar("T")
_SCRIPTS: dict[str, Script] = {**SCRIPTS, **MORE_SCRIPTS}
_LOST = (
    "Redis has lost the ledger of the namespace {namespace!r} ({how}); nothing is admitted against "
    "a fresh zero: see RedisStore.reseed()"
)


class RedisSeat:
    """A thread's place at the client, which all threads share."""

    def __init__(self, link: weakref.ref[RedisLink]) -> None:
        self._link = link  # weak: an idle thread must not keep a store that nobody uses

    def probe(self) -> None:
        """Return when the server answers, and undo what must not stand."""
        link = self._link()
        if link is not None:
            with suppress(StoreResetError):
                link.send("about", {}, time.monotonic() + link.timeout_s)
                link.undo_all()

    def interrupt(self) -> None:
        """Do nothing: the client is the user's."""

    def close(self) -> None:
        """Do nothing: the client is the user's."""


class RedisLink:
    """Sends scripts; each is done before its deadline or not at all. Safe from any thread."""

    def __init__(self, client: Any, *, namespace: str, timeout_s: float) -> None:
        _check_client(client)
        self._client = client
        self.namespace = namespace
        self._key = f"{{{namespace}}}:gen".encode()
        self.timeout_s = timeout_s
        self._voids: deque[tuple[str, str]] = deque(maxlen=10_000)
        self.generation = ""
        """The name of the server's memory; empty until `open` was called."""
        self._ahead_us: int | None = None
        myself = weakref.ref(self)
        self._lane: Lane[RedisSeat] = Lane(lambda: RedisSeat(myself), most=_MOST_THREADS)
        self._is_closed = False

    def open(self, timeout_s: float) -> None:
        """Find the namespace's ledger, or begin one; raises for what is no client or no ledger."""
        self._run(lambda _seat: self._open(), timeout_s)

    def ask(
        self, script: str, payload: dict[str, Any], timeout_s: float | None = None
    ) -> list[Any]:
        """Have a script run and return what it says."""
        seconds = timeout_s or self.timeout_s
        deadline = time.monotonic() + seconds
        return self._run(lambda _seat: self._send_after_voids(script, payload, deadline), seconds)

    def reserve(self, payload: dict[str, Any], call_id: str, attempt: str) -> list[Any]:
        """Have a hold made; where it fails, it is undone as soon as the server answers."""
        deadline = time.monotonic() + self.timeout_s
        is_sent = False

        def work(_seat: RedisSeat) -> list[Any]:
            nonlocal is_sent
            is_sent = True
            return self._send_after_voids("reserve", payload, deadline)

        try:
            return self._run(work, self.timeout_s)
        except StoreResetError:
            raise
        except BaseException:
            if is_sent:
                self._voids.append((call_id, attempt))
            raise

    def close(self) -> None:
        """End the threads; the client stays open, it is the user's."""
        self._is_closed = True
        self._lane.close()

    def undo_all(self) -> None:
        """Undo all holds whose callers were told that they failed."""
        while self._voids:
            self._undo(time.monotonic() + self.timeout_s)

    def _undo(self, deadline: float) -> None:
        with suppress(IndexError):
            call_id, attempt = self._voids[0]
            self.send("release", {"id": call_id, "attempt": attempt}, deadline)
            if self._voids[0] == (call_id, attempt):
                self._voids.popleft()

    def _send_after_voids(self, script: str, payload: dict[str, Any], deadline: float) -> list[Any]:
        for _ in range(min(len(self._voids), _UNDONE_AT_ONCE)):
            self._undo(deadline)
        return self.send(script, payload, deadline)

    # -- one script --------------------------------------------------------------------------

    def _run(self, work: Callable[[RedisSeat], T], timeout_s: float) -> T:
        if self._is_closed:
            raise BudgetStoreError("Redis: this store is closed")
        try:
            return self._lane.run(work, timeout_s)
        except Unanswered as silence:
            raise BudgetStoreError(f"Redis: {silence}") from None

    def send(self, script: str, payload: dict[str, Any], deadline: float) -> list[Any]:
        """Send a script until it was in time: each may be sent twice, and is done once."""
        while True:
            sent = time.monotonic()
            if self._ahead_us is not None:
                payload = {**payload, "not_after": str(int(deadline * 1e6) + self._ahead_us)}
            answer = self._evaluate(_SCRIPTS[script], self.generation, payload, deadline)
            if answer[:1] == ["overflow"]:
                raise BudgetStoreError(
                    "Redis: a sum would pass what the ledger can count to: 63 bits"
                )
            if answer[:1] in (["reset"], ["lost"]):
                how = "it was flushed or restarted" if answer == ["reset"] else "keys are missing"
                raise StoreResetError(_LOST.format(namespace=self.namespace, how=how))
            if answer[:1] != ["late"]:
                return answer
            if sent >= deadline:
                raise Unanswered("the time for the step was over before it could be done")

    def _evaluate(
        self, script: Script, generation: str, payload: dict[str, Any], deadline: float
    ) -> list[Any]:
        arguments = (1, self._key, generation.encode(), json.dumps(payload).encode())
        try:
            answer = self._execute(script, arguments)
        except Exception as error:
            if not _is_of_the_line(error) or time.monotonic() >= deadline:
                raise _as_ours(error) from error
            try:
                answer = self._execute(script, arguments)  # the same again: it is done once
            except Exception as again:
                raise _as_ours(again) from again
        found = _as_text(answer)
        if not isinstance(found, list) or not found or not str(found[-1]).isdigit():
            raise TypeError(f"client must be {_WANTED}; its answer was {type(answer).__name__}")
        self._ahead_us = int(found.pop()) - int(time.monotonic() * 1e6)
        return found

    def _execute(self, script: Script, arguments: tuple[Any, ...]) -> Any:
        try:
            return self._client.execute_command("EVALSHA", script.sha, *arguments)
        except Exception as error:
            if not _is_unknown_script(error):
                raise
        return self._client.execute_command("EVAL", script.text.encode(), *arguments)

    # -- opening -----------------------------------------------------------------------------

    def _open(self) -> None:
        answer = self._evaluate(
            _SCRIPTS["open"],
            os.urandom(8).hex(),
            {"schema": str(SCHEMA)},
            time.monotonic() + self.timeout_s,
        )
        name, version = answer
        if name == "lost":
            raise StoreResetError(_LOST.format(namespace=self.namespace, how="keys are missing"))
        if int(version) > SCHEMA:
            raise BudgetStoreError(
                f"Redis: the namespace {self.namespace!r} was written by a newer costtrace "
                f"(schema {version}, known here up to {SCHEMA}): install that version"
            )
        self.generation = name
        self._warn_of_eviction()

    def _warn_of_eviction(self) -> None:
        try:
            found = self._client.execute_command("CONFIG GET", "maxmemory-policy")
        except Exception:
            return  # many services forbid it
        if isinstance(found, dict):
            found = [part for pair in found.items() for part in pair]
        policy = _as_text(found)[-1] if found else "noeviction"
        if policy != "noeviction":
            warnings.warn(
                f"Redis may throw keys of the ledger away: its maxmemory-policy is {policy}, "
                f"not noeviction",
                EvictingStoreWarning,
                stacklevel=2,
            )

    def forget(self, timeout_s: float) -> None:
        """Remove what a broken ledger left behind, so that `open` begins a new one."""
        pattern = self._key[:-3].replace(b"\\", b"\\\\")
        for special in (b"*", b"?", b"[", b"]"):
            pattern = pattern.replace(special, b"\\" + special)

        def remove(_seat: RedisSeat) -> None:
            cursor: Any = 0
            while True:
                cursor, found = self._client.execute_command(
                    "SCAN", cursor, "MATCH", pattern + b"*", "COUNT", 1000
                )
                for key in found:
                    self._client.execute_command("UNLINK", key)
                if int(cursor) == 0:
                    return

        self._run(remove, timeout_s)


def _check_client(client: Any) -> None:
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    execute = getattr(client, "execute_command", None)
    if not callable(execute):
        raise TypeError(f"client must be {_WANTED}, not a {kind}")
    if inspect.iscoroutinefunction(execute) or ".asyncio" in type(client).__module__:
        raise TypeError(f"client must be {_WANTED}; an asynchronous one ({kind}) is not")
    if hasattr(client, "command_stack"):
        raise TypeError(f"client must be {_WANTED}; a pipeline ({kind}) does nothing by itself")


def _as_text(answer: Any) -> Any:
    """Return an answer with texts in place of bytes, whatever the client decodes."""
    if isinstance(answer, bytes):
        return answer.decode()
    if isinstance(answer, (list, tuple)):
        return [_as_text(part) for part in answer]
    if isinstance(answer, dict):
        return [_as_text(part) for pair in answer.items() for part in pair]
    return answer


def _is_unknown_script(error: Exception) -> bool:
    text = str(error)
    return "NOSCRIPT" in text or "No matching script" in text


def _is_of_the_line(error: Exception) -> bool:
    """Return whether the connection failed, and not the server's answer."""
    names = {kind.__name__ for kind in type(error).__mro__}
    is_server = {"BusyLoadingError", "AuthenticationError", "ResponseError"} & names
    return isinstance(error, OSError) or (
        not is_server and bool({"ConnectionError", "TimeoutError"} & names)
    )


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, TypeError):
        return error
    text = " ".join(str(error).split())[:500]
    return BudgetStoreError(f"Redis: {type(error).__name__}: {text}")

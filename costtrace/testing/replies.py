"""Which reply a request gets: the first rule that matches, then the queue, then the default."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from costtrace.testing.log import Received
from costtrace.testing.reply import Reply

Match = str | Callable[[Received], bool]
Script = Callable[[Received], Reply | None]


@dataclass(slots=True)
class _Rule:
    match: Match
    reply: Reply | Script
    times: int | None

    def applies(self, received: Received) -> bool:
        if self.times == 0:
            return False
        if isinstance(self.match, str):
            return received.path.endswith(self.match) or fnmatchcase(received.path, self.match)
        return self.match(received)


class Replies:
    """The replies a test has asked for. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget them all."""
        with self._lock:
            self._rules: list[_Rule] = []
            self._queue: deque[Reply] = deque()
            self._script: Script | None = None
            self._default = Reply()

    @property
    def default(self) -> Reply:
        """The reply where nothing else decides."""
        return self._default

    @default.setter
    def default(self, reply: Reply) -> None:
        self._default = _checked(reply)

    def add_rule(self, match: Match, reply: Reply | Script, times: int | None) -> None:
        """Answer matching requests, `times` of them or all, with `reply`."""
        with self._lock:
            self._rules.append(_Rule(match, _checked(reply, or_script=True), times))

    def enqueue(self, *replies: Reply) -> None:
        """Answer the next model calls with these, one each."""
        for reply in replies:
            _checked(reply)
        with self._lock:
            self._queue.extend(replies)

    def set_script(self, script: Script | None) -> None:
        """Ask `script` where no rule and no queued reply decides."""
        with self._lock:
            self._script = script

    @property
    def queued(self) -> int:
        """How many queued replies are left."""
        with self._lock:
            return len(self._queue)

    def choose(self, received: Received, is_model_call: bool) -> Reply:
        """The reply of one request; requests that are no model calls follow only the rules."""
        with self._lock:
            reply = self._from_rules(received)
            if reply is None and not is_model_call:
                return Reply()
            if reply is None and self._queue:
                reply = self._queue.popleft()
            script, default = self._script, self.default
        if callable(reply):
            reply = reply(received)
        if reply is None and script is not None:
            reply = script(received)
        return default if reply is None else reply

    def _from_rules(self, received: Received) -> Reply | Script | None:
        for rule in self._rules:
            if rule.applies(received):
                if rule.times is not None:
                    rule.times -= 1
                return rule.reply
        return None


_Answering = TypeVar("_Answering", bound="Reply | Script")


def _checked(reply: _Answering, *, or_script: bool = False) -> _Answering:
    """Return what a test has asked for; here it is told what would surprise it in an answer."""
    if isinstance(reply, Reply) or (or_script and callable(reply) and not isinstance(reply, type)):
        return reply
    wanted = "a Reply or a function that returns one" if or_script else "a Reply"
    hint = f": write Reply(text={reply!r})" if isinstance(reply, str) else ""
    raise TypeError(f"an answer must be {wanted}, not {type(reply).__name__}{hint}")

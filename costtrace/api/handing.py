"""Handing a scope to another process: a signed header there, a scope that goes on here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from costtrace.instrumentation import flush
from costtrace.scopes import Scope, current, enter, leave
from costtrace.scopes.handoff import LIFETIME, from_headers, to_headers
from costtrace.scopes.scope import ANONYMOUS


def headers(*, secret: str | bytes | None = None, lifetime: timedelta = LIFETIME) -> dict[str, str]:
    """Return the present scope as one header line, for a queue, a worker or another service.

    It names the user, the path of functions and the tags; it is signed with `secret`, or with
    `COSTTRACE_SECRET`, and refused after `lifetime`. Raises `ValueError` without any secret.
    """
    return to_headers(current(), secret, lifetime=lifetime)


@contextmanager
def resume(sent: Mapping[str, str], *, secret: str | bytes | None = None) -> Iterator[None]:
    """Go on in the scope that `headers()` described, in this process.

    Calls inside are those of its user, under its tags and its path, which goes below the path of
    a scope that is open here. Limits are not handed over: open a `budget` inside for those. Where
    no user was named there, it is whoever pays here. Raises `HandoffError` for headers without a
    scope, for one that was altered or has expired, and `ValueError` without any secret.
    """
    handed = from_headers(sent, secret)
    scope: Scope | None = current()
    for name in handed.call_path:
        scope = Scope(scope, function_name=name)
    user_id = None if handed.user_id == ANONYMOUS else handed.user_id
    scope = Scope(scope, user_id=user_id, tags=handed.tags)
    visit = enter(scope)
    try:
        yield
    finally:
        flush(scope)
        leave(visit)

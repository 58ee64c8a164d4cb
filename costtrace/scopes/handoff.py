"""A scope for another process: who pays, in a small signed text that a queue worker opens.

The text can be read by anyone who sees it, and made only by who has the secret: it holds the user,
the path of function names, the tags and a time of expiry, and no prompts or keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from costtrace.exceptions import HandoffError
from costtrace.scopes.scope import Scope

HEADER: Final = "Costtrace-Scope"
SECRET_VARIABLE: Final = "COSTTRACE_SECRET"
LIFETIME: Final = timedelta(hours=1)
LONGEST: Final = 6000  # characters; servers commonly refuse header lines past 8 KB
_VERSION: Final = "ct1"


@dataclass(frozen=True)
class Handoff:
    """What another process needs to go on where this one stands."""

    user_id: str
    call_path: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def encode(scope: Scope | None, secret: str | bytes | None, expires_at: datetime) -> str:
    """The signed text of `scope`, refused from `expires_at` (an aware datetime) on.

    `secret=None` takes the one in the environment variable COSTTRACE_SECRET. Raises ValueError
    without any secret, for a naive `expires_at`, and for a scope too big for a header line.
    """
    scope = scope or Scope()
    facts = {
        "u": scope.user_id,
        "p": scope.call_path,
        "t": dict(scope.tags),
        "e": _timestamp(expires_at, "expires_at"),
    }
    text = json.dumps(facts, separators=(",", ":")).encode()
    signed = f"{_VERSION}.{_to_text(text)}"
    text_and_signature = f"{signed}.{_to_text(_signature(signed, _key(secret)))}"
    if len(text_and_signature) > LONGEST:
        raise ValueError(
            f"the scope of {scope.user_id!r} takes {len(text_and_signature)} characters, and "
            f"headers hold {LONGEST}: shorten its tags or its path of {len(scope.call_path)} names"
        )
    return text_and_signature


def decode(text: str, secret: str | bytes | None, now: datetime) -> Handoff:
    """What `encode()` put into `text`, once the signature and the time are found right.

    Raises HandoffError when the text was altered, has expired by `now` (an aware datetime), was
    signed with another secret, or is none of ours; ValueError without any secret.
    """
    key = _key(secret)
    at = _timestamp(now, "now")
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 3 or parts[0] != _VERSION:
        raise HandoffError(f"this is no scope handed over by costtrace ({_VERSION})")
    signed, _, signature = text.rpartition(".")
    expected = _to_text(_signature(signed, key))
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise HandoffError("the handed-over scope was altered, or signed with another secret")
    facts = _facts(parts[1])
    if at >= facts["e"]:
        ended = datetime.fromtimestamp(facts["e"], timezone.utc)
        raise HandoffError(f"the handed-over scope expired at {ended:%Y-%m-%d %H:%M:%S} UTC")
    return Handoff(facts["u"], tuple(facts["p"]), dict(facts["t"]))


def to_headers(
    scope: Scope | None,
    secret: str | bytes | None = None,
    *,
    now: datetime | None = None,
    lifetime: timedelta = LIFETIME,
) -> dict[str, str]:
    """`scope` as one header line, good for `lifetime`; see `encode()` for what it raises."""
    start = now or datetime.now(timezone.utc)
    return {HEADER: encode(scope, secret, start + lifetime)}


def from_headers(
    headers: Mapping[str, str], secret: str | bytes | None = None, *, now: datetime | None = None
) -> Handoff:
    """What `to_headers()` put in, however the names are spelled now; see `decode()` for errors."""
    if not callable(getattr(headers, "items", None)):
        raise TypeError(f"headers must map names to values, but they are {headers!r}")
    for name, value in headers.items():
        if name.lower() == HEADER.lower():
            return decode(value, secret, now or datetime.now(timezone.utc))
    raise HandoffError(f"no {HEADER} among the headers: was the scope sent along?")


def _key(secret: str | bytes | None) -> bytes:
    found = os.environ.get(SECRET_VARIABLE) if secret is None else secret
    if not found:
        raise ValueError(
            f"handing a scope over needs a secret that both processes know: pass secret=... "
            f"or set {SECRET_VARIABLE}"
        )
    if not isinstance(found, (str, bytes)):
        raise TypeError(f"secret must be str or bytes, not {type(found).__name__}")
    return found.encode() if isinstance(found, str) else found


def _timestamp(moment: datetime, name: str) -> float:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ValueError(f"{name} must be an aware datetime, not {moment!r}")
    return moment.timestamp()


def _signature(signed: str, key: bytes) -> bytes:
    return hmac.new(key, signed.encode("utf-8", "replace"), hashlib.sha256).digest()


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _facts(part: str) -> dict[str, Any]:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        facts: dict[str, Any] = json.loads(data)
        if isinstance(facts["e"], (int, float)) and facts.keys() >= {"u", "p", "t"}:
            return facts
    except (binascii.Error, ValueError, KeyError, TypeError):
        pass
    raise HandoffError("the handed-over scope is signed, but not understood: another version?")

"""A scope travels to another process as a small signed text."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone

import pytest

from costtrace.exceptions import CosttraceError, HandoffError
from costtrace.scopes import Handoff, Scope, decode, encode
from costtrace.scopes.handoff import HEADER, from_headers, to_headers

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SOON = NOW + timedelta(minutes=5)
SECRET = "a secret that both know"


@pytest.fixture(autouse=True)
def no_secret_around(monkeypatch):
    """The environment holds no secret unless a test puts one there."""
    monkeypatch.delenv("COSTTRACE_SECRET", raising=False)


def a_scope():
    """A user in two functions, with a tag."""
    outer = Scope(None, user_id="alïce", function_name="web", tags={"team": "søk"})
    return Scope(outer, function_name="enqueue")


def test_there_and_back():
    """User, path and tags arrive as they were."""
    text = encode(a_scope(), SECRET, SOON)

    assert decode(text, SECRET, NOW) == Handoff("alïce", ("web", "enqueue"), {"team": "søk"})
    assert text.isascii()
    assert not set(text) & set(" \n\r,;=")


def test_without_a_scope():
    """Nobody is handed over as nobody."""
    assert decode(encode(None, SECRET, SOON), SECRET, NOW) == Handoff("anon")


def test_bytes_and_text_are_one_secret():
    """A secret may be text or bytes."""
    assert decode(encode(a_scope(), SECRET, SOON), SECRET.encode(), NOW).user_id == "alïce"


def test_secret_from_the_environment(monkeypatch):
    """Without an argument the environment's secret is used."""
    monkeypatch.setenv("COSTTRACE_SECRET", SECRET)

    assert decode(encode(a_scope(), None, SOON), SECRET, NOW).user_id == "alïce"
    assert from_headers(to_headers(a_scope())).user_id == "alïce"


@pytest.mark.parametrize("secret", [None, "", b""])
def test_no_secret(secret):
    """Without a secret nothing is signed and nothing believed."""
    with pytest.raises(ValueError, match="COSTTRACE_SECRET"):
        encode(a_scope(), secret, SOON)
    with pytest.raises(ValueError, match="COSTTRACE_SECRET"):
        decode("ct1.x.y", secret, NOW)


def test_secret_of_a_wrong_type():
    """A secret that is no text is named as what it is."""
    with pytest.raises(TypeError, match="not int"):
        encode(a_scope(), 3, SOON)


def test_every_altered_character_is_refused():
    """Whatever is changed, the text is worth nothing."""
    text = encode(a_scope(), SECRET, SOON)
    for place in range(len(text)):
        altered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(HandoffError):
            decode(altered, SECRET, NOW)


def test_another_user_in_a_signed_text():
    """A payload of one's own under a foreign signature is refused."""
    version, _, signature = encode(a_scope(), SECRET, SOON).split(".")
    forged = {"u": "mallory", "p": [], "t": {}, "e": SOON.timestamp()}
    payload = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")

    with pytest.raises(HandoffError, match="altered"):
        decode(f"{version}.{payload}.{signature}", SECRET, NOW)


def test_another_secret():
    """Who has another secret can neither make nor open it."""
    with pytest.raises(HandoffError, match="another secret"):
        decode(encode(a_scope(), SECRET, SOON), "other", NOW)


def test_expired():
    """From its expiry on the text is refused, and says when that was."""
    text = encode(a_scope(), SECRET, SOON)

    assert decode(text, SECRET, SOON - timedelta(microseconds=1)).user_id == "alïce"
    with pytest.raises(HandoffError, match="expired at 2026-03-01 12:05:00 UTC"):
        decode(text, SECRET, SOON)


@pytest.mark.parametrize("text", ["", "x", "ct1", "ct1.a", "ct9.a.b", "ct1.a.b.c", "ct1..", 3])
def test_text_of_another_kind(text):
    """Something else is refused, whatever it is."""
    with pytest.raises(HandoffError):
        decode(text, SECRET, NOW)


@pytest.mark.parametrize("payload", [b"[]", b"{}", b"no json", b'{"e": "x", "u": 1}', b"\xff"])
def test_signed_but_not_understood(payload):
    """A text that is signed, but by another version, is refused with that reason."""
    from costtrace.scopes import handoff

    signed = "ct1." + base64.urlsafe_b64encode(payload).decode().rstrip("=")
    signature = handoff._to_text(handoff._signature(signed, SECRET.encode()))
    with pytest.raises(HandoffError, match="not understood"):
        decode(f"{signed}.{signature}", SECRET, NOW)


def test_naive_times_are_refused():
    """A time without a zone means another moment elsewhere."""
    with pytest.raises(ValueError, match="expires_at must be an aware datetime"):
        encode(a_scope(), SECRET, datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="now must be an aware datetime"):
        decode(encode(a_scope(), SECRET, SOON), SECRET, datetime(2026, 1, 1))


def test_too_big_for_a_header():
    """A scope that no header line holds is refused where it is made."""
    with pytest.raises(ValueError, match="shorten its tags"):
        encode(Scope(None, tags={"note": "x" * 6000}), SECRET, SOON)


def test_headers():
    """One header line, found again however its name is spelled."""
    headers = to_headers(a_scope(), SECRET, now=NOW, lifetime=timedelta(minutes=1))

    assert list(headers) == [HEADER]
    sent = {"Host": "x", **{name.upper(): text for name, text in headers.items()}}
    assert from_headers(sent, SECRET, now=NOW).call_path == ("web", "enqueue")
    with pytest.raises(HandoffError, match="expired"):
        from_headers(sent, SECRET, now=SOON)
    with pytest.raises(HandoffError, match="sent along"):
        from_headers({}, SECRET, now=NOW)


def test_headers_that_are_none():
    """The text alone, without its name, is no header."""
    with pytest.raises(TypeError, match="must map names to values"):
        from_headers("ct1.a.b", SECRET)


def test_errors_are_both_ours_and_value_errors():
    """Who catches ValueError, or everything of costtrace, catches a refusal."""
    assert issubclass(HandoffError, CosttraceError)
    assert issubclass(HandoffError, ValueError)

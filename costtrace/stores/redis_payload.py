"""What the scripts in Redis are told, and what their rows mean; see `redis_words`.

A row is texts with bars between: time, minute, day, label, payers, picodollars (nothing: no price
is known), tokens sent, tokens generated, calls (0 or 1), whether it lapsed, the attempt that
reserved it, and all the rest as a JSON list that only Python reads.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from costtrace.entry import CostEntry
from costtrace.stores.base import Hold, Limit, Span, Watch
from costtrace.stores.payloads import (
    digest_of,
    finite,
    lapsed_label,
    names,
    owner_digest,
    sound_label,
)
from costtrace.stores.rows import (
    CEILING,
    DAY_US,
    MINUTE_US,
    Charge,
    Facts,
    Label,
    build_entry,
    check_text,
    common_counts,
    label_digest,
    label_from_row,
    lease_us,
    payers_digest,
    usage_of,
    usage_rest,
)

AT, MINUTE, DAY, LABEL, PAYERS, PICO, SENT, GENERATED, CALLS, LAPSED = range(10)
_FIELDS_BEFORE_REST = 11


def reserve_payload(hold: Hold, facts: Facts, attempt: str) -> dict[str, Any]:
    """Return what `reserve` is told."""
    return {
        **_call_payload(facts, hold.owners, attempt),
        "label": label_payload(lapsed_label(facts.label, hold.entry)),
        "limits": [
            {**span_payload(limit.span), "owner": owner_payload(limit.owner), "most": _most(limit)}
            for limit in hold.limits
        ],
        "lease": str(lease_us(hold.lease_s)),
        "process": digest_of(check_text(hold.process, "process")),
    }


def settle_payload(
    facts: Facts, owners: tuple[str, ...], watches: dict[str, Watch], amend: bool
) -> dict[str, Any]:
    """Return what `settle` is told; the watches by the digests of their keys."""
    return {
        **_call_payload(facts, owners, ""),
        "label": label_payload(facts.label),
        "watches": [
            {
                **span_payload(watch.span),
                "owner": owner_payload(watch.owner),
                "threshold": str(watch.threshold_pico),
                "digest": digest,
                "json": watch_json(watch),
            }
            for digest, watch in watches.items()
        ],
        "amend": amend,
        "is_assumed": facts.entry.grade == "assumed",
    }


def span_payload(span: Span) -> dict[str, Any]:
    """Return a span, and the minutes that it touches."""
    stop = CEILING if span.is_rolling else span.end_us
    first, end = span.start_us // MINUTE_US, -(-stop // MINUTE_US)
    return {
        "start": str(span.start_us),
        "stop": str(stop),
        "rolling": span.is_rolling,
        "first_minute": str(first),
        "end_minute": str(end),
        "from_edge": str(first * MINUTE_US),
        "to_edge": str(end * MINUTE_US),
    }


@lru_cache(maxsize=4096)
def owner_payload(owner: str) -> tuple[str, str]:
    """Return what an owner is found by, and its name."""
    return owner_digest(owner), json.dumps(owner)


@lru_cache(maxsize=4096)
def label_payload(fields: tuple[object, ...]) -> tuple[str, str]:
    """Return what a label is found by, and what it says."""
    label = sound_label(fields)
    return label_digest(tuple(label)).hex(), label_json(label)


def label_json(label: Label) -> str:
    """Return a label as text."""
    return json.dumps([*label[:-2], json.dumps(label.call_path), json.dumps(label.tags)])


def label_of_json(text: str) -> Label:
    """Return the label that was written."""
    return label_from_row(tuple(json.loads(text)))


def watch_json(watch: Watch) -> str:
    """Return a watch as text."""
    span = watch.span
    return json.dumps(
        [
            watch.owner,
            span.start_us,
            span.end_us,
            span.is_rolling,
            str(watch.threshold_pico),
            watch.key,
        ]
    )


def watch_of_json(text: str) -> Watch:
    """Return the watch that was written."""
    owner, start_us, end_us, is_rolling, threshold, key = json.loads(text)
    return Watch(owner, Span(start_us, end_us, is_rolling), int(threshold), key)


def row_of(packed: str) -> list[str]:
    """Return a row's texts."""
    return packed.split("|", _FIELDS_BEFORE_REST)


def entry_of(row: list[str], label: Label) -> CostEntry:
    """Return the entry of a row."""
    call_id, cached, written, reasoning, rest, reserved, duration, attempts, *texts = json.loads(
        row[_FIELDS_BEFORE_REST]
    )
    response_id, gateway, adjusts = texts
    return build_entry(
        label,
        call_id=call_id,
        timestamp_us=int(row[AT]),
        cost_pico=int(row[PICO]) if row[PICO] else None,
        usage=usage_of((int(row[SENT]), int(row[GENERATED]), cached, written, reasoning), rest),
        reserved_pico=reserved,
        duration_s=duration,
        attempts=attempts,
        response_id=response_id,
        gateway_cost_usd=None if gateway is None else Decimal(gateway),
        adjusts=adjusts,
    )


def response_id_of(row: list[str]) -> str | None:
    """Return the id of the answer in a row."""
    found: str | None = json.loads(row[_FIELDS_BEFORE_REST])[8]
    return found


def charge_of(row: list[str]) -> Charge:
    """Return what a row takes from each of its owners."""
    return int(row[PICO] or 0), int(row[SENT]) + int(row[GENERATED]), int(row[CALLS])


def counts_of(row: list[str]) -> tuple[int, ...]:
    """Return what a row adds to the total of its group."""
    calls = int(row[CALLS])
    unpriced = calls if not row[PICO] else 0
    return (1, calls, int(row[SENT]), int(row[GENERATED]), int(row[PICO] or 0), unpriced)


def _call_payload(facts: Facts, owners: tuple[str, ...], attempt: str) -> dict[str, Any]:
    owners = names(owners)
    return {
        "id": check_text(facts.entry.call_id, "call_id"),
        "row": _row(facts, attempt),
        "payers": payers_digest(owners).hex(),
        "owners": [owner_payload(owner) for owner in owners],
    }


def _row(facts: Facts, attempt: str) -> str:
    entry, at = facts.entry, facts.timestamp_us
    sent, generated, cached, written, reasoning = common_counts(entry.usage)
    gateway = entry.gateway_cost_usd
    rest = [
        entry.call_id,
        cached,
        written,
        reasoning,
        usage_rest(entry.usage) or None,
        facts.reserved_pico,
        finite(entry.duration_s),
        entry.attempts,
        None if entry.response_id is None else check_text(entry.response_id, "response_id"),
        None if gateway is None else str(gateway),
        None if entry.adjusts is None else check_text(entry.adjusts, "adjusts"),
    ]
    pico = "" if facts.pico is None else facts.pico
    calls = 1 if entry.adjusts is None else 0
    numbers = (at, at // MINUTE_US, at // DAY_US, "", "", pico, sent, generated, calls, 0, attempt)
    return "|".join(map(str, numbers)) + "|" + json.dumps(rest)


def _most(limit: Limit) -> list[str]:
    return ["" if most is None else str(most) for most in (limit.pico, limit.tokens, limit.calls)]

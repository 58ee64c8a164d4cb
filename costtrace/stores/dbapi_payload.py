"""What the functions in PostgreSQL are told, see `postgres_functions`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from costtrace.stores.base import Hold, Limit, Watch
from costtrace.stores.calls import CALL_COLUMNS, call_values
from costtrace.stores.dbapi_driver import escaped
from costtrace.stores.dbapi_link import number_of
from costtrace.stores.payloads import finite, lapsed_label, names, owner_digest, sound_label
from costtrace.stores.rows import (
    Facts,
    check_text,
    label_digest,
    lease_us,
    payers_digest,
)

_OWN_IDS = ("label_id", "payers_id")  # which PostgreSQL gives itself


def reserve_payload(hold: Hold, facts: Facts, attempt: str) -> dict[str, Any]:
    """Return what `reserve` is told."""
    limits = hold.limits
    return {
        **_call_payload(facts, hold.owners),
        "label": label_payload(lapsed_label(facts.label, hold.entry)),
        "limits": [_limit_payload(limit) for limit in limits],
        "limit_owners": _owner_pairs(tuple(limit.owner for limit in limits)),
        "lease_us": lease_us(hold.lease_s),
        "process": escaped(check_text(hold.process, "process")),
        "attempt": attempt,
        "has_lapsed": False,
    }


def settle_payload(
    facts: Facts, owners: tuple[str, ...], watches: Mapping[str, Watch], amend: bool
) -> dict[str, Any]:
    """Return what `settle` is told; the watches by the digests of their keys."""
    return {
        **_call_payload(facts, owners),
        "label": label_payload(facts.label),
        "watches": [
            [
                owner_digest(watch.owner),
                escaped(watch.owner),
                watch.span.start_us,
                watch.span.end_us,
                watch.span.is_rolling,
                watch.threshold_pico,
                digest,
                escaped(watch.key),
            ]
            for digest, watch in watches.items()
        ],
        "watch_owners": _owner_pairs(tuple(watch.owner for watch in watches.values())),
        "amend": amend,
    }


def release_payload(call_id: str) -> dict[str, Any]:
    """Return what `release` is told."""
    call_id = escaped(check_text(call_id, "call_id"))
    return {"call_id": call_id, "call_lock": number_of(call_id)}


def renew_payload(process: str, lease_us: int) -> dict[str, Any]:
    """Return what `renew` is told."""
    return {"process": escaped(check_text(process, "process")), "lease_us": lease_us}


def _call_payload(facts: Facts, owners: tuple[str, ...]) -> dict[str, Any]:
    owners = names(owners)
    call = dict(zip(CALL_COLUMNS, call_values(facts, facts.timestamp_us, 0, 0), strict=True))
    for name in _OWN_IDS:
        del call[name]
    for name in ("call_id", "response_id", "adjusts"):
        if call[name] is not None:
            call[name] = escaped(call[name])
    call["duration_s"] = finite(call["duration_s"])
    return {
        "call": call,
        "call_lock": number_of(call["call_id"]),
        "payers": payers_digest(owners).hex(),
        "owners": _owner_pairs(owners),
    }


def _limit_payload(limit: Limit) -> list[Any]:
    span = limit.span
    return [
        owner_digest(limit.owner),
        escaped(limit.owner),
        span.start_us,
        span.end_us,
        span.is_rolling,
        limit.pico,
        limit.tokens,
        limit.calls,
    ]


def _owner_pairs(owners: tuple[str, ...]) -> list[list[str]]:
    return [[owner_digest(owner), escaped(owner)] for owner in dict.fromkeys(owners)]


@lru_cache(maxsize=4096)
def label_payload(fields: tuple[object, ...]) -> dict[str, Any]:
    """Return what a label is found by, and what it says."""
    label = sound_label(fields)
    payload = {
        name: escaped(value) if isinstance(value, str) else value
        for name, value in label._asdict().items()
    }
    payload["call_path"] = json.dumps(label.call_path)
    payload["tags"] = json.dumps(label.tags)
    payload["digest"] = label_digest(tuple(label)).hex()
    return payload

"""A whole ledger as JSON lines: what the stores hand over when it moves, one line each.

An entry's line says all of it, who was charged, and whether nobody settled it. Lines with a `kind`
are the rest: `ledger` (the first: whose they are), `budget`, `hold`, `alert`, `gone` (sums of
pruned entries), and last `end`, without which a file was cut off. Version 1 had entries alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from costtrace.accounting.entry_lines import entry_facts, entry_from_facts
from costtrace.entry import CostEntry
from costtrace.stores.base import LEDGER, BudgetRecord, Crossing, Hold, Span, Watch, user_owner
from costtrace.stores.moving import (
    Charged,
    GoneCharge,
    GonePart,
    GoneTotal,
    Latched,
    Origin,
    Record,
)
from costtrace.stores.rows import Label, checked_label, facts_of

VERSION = 2
VERSIONS = (1, 2)
END = "end"
Facts: TypeAlias = dict[str, Any]


def line_of(record: Record) -> str:
    """Return a record as one line of JSON, without the newline."""
    return _text({"v": VERSION, **_facts(record)})


def end_line(lines: int) -> str:
    """Return the last line of a whole ledger: how many come before it."""
    return _text({"v": VERSION, "kind": END, "lines": lines})


def record_of(line: str) -> Record | int:
    """Return the record of a line, or the number in an `end`; raises `ValueError`, `TypeError`."""
    try:
        facts = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg}") from error
    if not isinstance(facts, dict):
        raise TypeError(f"an entry is a JSON object, not {type(facts).__name__}")
    if (version := facts.pop("v", None)) not in VERSIONS:
        newer = isinstance(version, int) and version > VERSION
        raise ValueError(
            "written by a newer costtrace: install that version"
            if newer
            else f'no entry as `costtrace export` writes it: it begins with {{"v":{VERSION}'
        )
    kind = facts.pop("kind", None)
    if kind is None:
        return _charged(facts)
    if kind not in _READERS:
        raise ValueError(f"unknown kind {kind!r}: it may come from another version of costtrace")
    try:
        return _READERS[kind](facts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no {kind} as `costtrace export` writes it: {error!r}") from error


def _text(facts: Facts) -> str:
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


# -- out -----------------------------------------------------------------------------------------


def _facts(record: Record) -> Facts:
    if isinstance(record, Charged):
        lapsed = {"is_lapsed": True} if record.is_lapsed else {}
        return {**entry_facts(record.entry), "owners": list(record.owners), **lapsed}
    if isinstance(record, Hold):
        return {
            "kind": "hold",
            "lease_s": record.lease_s,
            "process": record.process,
            "owners": list(record.owners),
            "entry": entry_facts(record.entry),
        }
    if isinstance(record, BudgetRecord):
        limit = None if record.limit_pico is None else str(record.limit_pico)
        return {
            "kind": "budget",
            "user_id": record.user_id,
            "window": record.window,
            "tz": record.tz,
            "limit_pico": limit,
            "alert_at": list(record.alert_at),
        }
    if isinstance(record, Latched):
        return _alert_facts(record)
    return _origin_facts(record) if isinstance(record, Origin) else _gone_facts(record)


def _alert_facts(alert: Latched) -> Facts:
    watch = alert.crossing.watch
    return {
        "kind": "alert",
        "key": watch.key,
        "owner": watch.owner,
        "span": [watch.span.start_us, watch.span.end_us, watch.span.is_rolling],
        "threshold_pico": str(watch.threshold_pico),
        "spent_pico": str(alert.crossing.spent_pico),
        "is_delivered": alert.is_delivered,
    }


def _origin_facts(origin: Origin) -> Facts:
    return {
        "kind": "ledger",
        "ledger_id": origin.ledger_id,
        "pruned_before_us": origin.pruned_before_us,
        "gone_entries": origin.gone_entries,
        "gone_parts": origin.gone_parts,
        "taken": dict(origin.taken),
    }


def _gone_facts(part: GonePart) -> Facts:
    return {
        "kind": "gone",
        "number": part.number,
        "totals": [[t.day, list(t.label), list(t.counts)] for t in part.totals],
        "charges": [[c.owner, c.minute, list(c.charge)] for c in part.charges],
    }


# -- in ------------------------------------------------------------------------------------------


def _entry(facts: Facts) -> CostEntry:
    """Return the entry; raises for what no store would take, before any of a file comes in."""
    entry = entry_from_facts(facts)
    checked_label(facts_of(entry).label)
    return entry


def _charged(facts: Facts) -> Charged:
    owners, is_lapsed = facts.pop("owners", None), facts.pop("is_lapsed", False)
    entry = _entry(facts)
    if owners is None:
        return Charged(entry, (LEDGER, user_owner(entry.user_id)))
    return Charged(entry, _texts("owners", owners), _bool("is_lapsed", is_lapsed))


def _hold(facts: Facts) -> Hold:
    return Hold(
        _entry(facts["entry"]),
        _texts("owners", facts["owners"]),
        lease_s=float(facts["lease_s"]),
        process=_text_of("process", facts["process"]),
    )


def _budget(facts: Facts) -> BudgetRecord:
    limit = facts["limit_pico"]
    return BudgetRecord(
        facts["user_id"],
        facts["window"],
        facts["tz"],
        None if limit is None else int(limit),
        tuple(map(float, facts["alert_at"])),
    )


def _alert(facts: Facts) -> Latched:
    start_us, end_us, is_rolling = facts["span"]
    watch = Watch(
        _text_of("owner", facts["owner"]),
        Span(int(start_us), int(end_us), _bool("is_rolling", is_rolling)),
        int(facts["threshold_pico"]),
        _text_of("key", facts["key"]),
    )
    crossing = Crossing(watch, int(facts["spent_pico"]))
    return Latched(crossing, _bool("is_delivered", facts["is_delivered"]))


def _origin(facts: Facts) -> Origin:
    pruned_us = facts["pruned_before_us"]
    return Origin(
        _text_of("ledger_id", facts["ledger_id"]),
        None if pruned_us is None else int(pruned_us),
        int(facts["gone_entries"]),
        int(facts["gone_parts"]),
        dict(facts["taken"]),
    )


def _gone(facts: Facts) -> GonePart:
    totals = [
        GoneTotal(int(day), _label(*label), tuple(map(int, counts)))
        for day, label, counts in facts["totals"]
    ]
    charges = [
        GoneCharge(_text_of("owner", owner), int(minute), (int(pico), int(tokens), int(calls)))
        for owner, minute, (pico, tokens, calls) in facts["charges"]
    ]
    return GonePart(int(facts["number"]), tuple(totals), tuple(charges))


def _label(*fields: Any) -> Label:
    *plain, call_path, tags = fields
    return Label._make((*plain, tuple(call_path), tuple((tag, value) for tag, value in tags)))


def _end(facts: Facts) -> int:
    return int(facts["lines"])


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list of texts, not {value!r}")
    return tuple(_text_of(name, each) for each in value)


def _text_of(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}")
    return value


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value


_READERS: dict[str, Callable[[Facts], Record | int]] = {
    "ledger": _origin,
    "budget": _budget,
    "hold": _hold,
    "alert": _alert,
    "gone": _gone,
    END: _end,
}

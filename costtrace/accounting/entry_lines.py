"""Entries as JSON: all their fields, so that an entry stands for itself.

Money is text, time is ISO 8601 in UTC, an unknown cost is null; fields that have their default
are left out. A field that a reader does not know is an error, so that nothing gets lost unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

from costtrace.accounting.terms import checked_count, checked_seconds, checked_switch, one_of
from costtrace.entry import CostEntry, Grade, Status
from costtrace.money import exact_text
from costtrace.usage import Usage

_MONEY = ("cost_usd", "reserved_usd", "gateway_cost_usd")
_FIELDS = {field.name: field for field in fields(CostEntry)}
_DEFAULTS = {
    name: field.default_factory() if field.default_factory is not MISSING else field.default
    for name, field in _FIELDS.items()
}
_NEEDED = tuple(name for name, default in _DEFAULTS.items() if default is MISSING)
_USAGE = tuple(field.name for field in fields(Usage))
_NAMES = ("model", "function_name", "user_id", "call_id")
_TEXTS = ("provider", "operation", "request_model", "service_tier", "region")
_TEXTS_OR_NONE = ("response_id", "price_id", "adjusts")


def entry_facts(entry: CostEntry) -> dict[str, Any]:
    """Return an entry's fields as JSON has them."""
    return {
        name: _written(name, value)
        for name, default in _DEFAULTS.items()
        if (value := getattr(entry, name)) != default
    }


def entry_from_facts(facts: dict[str, Any]) -> CostEntry:
    """Return the entry of these fields; raises `ValueError` or `TypeError` for what is wrong."""
    unknown = sorted(facts.keys() - _FIELDS.keys())
    missing = [name for name in _NEEDED if name not in facts]
    if unknown or missing:
        problem = f"unknown field {unknown[0]!r}" if unknown else f"no field {missing[0]!r}"
        raise ValueError(f"{problem}: it may come from another version of costtrace")
    return CostEntry(**{name: _READERS[name](name, value) for name, value in facts.items()})


def _written(name: str, value: Any) -> Any:
    if name in _MONEY:
        return None if value is None else exact_text(value)
    if name == "timestamp":
        return value.astimezone(timezone.utc).isoformat()
    if name == "usage":
        return {each: count for each in _USAGE if (count := getattr(value, each))}
    if name == "tags":
        return dict(value)
    return list(value) if name == "call_path" else value


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, not {value!r}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {value!r}")
    return value


def _text_or_none(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _one_of(name: str, value: Any) -> Any:
    one_of(name, value, _CHOICES[name])
    return value


def _duration(name: str, value: Any) -> float | None:
    return None if value is None else checked_seconds(name, value)


def _amount(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text such as '0.0021', not {value!r}")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{name} is no amount: {value!r}") from None


def _instant(name: str, value: Any) -> datetime:
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an ISO 8601 time, not {value!r}") from None
    if read.tzinfo is None:
        raise ValueError(f"{name} must have a zone, but is {value!r}")
    return read


def _usage(name: str, value: Any) -> Usage:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be an object, not {value!r}")
    if unknown := sorted(value.keys() - set(_USAGE)):
        raise ValueError(f"{name} has an unknown count {unknown[0]!r}")
    return Usage(**value)


def _tags(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise TypeError(f"{name} must be an object of texts, not {value!r}")
    return value


def _path(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} must be a list of texts, not {value!r}")
    return tuple(value)


_CHOICES = {"status": get_args(Status), "grade": get_args(Grade)}
_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_NAMES, _name),
    **dict.fromkeys(_TEXTS, _text),
    **dict.fromkeys(_TEXTS_OR_NONE, _text_or_none),
    **dict.fromkeys(_MONEY, _amount),
    **dict.fromkeys(_CHOICES, _one_of),
    "streamed": checked_switch,
    "attempts": checked_count,
    "duration_s": _duration,
    "timestamp": _instant,
    "usage": _usage,
    "tags": _tags,
    "call_path": _path,
}

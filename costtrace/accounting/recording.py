"""Entries made by hand: checked, priced as of their time, and numbered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from costtrace.accounting.terms import (
    checked_count,
    checked_id,
    checked_seconds,
    checked_switch,
    checked_tags,
    one_of,
)
from costtrace.entry import CostEntry
from costtrace.instant import to_us
from costtrace.money import Money, to_pico, to_usd
from costtrace.pricing import Price, PriceTable, cost
from costtrace.usage import Usage

_GIVEN = {"model", "function_name", "user_id", "gateway_cost_usd"}
_DETAILS = tuple(field.name for field in fields(CostEntry) if field.name not in _GIVEN)
_DETAIL_NAMES = frozenset(_DETAILS)


def new_call_id() -> str:
    """Return an id that no other call has; ids of later calls sort later, to the millisecond."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def recorded_entry(
    prices: PriceTable,
    now: Callable[[], datetime],
    model: str,
    function_name: str,
    user_id: str,
    prompt_tokens: int,
    completion_tokens: int,
    details: dict[str, Any],
) -> CostEntry:
    """Return the entry of a call that was made elsewhere.

    Raises `TypeError` or `ValueError` for what is wrong with it, before anything is entered.
    """
    if details:
        details = _checked(details)
    usage = _usage(prompt_tokens, completion_tokens, details.pop("usage", None))
    timestamp = details.pop("timestamp", None)
    if timestamp is None:
        timestamp = now()
    else:
        to_us(timestamp, "timestamp")
    model = checked_id("model", model)
    known = details.pop("cost_usd", None)
    details.setdefault("request_model", model)
    details.setdefault("call_path", (function_name,))
    if known is not None:
        details["cost_usd"] = to_usd(to_pico(known, "cost_usd"))
    else:
        details.update(_price_facts(prices, model, usage, timestamp, details))
    return CostEntry(
        model=model,
        function_name=function_name,
        user_id=user_id,
        usage=usage,
        timestamp=timestamp,
        call_id=details.pop("call_id", None) or new_call_id(),
        **details,
    )


def _price_facts(
    prices: PriceTable, model: str, usage: Usage, at: datetime, details: dict[str, Any]
) -> dict[str, Any]:
    """Return what the price of a call says of it, before there is an entry: cost and grade."""
    price = prices.price(
        model,
        at,
        provider=details.get("provider") or None,
        tier=details.get("service_tier", "standard"),
        input_tokens=usage.input_tokens,
        region=details.get("region", ""),
        operation=details.get("operation", ""),
    )
    amount = cost(usage, price)
    if amount is None or price is None:
        return {"cost_usd": None, "grade": "unpriced", "price_id": None}
    return {"cost_usd": to_usd(amount), "price_id": price.id}


def priced(prices: PriceTable, entry: CostEntry) -> CostEntry:
    """Return the entry with the cost of its usage, at the price of its time."""
    price = price_of(prices, entry)
    amount = cost(entry.usage, price)
    if amount is None or price is None:
        return replace(entry, cost_usd=None, grade="unpriced", price_id=None)
    return replace(entry, cost_usd=to_usd(amount), price_id=price.id)


def price_of(prices: PriceTable, entry: CostEntry) -> Price | None:
    """Return the price that applies to an entry."""
    return prices.price(
        entry.model,
        entry.timestamp,
        provider=entry.provider or None,
        tier=entry.service_tier,
        input_tokens=entry.usage.input_tokens,
        region=entry.region,
        operation=entry.operation,
    )


def resolved_entry(entry: CostEntry, amount: Decimal) -> CostEntry:
    """Return a provisional entry at what it did cost."""
    return replace(entry, cost_usd=amount, grade="reported", status="ok")


def _checked(details: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, each detail checked: a store that cannot keep one would wait for it.

    None is as good as nothing.
    """
    unknown = details.keys() - _DETAIL_NAMES
    if unknown:
        raise TypeError(
            f"record() has no detail {', '.join(sorted(unknown))}: there are {', '.join(_DETAILS)}"
        )
    known = {name: value for name, value in details.items() if value is not None}
    checked = {name: _CHECKS.get(name, _as_it_is)(name, value) for name, value in known.items()}
    if checked.get("service_tier") in ("default", "auto"):
        del checked["service_tier"]
    return checked


def _as_it_is(_: str, value: object) -> object:
    return value  # checked where it is used


def _text(name: str, value: object) -> str:
    return "" if value == "" else checked_id(name, value)


def _status(name: str, value: object) -> object:
    one_of(name, value, ("ok", "error", "partial", "raised"))
    return value


def _grade(name: str, value: object) -> object:
    one_of(name, value, ("reported", "estimated", "assumed", "unpriced"))
    return value


def _path(name: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{name} must be several names, from the outside in, not {names!r}")
    return tuple(checked_id(name, one) for one in names)


def _tags(_: str, tags: object) -> dict[str, str]:
    return checked_tags(tags)


def _usd(name: str, amount: Money) -> Decimal:
    return to_usd(to_pico(amount, name))


def _usage(prompt_tokens: int, completion_tokens: int, usage: Usage | None) -> Usage:
    plain = Usage(
        input_tokens=checked_count("prompt_tokens", prompt_tokens),
        output_tokens=checked_count("completion_tokens", completion_tokens),
    )
    if usage is None:
        return plain
    if not isinstance(usage, Usage):
        raise TypeError(f"usage must be a costtrace.Usage, not {type(usage).__name__}")
    if (usage.input_tokens, usage.output_tokens) != (plain.input_tokens, plain.output_tokens):
        raise ValueError(
            f"prompt_tokens and completion_tokens ({prompt_tokens}, {completion_tokens}) must be "
            f"the input and output tokens of usage ({usage.input_tokens}, {usage.output_tokens})"
        )
    return usage


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "adjusts": checked_id,
    "attempts": checked_count,
    "call_id": checked_id,
    "call_path": _path,
    "duration_s": checked_seconds,
    "grade": _grade,
    "operation": _text,
    "price_id": _text,
    "provider": _text,
    "region": _text,
    "request_model": _text,
    "reserved_usd": _usd,
    "response_id": _text,
    "service_tier": checked_id,
    "status": _status,
    "streamed": checked_switch,
    "tags": _tags,
}


def unpriced_part(prices: PriceTable, entry: CostEntry) -> str:
    """Return, for a reader, what of an entry without a cost has no price: the model, or its tier.

    A model that has a price is named with the tier and the operation that it has none for.
    """
    if prices.resolve(entry.model) is None:
        return repr(entry.model)
    of = f" for {entry.operation}" if entry.operation else ""
    return f"{entry.model!r} in the tier {entry.service_tier!r}{of}"

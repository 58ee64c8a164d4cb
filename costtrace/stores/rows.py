"""An entry taken apart into what stores keep, and put together again.

Most of an entry's fields take few values: they form its *label*, kept once and referred to by a
number. What is left is numbers and the two ids. Money is whole picodollars, time is microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from operator import attrgetter
from typing import Literal, NamedTuple, TypeAlias, cast

from costtrace.entry import CostEntry, Grade, Status
from costtrace.exceptions import BudgetStoreError, CallConflictError
from costtrace.money import Picodollars, to_usd
from costtrace.stores.base import Balance, Limit, Refusal
from costtrace.usage import Usage

CEILING = 2**62
"""No single amount may pass this: 4.6 million US dollars, and all stores add in 64 bits."""
_MOST_ATTEMPTS = 2**31
_LONGEST_LEASE_S = 366 * 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
_MICROSECOND = timedelta(microseconds=1)
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])

Charge: TypeAlias = tuple[int, int, int]
"""Picodollars, tokens, calls."""
NOTHING: Charge = (0, 0, 0)
UNITS: tuple[Literal["usd", "tokens", "calls"], ...] = ("usd", "tokens", "calls")


class Label(NamedTuple):
    """What many entries have in common."""

    function_name: str
    user_id: str
    model: str
    provider: str
    operation: str
    request_model: str
    service_tier: str
    region: str
    status: Status
    grade: Grade
    price_id: str | None
    streamed: bool
    call_path: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]


_plain_label = attrgetter(*Label._fields[:-1])
_NO_TAGS: tuple[tuple[()]] = ((),)
USAGE_NAMES = tuple(field.name for field in fields(Usage))
USAGE_COMMON = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
USAGE_RARE = tuple(name for name in USAGE_NAMES if name not in USAGE_COMMON)
common_counts = attrgetter(*USAGE_COMMON)
rare_counts = attrgetter(*USAGE_RARE)
NO_RARE_COUNTS = (0,) * len(USAGE_RARE)


def label_of(entry: CostEntry) -> tuple[object, ...]:
    """Return the fields of the entry's `Label`, as a plain tuple that equals and hashes like it."""
    tags = entry.tags
    plain: tuple[object, ...] = _plain_label(entry)
    return plain + ((tuple(sorted(tags.items())),) if tags else _NO_TAGS)


def checked_label(fields_: tuple[object, ...]) -> Label:
    """Return the label; raises `TypeError` or `ValueError` for what is no storable text."""
    label = Label._make(fields_)
    for name, value in zip(Label._fields[:10], label, strict=False):
        check_text(value, name)
    if label.price_id is not None:
        check_text(label.price_id, "price_id")
    for name in label.call_path:
        check_text(name, "call_path")
    for tag, value in label.tags:
        check_text(tag, "a tag's name")
        check_text(value, f"tag {tag!r}")
    return label


def check_text(value: object, name: str) -> str:
    """Return the text; raises `TypeError` for other things, `ValueError` for half a character."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__} {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} holds half a surrogate pair, which UTF-8 cannot write: {value[:80]!r}"
        ) from None
    return value


@lru_cache(maxsize=4096)
def label_digest(label: tuple[object, ...]) -> bytes:
    """Return what a label is found by in a database."""
    return _digest(label)


@lru_cache(maxsize=4096)
def payers_digest(owners: tuple[str, ...]) -> bytes:
    """Return what a set of owners is found by in a database."""
    return _digest(sorted(owners))


def _digest(parts: object) -> bytes:
    from hashlib import blake2b  # here: it loads OpenSSL, which a store in memory does without

    return blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def to_us(moment: datetime, name: str = "timestamp") -> int:
    """Return microseconds since the epoch; raises `ValueError` for a time without a zone."""
    try:
        return (moment - EPOCH) // _MICROSECOND
    except TypeError:
        raise ValueError(f"{name} must be an aware datetime, not {moment!r}") from None


def from_us(microseconds: int) -> datetime:
    """Return the instant as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=microseconds)


def exact_pico(amount: Decimal | None, name: str = "cost_usd") -> Picodollars | None:
    """Return US dollars as whole picodollars, or raise `ValueError` or `TypeError`."""
    if amount is None:
        return None
    try:
        pico = int(scaled := amount.scaleb(12, _EXACT))
    except AttributeError:
        raise TypeError(f"{name} must be a Decimal, not {type(amount).__name__}") from None
    except (DecimalException, OverflowError, ValueError):
        raise ValueError(f"{name} must be exact US dollars, not {amount!r}") from None
    if pico != scaled:
        raise ValueError(f"{name} of {amount!r} is finer than a picodollar (12 decimals)")
    if not -CEILING <= pico <= CEILING:
        raise ValueError(f"{name} of {amount!r} US dollars is above the {to_usd(CEILING)} kept")
    return pico


class Facts(NamedTuple):
    """An entry, checked, and the numbers that a store counts with."""

    entry: CostEntry
    timestamp_us: int
    pico: Picodollars | None
    reserved_pico: Picodollars | None
    charge: Charge
    label: tuple[object, ...]
    """Equals its `Label`; whoever keeps a new one checks it first."""


_facts = Facts._make


def facts_of(entry: CostEntry) -> Facts:
    """Take an entry apart; raises `ValueError` or `TypeError` for what no store can keep."""
    timestamp_us, pico, charge = terms_of(entry)
    if not 0 <= entry.attempts <= _MOST_ATTEMPTS:
        raise ValueError(f"attempts must be an int >= 0, not {entry.attempts!r}")
    reserved_usd = entry.reserved_usd
    reserved_pico = None if reserved_usd is None else exact_pico(reserved_usd, "reserved_usd")
    return _facts((entry, timestamp_us, pico, reserved_pico, charge, label_of(entry)))


def terms_of(entry: CostEntry) -> tuple[int, Picodollars | None, Charge]:
    """Return when a call was authorized, what it costs, and what it takes from each owner."""
    timestamp_us = to_us(entry.timestamp)
    if timestamp_us < 0:
        raise ValueError(f"timestamp must not be before 1970, but is {entry.timestamp}")
    pico = exact_pico(entry.cost_usd)
    if pico is not None and pico < 0 and entry.adjusts is None:
        raise ValueError(f"cost_usd must not be negative, but is {entry.cost_usd!r}")
    usage = entry.usage
    tokens = usage.input_tokens + usage.output_tokens
    if tokens > CEILING:
        raise ValueError(f"{tokens} tokens in one call are more than can be kept")
    return timestamp_us, pico, (pico or 0, tokens, 1 if entry.adjusts is None else 0)


def distinct(owners: tuple[str, ...]) -> tuple[str, ...]:
    """Return the owners, each once, in their order."""
    return owners if len(owners) < 2 else tuple(dict.fromkeys(owners))


def refusal(limit: Limit, balance: Balance, charge: Charge) -> Refusal | None:
    """Return the refusal of a charge that does not fit the limit any more; None if it fits."""
    taken = (
        balance.spent_pico + balance.reserved_pico,
        balance.spent_tokens + balance.reserved_tokens,
        balance.spent_calls + balance.reserved_calls,
    )
    allowed = (limit.pico, limit.tokens, limit.calls)
    for unit, most, now, more in zip(UNITS, allowed, taken, charge, strict=True):
        if most is not None and now + more > most:
            return Refusal(limit, balance, unit)
    return None


def conflict(call_id: str, why: str) -> CallConflictError:
    """Return the error for a call id that stands for something else already."""
    return CallConflictError(f"call {call_id[:200]!r} {why}")


def unreadable(what: str, error: Exception) -> BudgetStoreError:
    """Return the error for a row that is not as it was written."""
    return BudgetStoreError(f"{what} is damaged and cannot be read: {error}")


def too_old(call_id: str, timestamp_us: int, pruned_us: int) -> CallConflictError:
    """Return the error for a call of a time from which single calls are no longer known."""
    return conflict(
        call_id,
        f"is of {from_us(timestamp_us)}, but calls from before {from_us(pruned_us)} are no longer "
        f"kept: it may have been counted already",
    )


def usage_rest(usage: Usage) -> dict[str, int]:
    """Return the counts that few calls have, those that are not zero."""
    counts = rare_counts(usage)
    if counts == NO_RARE_COUNTS:
        return {}
    return {name: count for name, count in zip(USAGE_RARE, counts, strict=True) if count}


def usage_of(common: Iterable[int], rest: Mapping[str, int] | None = None) -> Usage:
    """Return the usage whose common counts and other counts these are."""
    return Usage(**dict(zip(USAGE_COMMON, common, strict=True)), **(rest or {}))


def build_entry(
    label: Label,
    *,
    call_id: str,
    timestamp_us: int,
    cost_pico: Picodollars | None,
    usage: Usage,
    reserved_pico: Picodollars | None,
    duration_s: float | None,
    attempts: int,
    response_id: str | None,
    gateway_cost_usd: Decimal | None,
    adjusts: str | None,
) -> CostEntry:
    """Put an entry together again."""
    return CostEntry(
        model=label.model,
        function_name=label.function_name,
        user_id=label.user_id,
        usage=usage,
        cost_usd=None if cost_pico is None else to_usd(cost_pico),
        timestamp=from_us(timestamp_us),
        call_id=call_id,
        provider=label.provider,
        operation=label.operation,
        request_model=label.request_model,
        call_path=label.call_path,
        tags=dict(label.tags),
        service_tier=label.service_tier,
        region=label.region,
        streamed=label.streamed,
        status=label.status,
        grade=label.grade,
        reserved_usd=None if reserved_pico is None else to_usd(reserved_pico),
        duration_s=duration_s,
        attempts=attempts,
        response_id=response_id,
        price_id=label.price_id,
        gateway_cost_usd=gateway_cost_usd,
        adjusts=adjusts,
    )


def lease_us(lease_s: float) -> int:
    """Return a lease in microseconds; raises `ValueError` for one that ends never or before now."""
    if not 0 <= lease_s <= _LONGEST_LEASE_S:
        raise ValueError(f"a lease must be of 0 to {_LONGEST_LEASE_S} seconds, not {lease_s!r}")
    return int(lease_s * 1_000_000)


def lapsed_grade(entry: CostEntry) -> Grade:
    """Return how exact a charge is that nobody settled."""
    return "unpriced" if entry.cost_usd is None else "assumed"


def balance_of(spent: Iterable[int], reserved: Iterable[int]) -> Balance:
    """Return the balance of these two charges."""
    pico, tokens, calls = spent
    held_pico, held_tokens, held_calls = reserved
    return Balance(pico, held_pico, tokens, held_tokens, calls, held_calls)


def label_from_row(row: tuple[object, ...]) -> Label:
    """Return the label of a database row: `call_path` and `tags` are JSON there.

    Raises `BudgetStoreError` for a row that nobody has written so.
    """
    try:
        *plain, streamed, call_path, tags = row
        return Label._make(
            (
                *plain,
                bool(streamed),
                tuple(json.loads(cast(str, call_path))),
                tuple((tag, value) for tag, value in json.loads(cast(str, tags))),
            )
        )
    except (TypeError, ValueError) as error:
        raise unreadable("a label", error) from error

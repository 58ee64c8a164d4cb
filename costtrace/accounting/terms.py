"""The terms of a budget: how much, of what, in which window, and what happens at the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta, tzinfo
from typing import Literal, TypeAlias

from costtrace.accounting.window import Window
from costtrace.entry import Alert
from costtrace.money import Money, Picodollars, to_pico
from costtrace.stores.base import LEDGER, Limit, Span, user_owner

WindowName: TypeAlias = Literal["block", "hour", "day", "week", "month"]
OnExceed: TypeAlias = Literal["raise", "fit", "warn"]
Severity: TypeAlias = Literal["raise", "fit", "warn", "alert"]
"""What a budget does at its limit; `alert`, for a ledger's own, does nothing but alert."""
OnUnknownModel: TypeAlias = Literal["refuse", "assume_max", "allow"]
OnStoreError: TypeAlias = Literal["refuse", "allow"]
OnAlert: TypeAlias = Callable[[Alert], object]

LONGEST_ID = 1024
"""Characters that a user id, a function's name or a tag may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTerms:
    """What was asked of a budget, checked. Amounts are picodollars; None: not limited."""

    user_id: str | None
    """None for the ledger's own budget."""
    limit_pico: Picodollars | None = None
    per_call_pico: Picodollars | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    window: Window
    alert_at: tuple[float, ...] = (0.9,)
    on_alert: OnAlert | None = None
    on_exceed: Severity = "raise"
    on_unknown_model: OnUnknownModel = "refuse"
    on_store_error: OnStoreError = "refuse"
    wait_s: float = 0.0
    cover_retries: bool = True
    ask_provider: bool = False
    block_id: str = ""
    """Tells one `with` from another, where the budget counts for one `with` alone."""

    # what follows from them, made once: every call asks for it
    owner: str = field(init=False)
    """Who is charged, in the store's words, for what these terms limit."""
    owners: tuple[str, ...] = field(init=False)
    """Everyone who is charged for a call under this budget."""
    refuses: bool = field(init=False)
    """Whether it stops what does not fit, rather than only saying so."""
    has_limit: bool = field(init=False)
    """Whether anything is counted against a limit."""
    is_hard: bool = field(init=False)
    """Whether a call may be refused for it."""
    is_observed: bool = field(init=False)
    """Whether it says what it would have refused."""
    _last: Limit | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        user = LEDGER if self.user_id is None else user_owner(self.user_id)
        owner = f"block:{self.block_id}" if self.block_id else user
        has_limit = (self.limit_pico, self.max_tokens, self.max_calls) != (None, None, None)
        is_limited = has_limit or self.per_call_pico is not None
        refuses = self.on_exceed in ("raise", "fit")
        for name, value in (
            ("owner", owner),
            ("owners", (user, owner) if self.block_id else (user,)),
            ("refuses", refuses),
            ("has_limit", has_limit),
            ("is_hard", refuses and is_limited),
            ("is_observed", self.on_exceed == "warn" and is_limited),
        ):
            object.__setattr__(self, name, value)

    def span(self, at_us: int) -> Span:
        """Return the span of time that a call authorized at `at_us` counts in."""
        return self.window.span(at_us)

    def limit(self, at_us: int) -> Limit | None:
        """Return what is limited at that time; None where nothing is."""
        if not self.has_limit:
            return None
        span, last = self.window.span(at_us), self._last
        if last is not None and last.span is span:
            return last
        limit = Limit(self.owner, span, self.limit_pico, self.max_tokens, self.max_calls)
        object.__setattr__(self, "_last", limit)  # in one step, so that any thread may
        return limit

    def for_block(self, block_id: str) -> BudgetTerms:
        """Return the terms of one `with`, where the window is a block; else these."""
        return replace(self, block_id=block_id) if self.window.name == "block" else self


def budget_terms(
    user_id: object,
    limit: Money | None,
    *,
    window: WindowName | timedelta | None,
    tz: str | tzinfo | None,
    per_call: Money | None,
    max_tokens: int | None,
    max_calls: int | None,
    alert_at: float | Iterable[float] | None,
    on_alert: OnAlert | None,
    on_exceed: OnExceed,
    wait: float,
    cover_retries: bool,
    ask_provider: bool,
    on_unknown_model: OnUnknownModel | None,
    on_store_error: OnStoreError | None,
) -> BudgetTerms:
    """Check what a user wrote for a budget; raise `TypeError` or `ValueError` for what is wrong."""
    limit_pico = None if limit is None else to_pico(limit, "limit")
    per_call_pico = None if per_call is None else to_pico(per_call, "per_call")
    most_tokens = _count_or_none("max_tokens", max_tokens)
    most_calls = _count_or_none("max_calls", max_calls)
    one_of("on_exceed", on_exceed, ("raise", "fit", "warn"))
    limited = any(
        bound is not None for bound in (limit_pico, per_call_pico, most_tokens, most_calls)
    )
    if on_unknown_model is None:
        on_unknown_model = "refuse" if limited and on_exceed != "warn" else "allow"
    one_of("on_unknown_model", on_unknown_model, ("refuse", "assume_max", "allow"))
    if on_store_error is None:
        on_store_error = "refuse" if limited and on_exceed != "warn" else "allow"
    one_of("on_store_error", on_store_error, ("refuse", "allow"))
    return BudgetTerms(
        user_id=checked_id("user_id", user_id),
        limit_pico=limit_pico,
        per_call_pico=per_call_pico,
        max_tokens=most_tokens,
        max_calls=most_calls,
        window=Window.of(window, tz),
        alert_at=shares(alert_at),
        on_alert=callback(on_alert),
        on_exceed=on_exceed,
        on_unknown_model=on_unknown_model,
        on_store_error=on_store_error,
        wait_s=checked_seconds("wait", wait),
        cover_retries=checked_switch("cover_retries", cover_retries),
        ask_provider=checked_switch("ask_provider", ask_provider),
    )


def checked_id(name: str, value: object) -> str:
    """Return a name that can be kept and told apart, or say what is wrong with it."""
    if type(value) is str and value.isascii() and 0 < len(value) <= LONGEST_ID:
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__} {value!r}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    if len(value) > LONGEST_ID:
        raise ValueError(f"{name} must have at most {LONGEST_ID} characters, not {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} {value!r} holds half of a character: it cannot be kept") from None
    return value


def checked_tags(tags: object) -> dict[str, str]:
    """Return tags as a dict of their own, or say what is wrong with them."""
    if tags is None:
        return {}
    if not isinstance(tags, dict):
        raise TypeError(f"tags must be a dict of str to str, not {type(tags).__name__}")
    return {
        checked_id("a tag's name", name): checked_id(f"tag {name!r}", value)
        for name, value in tags.items()
    }


def shares(alert_at: float | Iterable[float] | None) -> tuple[float, ...]:
    """Return the shares of a limit at which an alert is sent, lowest first."""
    if alert_at is None:
        return ()
    several = [alert_at] if isinstance(alert_at, (int, float, str)) else list(alert_at)
    for share in several:
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(f"alert_at takes shares such as 0.9, not {share!r}")
        if not 0 < share <= 1:
            raise ValueError(f"alert_at is a share above 0 and up to 1, such as 0.9, not {share!r}")
    return tuple(sorted({float(share) for share in several}))


def callback(on_alert: OnAlert | None) -> OnAlert | None:
    """Return what is to be called with each alert, if it can be called."""
    if on_alert is not None and not callable(on_alert):
        raise TypeError(f"on_alert must be callable with an Alert, not {type(on_alert).__name__}")
    return on_alert


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise for a value that is none of the choices."""
    if value not in choices:
        valid = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} must be {valid}, not {value!r}")


def checked_switch(name: str, value: object) -> bool:
    """Return what is on or off, or say that it is neither."""
    if value not in (True, False):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def checked_seconds(name: str, value: object) -> float:
    """Return a number of seconds, finite and not negative, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__} {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of seconds from 0 on, not {value!r}")
    return float(value)


def checked_count(name: str, value: object) -> int:
    """Return an int that is not negative, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__} {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, but is {value}")
    return int(value)


def _count_or_none(name: str, value: object) -> int | None:
    return None if value is None else checked_count(name, value)

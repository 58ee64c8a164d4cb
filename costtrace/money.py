"""Money: `Decimal` US dollars outside, whole picodollars (1e-12 USD) inside.

One token's list price times every published multiplier is a whole number of picodollars, so sums
of them are exact in every grouping, in Python, in SQL and in Redis.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import TypeAlias

Picodollars: TypeAlias = int
Money: TypeAlias = int | float | str | Decimal
"""What a caller may write for an amount of US dollars."""

PICO_PER_USD = 10**12
_EXACT = Context(prec=60)
_PICO = Decimal("1e-12")
_PLACES, _MOST_PLACES = 4, 12  # decimals for a reader; the last one is the picodollar
_CEILING = Decimal(10) ** 20  # dollars: far above every store's own ceiling, far below trouble


def to_pico(amount: Money, name: str = "amount") -> Picodollars:
    """Return `amount` (US dollars) in picodollars, or say what is wrong with it.

    A float counts as it is written: 0.1 is `Decimal("0.1")`; digits beyond the picodollar are
    binary noise in a float and are rounded, in any other type they are refused. Raises `TypeError`
    for what is no number (`bool` included) and `ValueError` for a negative, infinite or NaN amount.
    """
    exact = _decimal(amount, name)
    if not exact.is_finite():
        raise ValueError(f"{name} must be a finite number of US dollars, not {amount!r}")
    if exact < 0:
        raise ValueError(f"{name} must not be negative, but is {amount!r}")
    if exact > _CEILING:
        raise ValueError(f"{name} of {amount!r} US dollars is beyond what can be kept")
    rounded = exact.quantize(_PICO, rounding=ROUND_HALF_EVEN, context=_EXACT)
    if rounded != exact and not isinstance(amount, float):
        raise ValueError(
            f"{name} of {amount!r} is finer than a picodollar (12 decimals): round it first"
        )
    return int(rounded.scaleb(12, context=_EXACT))


def to_usd(pico: Picodollars) -> Decimal:
    """Return picodollars as exact US dollars.

    >>> to_usd(37_000_000_000)
    Decimal('0.037')
    """
    dollars, fraction = divmod(pico, PICO_PER_USD)
    if not fraction:
        return Decimal(dollars)
    return Decimal(pico).scaleb(-12, _EXACT).normalize(_EXACT)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum of US dollars, whatever precision the caller's own decimal context has."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def exact_text(amount: Decimal) -> str:
    """Return an amount in plain digits, all of them: `0.0000012`, never `1.2E-6`."""
    return f"{amount.normalize(_EXACT):f}"


def format_usd(amount: Decimal, places: int = _PLACES) -> str:
    """Return `amount` for a reader: `$4.5210`; a positive amount is never shown as zero.

    >>> format_usd(Decimal("4.521")), format_usd(Decimal("0.0000012"))
    ('$4.5210', '$0.0000012')
    """
    shown = f"{amount:,.{places}f}"
    if amount and not Decimal(shown.replace(",", "")):
        shown = exact_text(amount)
    return f"-${shown[1:]}" if shown.startswith("-") else f"${shown}"


def format_apart(one: Decimal, other: Decimal) -> tuple[str, str]:
    """Return two amounts for a reader, with as many decimals as tell them apart, if they differ.

    >>> format_apart(Decimal("0.00018225"), Decimal("0.0001754"))
    ('$0.000182', '$0.000175')
    """
    for places in range(_PLACES, _MOST_PLACES + 1):
        texts = format_usd(one, places), format_usd(other, places)
        if texts[0] != texts[1]:
            break
    return texts


def _decimal(amount: Money, name: str) -> Decimal:
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str, Decimal)):
        raise TypeError(
            f"{name} must be an int, float, str or Decimal of US dollars, "
            f"not {type(amount).__name__} {amount!r}"
        )
    try:
        return Decimal(repr(amount) if isinstance(amount, float) else amount)
    except InvalidOperation:
        raise ValueError(f'{name} must be a number such as "5.00", not {amount!r}') from None

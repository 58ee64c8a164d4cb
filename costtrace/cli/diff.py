"""`costtrace diff`: what changed between two ledgers, and a gate for it in CI."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from costtrace.accounting import CostLedger
from costtrace.cli.arguments import add_json
from costtrace.cli.drift import Drift, Key, drifts
from costtrace.cli.ledger_files import open_ledger
from costtrace.cli.output import money, note, show, show_json
from costtrace.entry import CostEntry
from costtrace.money import format_usd, to_usd
from costtrace.reports import Column, table

_EPILOG = """\
examples:
  costtrace diff main.db branch.db
  costtrace diff main.db branch.db --fail-above 20%   # exit status 1 if a function uses more

The gate looks at the tokens of a call alone: a provider's new prices fail nobody's build. A
function that is in one ledger only is shown and fails nothing; but if no function is in both, the
gate could not do its work, and fails.
"""
_GROUPS = ("function_name", "user_id", "model", "operation", "call_path")
_NUMBERS = ("Calls", "Tokens/call", "Change", "Cost/call", "Tokens", "Models", "Prices")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("before", metavar="A.db", help="the ledger before the change")
    parser.add_argument("after", metavar="B.db", help="the ledger after it")
    parser.add_argument(
        "--by",
        type=_key,
        default=_key("function_name"),
        metavar="WHAT",
        help="function_name (unless given), user_id, model, operation, call_path or tag:NAME",
    )
    parser.add_argument(
        "--fail-above",
        type=_share,
        metavar="20%",
        help="exit status 1 if the tokens of a call grew by more",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare two ledgers; 1 if one of the functions failed the gate."""
    with open_ledger(arguments.before) as before, open_ledger(arguments.after) as after:
        found = drifts(_calls(before), _calls(after), arguments.by, after.prices, after.now())
    failed = _failed(found, arguments.fail_above)
    if arguments.json:
        show_json(_document(found, failed, arguments.fail_above))
    else:
        show(_text(found))
    for problem in failed:
        note(f"costtrace: {problem}")
    return 1 if failed else 0


def _calls(ledger: CostLedger) -> list[CostEntry]:
    return list(ledger.entries)


def _failed(found: list[Drift], threshold: Fraction | None) -> list[str]:
    """Return what the gate has against the change."""
    if threshold is None:
        return []
    if not any(drift.token_growth is not None for drift in found):
        return ["nothing is in both ledgers, so the gate could not compare anything"]
    return [
        f"{drift.key}: {_count(drift.after.tokens_per_call)} tokens per call against "
        f"{_count(drift.before.tokens_per_call)}, {_growth(drift)}; "
        f"the gate allows {_percent(threshold, sign='+')}"
        for drift in found
        if drift.token_growth is not None and drift.token_growth > threshold
    ]


def _text(found: list[Drift]) -> str:
    if not found:
        return "No calls in either ledger."
    columns = (
        Column("Group", can_shrink=True),
        *(Column(name, is_number=True) for name in _NUMBERS),
    )
    remark = (
        "Tokens, Models, Prices: what of the change of the cost of a call is due to each; they "
        "sum to it."
    )
    return f"{table([_cells(drift) for drift in found], columns)}\n\n{remark}"


def _cells(drift: Drift) -> tuple[str, ...]:
    before, after = drift.before, drift.after
    return (
        drift.key,
        f"{len(before.entries):,} > {len(after.entries):,}",
        f"{_count(before.tokens_per_call)} > {_count(after.tokens_per_call)}",
        _growth(drift),
        f"{_usd(before.cost_per_call)} > {_usd(after.cost_per_call)}",
        _signed(drift.by_tokens),
        _signed(drift.by_models),
        _signed(drift.by_prices),
    )


def _growth(drift: Drift) -> str:
    if not drift.before.entries:
        return "new"
    if not drift.after.entries:
        return "gone"
    return "-" if drift.token_growth is None else f"{_percent(drift.token_growth, sign='+')}"


def _percent(share: Fraction, sign: str = "") -> str:
    return f"{_decimal(share * 100):{sign},.1f}%"


def _count(mean: Fraction) -> str:
    return f"{_decimal(mean):,.1f}"


def _usd(pico: Fraction | None) -> str:
    return "unpriced" if pico is None else format_usd(to_usd(round(pico)), 6)


def _signed(pico: Fraction | None) -> str:
    if pico is None:
        return "-"
    text = format_usd(to_usd(round(pico)), 6)
    return text if pico <= 0 else f"+{text}"


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _document(found: list[Drift], failed: list[str], threshold: Fraction | None) -> dict[str, Any]:
    return {
        "schema": "costtrace.diff",
        "schema_version": 1,
        "currency": "USD",
        "fail_above": None if threshold is None else _percent(threshold),
        "failed": failed,
        "groups": [
            {
                "key": drift.key,
                "calls": [len(drift.before.entries), len(drift.after.entries)],
                "tokens_per_call": [
                    float(drift.before.tokens_per_call),
                    float(drift.after.tokens_per_call),
                ],
                "token_growth": (
                    None if drift.token_growth is None else round(float(drift.token_growth), 6)
                ),
                "cost_per_call_usd": [
                    _json_usd(drift.before.cost_per_call),
                    _json_usd(drift.after.cost_per_call),
                ],
                "by_tokens_usd": _json_usd(drift.by_tokens),
                "by_models_usd": _json_usd(drift.by_models),
                "by_prices_usd": _json_usd(drift.by_prices),
            }
            for drift in found
        ],
    }


def _json_usd(pico: Fraction | None) -> str | None:
    """Return an amount to the picodollar: a mean may have no end."""
    return None if pico is None else money(to_usd(round(pico)))


def _key(text: str) -> Key:
    """Read what to group by."""
    if text.startswith("tag:") and len(text) > 4:
        return lambda entry: entry.tags.get(text[4:], "")
    if text == "call_path":
        return lambda entry: " > ".join(entry.call_path)
    if text not in _GROUPS:
        raise argparse.ArgumentTypeError(
            f"cannot compare by {text!r}; known are {', '.join(_GROUPS)}, tag:<name>"
        )
    return lambda entry: str(getattr(entry, text))


def _share(text: str) -> Fraction:
    """Read `20%` or `0.2`."""
    try:
        number = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or (not text.endswith("%") and number > 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write 20% or 0.2")
    return Fraction(number) / (100 if text.endswith("%") else 1)

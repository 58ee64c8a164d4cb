"""`costtrace prices`: the price list; one model explained; a price file of your own checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from costtrace.cli.arguments import add_json, moment
from costtrace.cli.errors import UsageError, meant
from costtrace.cli.output import bold, days_old, money, note, show, show_json
from costtrace.cli.price_files import add_prices, price_file, price_table
from costtrace.exceptions import PriceTableError
from costtrace.pricing import Price, PriceTable
from costtrace.pricing.explain import ExplainedPrice, Explanation
from costtrace.reports import Column, table

_EPILOG = """\
examples:
  costtrace prices                          # all models, USD per million tokens
  costtrace prices claude-sonnet-4-5 --at 2026-01-31
  costtrace prices --check my-prices.toml   # exit status 1 if it cannot be used
  costtrace prices --diff my-prices.toml    # what it changes
"""
_COLUMNS = (
    Column("Model", can_shrink=True),
    Column("Provider"),
    *(Column(name, is_number=True) for name in ("Input", "Cached input", "Output")),
    Column("Status"),
)
_PARTS = ("input", "cached_input", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", metavar="MODEL", nargs="?", help="explain what this one costs")
    parser.add_argument("--at", type=moment, metavar="DATE", help="as of then, not as of now")
    parser.add_argument("--provider", metavar="NAME", help="only the models of one provider")
    add_prices(parser)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", metavar="FILE", help="check a price file of your own")
    choice.add_argument("--diff", metavar="FILE", help="show what such a file changes")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print prices, or what a file does to them."""
    at = arguments.at or datetime.now(timezone.utc)
    if arguments.model and (arguments.check or arguments.diff):
        raise UsageError(
            f"--check and --diff are about all models of a file, not about {arguments.model!r}"
        )
    if arguments.check:
        return _check(price_file(arguments.check), arguments.json)
    if arguments.diff:
        return _diff(price_file(arguments.diff), at, arguments.json)
    prices = price_table(arguments.prices)
    if arguments.model:
        return _explain(prices, arguments.model, at, arguments.json)
    return _list(prices, at, arguments.provider, arguments.json)


# The list


def _list(prices: PriceTable, at: datetime, provider: str | None, is_json: bool) -> int:
    models = [(prices.find(name), prices.price(name, at)) for name in prices.models(provider)]
    if not models:
        raise UsageError(f"no models of a provider {provider!r}: there are openai and anthropic")
    known = [(model, price) for model, price in models if model is not None]
    if is_json:
        rows = [
            {"model": m.id, "provider": m.provider, "status": m.status, "prices": _per_million(p)}
            for m, p in known
        ]
        show_json({**_head(prices, at, "prices"), "models": rows})
        return 0
    cells = [(m.id, m.provider or "-", *_cells(p), m.status or "-") for m, p in known]
    show(table(cells, _COLUMNS))
    note(
        f"USD per million tokens, standard tier, as of {at:%Y-%m-%d}; prices of {prices.as_of}, "
        f"{days_old(prices.age_days)}. `costtrace prices MODEL` tells more."
    )
    return 0


def _cells(price: Price | None) -> list[str]:
    found = [getattr(price, part) if price else None for part in _PARTS]
    return ["-" if usd is None else _short(usd) for usd in found]


def _per_million(price: Price | None) -> dict[str, str | None]:
    return {part: money(getattr(price, part)) if price else None for part in _PARTS}


def _head(prices: PriceTable, at: datetime, schema: str) -> dict[str, Any]:
    return {
        "schema": f"costtrace.{schema}",
        "schema_version": 1,
        "currency": "USD",
        "at": at,
        "prices_date": str(prices.as_of),
        "age_days": prices.age_days,
    }


# One model


def _explain(prices: PriceTable, name: str, at: datetime, is_json: bool) -> int:
    found = prices.explain(name)
    if found.model is None:
        near = meant(name, [*prices.models(), *prices.aliases], 3)
        near = near or "; `costtrace prices` lists all models"
        raise UsageError(f"no price is known for {name!r}: {found.reason}{near}")
    rows = [one for one in found.prices if _holds(one, at)]
    if is_json:
        show_json({**_head(prices, at, "price"), **_facts(found)})
        return 0
    show("\n\n".join(_blocks(found, rows, at)))
    return 0


def _facts(found: Explanation) -> dict[str, Any]:
    facts = asdict(found)
    facts["prices"] = [{**asdict(one), "usd": money(one.usd)} for one in found.prices]
    facts["tools"] = {name: money(usd) for name, usd in (found.tools or {}).items()}
    return facts


def _blocks(found: Explanation, rows: list[ExplainedPrice], at: datetime) -> Iterable[str]:
    title = found.model or found.name
    by_rule = f" (found as {title}, rule: {found.rule})" if found.name != title else ""
    yield bold(found.name) + by_rule + f"\n{_facts_line(found)}"
    if not rows:
        yield f"No price is known as of {at:%Y-%m-%d}."
    else:
        yield f"As of {at:%Y-%m-%d}, USD per unit:\n" + _price_table(rows)
    if others := [one for one in found.prices if one not in rows]:
        yield "At other times:\n" + _price_table(others)
    sources = dict.fromkeys(source for one in rows for source in one.sources)
    if sources:
        yield "Sources:\n" + "\n".join(f"  {source}" for source in sources)
    notes = [*found.notes, *dict.fromkeys(one.note for one in rows if one.note)]
    if notes:
        yield "\n".join(notes)


def _facts_line(found: Explanation) -> str:
    parts = [found.provider, found.kind, found.status]
    parts += [f"released {found.released}"] if found.released else []
    parts += [f"shutdown {found.shutdown}"] if found.shutdown else []
    if found.limits and found.limits.context_window:
        parts.append(f"context {found.limits.context_window:,}")
    if found.limits and found.limits.max_output_tokens:
        parts.append(f"output {found.limits.max_output_tokens:,}")
    if found.long_above:
        parts.append(f"long above {found.long_above:,} input tokens")
    lines = [", ".join(part for part in parts if part)]
    if found.aliases:
        lines.append(f"also {', '.join(found.aliases)}")
    return "\n".join(lines)


def _price_table(rows: Iterable[ExplainedPrice]) -> str:
    columns = (
        *("Tier", "Context", "Part"),
        Column("USD", is_number=True),
        *("For each", "Since", "Until", "Standing"),
    )
    return table(
        [
            (
                one.tier,
                one.context,
                f"{one.part} {one.variant}".strip(),
                _short(one.usd),
                one.unit,
                str(one.since or "ever"),
                str(one.until or "-"),
                one.standing,
            )
            for one in rows
        ],
        columns,
    )


def _holds(one: ExplainedPrice, at: datetime) -> bool:
    day = at.astimezone(timezone.utc).date()
    return (one.since is None or one.since <= day) and (one.until is None or day < one.until)


# A file of one's own


def _check(path: Path, is_json: bool) -> int:
    problem: str | None = None
    oddities: tuple[str, ...] = ()
    try:
        oddities = PriceTable.check(path)
    except PriceTableError as error:
        problem = str(error)
    if is_json:
        facts = {"schema": "costtrace.prices-check", "schema_version": 1, "file": str(path)}
        show_json({**facts, "is_valid": not problem, "error": problem, "oddities": list(oddities)})
    elif problem:
        note(f"costtrace: {problem}")
    else:
        show("\n".join([f"{path} can be used.", *(f"Odd: {one}" for one in oddities)]))
    return 1 if problem else 0


def _diff(path: Path, at: datetime, is_json: bool) -> int:
    bundled = PriceTable.bundled()
    diff = bundled.diff(PriceTable.load(path), at)
    if is_json:
        changes = [
            {**asdict(one), "old": money(one.old), "new": money(one.new)} for one in diff.prices
        ]
        names = [asdict(one) for one in diff.aliases]
        show_json({**_head(bundled, at, "prices-diff"), "prices": changes, "aliases": names})
        return 0
    columns = ("Model", "Tier", "Context", "Part", Column("Now", True), Column("With it", True))
    rows = [
        (one.model, one.tier, one.context, one.part, _or_none(one.old), _or_none(one.new))
        for one in diff.prices
    ]
    blocks = [table(rows, columns)] if rows else []
    blocks += [f"{one.name}: {one.old or '-'} -> {one.new or '-'}" for one in diff.aliases]
    show("\n".join(blocks) or f"{path} changes nothing as of {at:%Y-%m-%d}.")
    return 0


def _or_none(usd: Decimal | None) -> str:
    return "-" if usd is None else _short(usd)


def _short(usd: Decimal) -> str:
    return f"{usd.normalize():f}" if usd != usd.quantize(Decimal("0.01")) else f"{usd:.2f}"

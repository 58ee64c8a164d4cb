"""`costtrace estimate`: what requests will cost, on one model or several, before they are sent."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from costtrace.cli.arguments import add_json, positive
from costtrace.cli.errors import UsageError
from costtrace.cli.output import money, note, progress, show, show_json
from costtrace.cli.price_files import add_prices, price_table
from costtrace.cli.request_files import KINDS, FileRequest, read_requests
from costtrace.money import Picodollars, format_usd, to_usd
from costtrace.pricing import PriceTable, cost
from costtrace.reports import Column, table
from costtrace.usage import Usage

_EPILOG = """\
examples:
  costtrace estimate prompt.txt --model gpt-5.4 --model claude-sonnet-4-6 --max-tokens 500
  costtrace estimate batch.jsonl                       # each line with the model it names
  echo "Why is the sky blue?" | costtrace estimate - --model gpt-4o-mini

A file is a text (one message of the user), a conversation in JSON ("messages"), or JSON lines with
one request in each: bodies, or lines of a batch file ("body"), which take the batch price.
"""
_COLUMNS = (
    Column("Model", can_shrink=True),
    *(Column(name, is_number=True) for name in ("Requests", "Input tokens", "Output at most")),
    Column("Count"),
    *(Column(name, is_number=True) for name in ("Input cost", "Cost at most")),
)
_EVERY = 50


@dataclass(slots=True)
class ModelEstimate:
    """What all requests come to on one model; costs are picodollars, None without a price."""

    model: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    is_exact: bool = True
    methods: tuple[str, ...] = ()
    input_cost: Picodollars | None = 0
    worst_cost: Picodollars | None = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """State the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="`-`: standard input")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="one or more; without it, the model that each request names",
    )
    parser.add_argument(
        "--max-tokens",
        type=positive,
        metavar="N",
        help="output tokens of each answer, where the request itself says nothing; without it, "
        "the most that the model generates",
    )
    parser.add_argument("--as", dest="kind", choices=KINDS, help="what the file is, if not clear")
    parser.add_argument(
        "--tier", metavar="NAME", help="batch, flex, priority ...; standard unless given"
    )
    add_prices(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print an estimate for each model."""
    requests = read_requests(arguments.file, arguments.kind)
    prices = price_table(arguments.prices)
    estimator = Estimator(prices, arguments.max_tokens, arguments.tier)
    estimates = estimator.estimate(requests, tuple(dict.fromkeys(arguments.model)))
    if arguments.json:
        show_json(_document(estimates, prices))
        return 0
    show(table([_cells(one) for one in estimates], _COLUMNS))
    for remark in _remarks(estimates, arguments.tier):
        note(remark)
    return 0


class Estimator:
    """Counts requests and prices them; nothing is sent anywhere."""

    def __init__(self, prices: PriceTable, max_tokens: int | None, tier: str | None) -> None:
        self._prices = prices
        self._max_tokens = max_tokens
        self._tier = tier
        self._now = datetime.now(timezone.utc)

    def estimate(
        self, requests: Sequence[FileRequest], models: Sequence[str]
    ) -> list[ModelEstimate]:
        """Return one estimate for each model, in their order, or in that of the requests."""
        found = {model: ModelEstimate(model) for model in models}
        done, total = 0, len(requests) * max(1, len(models))
        for request in requests:
            for model in models or (self._named(request),):
                self._add(found.setdefault(model, ModelEstimate(model)), request)
                done += 1
                if done % _EVERY == 0:
                    progress(f"{done:,} of {total:,} requests")
        progress("")
        return list(found.values())

    def _named(self, request: FileRequest) -> str:
        if request.model is None:
            raise UsageError(f"{request.where}: names no model: give one with --model")
        return request.model

    def _add(self, estimate: ModelEstimate, request: FileRequest) -> None:
        count = request.count(estimate.model)
        output = self._output(request, estimate.model) * request.choices
        estimate.requests += 1
        estimate.input_tokens += count
        estimate.output_tokens += output
        estimate.is_exact = estimate.is_exact and count.exact
        estimate.methods = tuple(dict.fromkeys((*estimate.methods, count.method)))
        tier = self._tier or ("batch" if request.is_batch else "standard")
        sent, worst = self._costs(estimate.model, tier, count, output)
        estimate.input_cost = _plus(estimate.input_cost, sent)
        estimate.worst_cost = _plus(estimate.worst_cost, worst)

    def _output(self, request: FileRequest, model: str) -> int:
        if request.is_embedding_for(model):
            return 0
        if request.output_cap is not None:
            return request.output_cap
        if self._max_tokens is not None:
            return self._max_tokens
        limits = self._prices.limits(model)
        if limits is None or limits.max_output_tokens is None:
            raise UsageError(
                f"{request.where}: nobody knows how much {model!r} may generate: say --max-tokens"
            )
        return limits.max_output_tokens

    def _costs(
        self, model: str, tier: str, sent: int, output: int
    ) -> tuple[Picodollars | None, Picodollars | None]:
        """Return what the input costs, and what the whole may cost at most."""
        price = self._prices.price(model, self._now, tier=tier, input_tokens=sent)
        input_cost = cost(Usage(input_tokens=sent), price)
        if tier == "batch":  # a batch is never served, and billed, as anything else
            return input_cost, cost(Usage(input_tokens=sent, output_tokens=output), price)
        bound = self._prices.bound(model, self._now, tier=tier, cache_lifetimes=(), modalities=())
        worst = None if bound is None or price is None else bound.cost(sent, output)
        return input_cost, worst


def _plus(total: Picodollars | None, more: Picodollars | None) -> Picodollars | None:
    return None if total is None or more is None else total + more


def _cells(one: ModelEstimate) -> tuple[str, ...]:
    return (
        one.model,
        f"{one.requests:,}",
        f"{one.input_tokens:,}",
        f"{one.output_tokens:,}",
        "exact" if one.is_exact else "estimate",
        _usd(one.input_cost),
        _usd(one.worst_cost),
    )


def _usd(pico: Picodollars | None) -> str:
    return "unpriced" if pico is None else format_usd(to_usd(pico))


def _document(estimates: list[ModelEstimate], prices: PriceTable) -> dict[str, Any]:
    return {
        "schema": "costtrace.estimate",
        "schema_version": 1,
        "currency": "USD",
        "prices_date": str(prices.as_of),
        "models": [
            {
                "model": one.model,
                "requests": one.requests,
                "input_tokens": one.input_tokens,
                "max_output_tokens": one.output_tokens,
                "is_exact": one.is_exact,
                "methods": list(one.methods),
                "input_cost_usd": _json_usd(one.input_cost),
                "max_cost_usd": _json_usd(one.worst_cost),
            }
            for one in estimates
        ],
    }


def _json_usd(pico: Picodollars | None) -> str | None:
    return None if pico is None else money(to_usd(pico))


def _remarks(estimates: list[ModelEstimate], tier: str | None) -> list[str]:
    methods = dict.fromkeys(
        method for one in estimates if not one.is_exact for method in one.methods
    )
    lines = []
    if methods:
        lines.append(f"Tokens marked as an estimate were counted by: {', '.join(methods)}.")
    if any("pieces" in method for method in methods):
        lines.append("With `costtrace tokenizers --fetch all` OpenAI's models are counted exactly.")
    for one in estimates:
        if one.worst_cost is None:
            of_tier = f" in the tier {tier!r}" if tier else ""
            lines.append(
                f"No price is known for {one.model!r}{of_tier}, so its cost is not known either."
            )
    return lines

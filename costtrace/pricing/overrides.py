"""A user's own prices: read from a dict or a file, and checked before they are used."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from costtrace.exceptions import PriceTableError
from costtrace.money import Money, to_pico, to_usd
from costtrace.pricing.catalogue import Limits, Model, Period, RateRow

PRICE_KEYS = (
    "input",
    "output",
    "cached_input",
    "cache_write_5m",
    "cache_write_1h",
    "cache_write_30m",
    "cache_write_12h",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
)
TIERS = (
    "standard",
    "flex",
    "priority",
    "batch",
    "ultrafast",
    "fast",
    "background_2h",
    "background_8h",
    "decisions",
)
_FILE_KEYS = ("models", "aliases")

# A price by the thousand or by the token is the usual mistake. The cheapest of the bundled list
# are 0.01 (input), 0.0025 (cached) and 0.2 (output), the dearest is 600; by the thousand, the
# common models would be at 0.00015 to 0.005 and 0.0006 to 0.015. Zero is free, not a mistake.
_LOWEST = {"output": Decimal("0.02"), "cached_input": Decimal("0.001")}
_LOWEST_ELSE = Decimal("0.005")
_HIGHEST = Decimal(10_000)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the models and aliases of a JSON or TOML price file, as written there.

    Raises `PriceTableError` for a file that is neither, or that is not laid out as
    `{"models": {name: {...}}, "aliases": {name: model}}`; `OSError` if it cannot be read.
    """
    where = os.fspath(path)
    with open(where, "rb") as file:
        content = file.read()
    data = _parser(where)(content)
    if not isinstance(data, dict):
        raise PriceTableError(f'{where}: must hold {{"models": {{...}}}}, not a {_kind(data)}')
    problems = [
        f"unknown key {key!r}: valid are {', '.join(_FILE_KEYS)}"
        for key in data
        if key not in _FILE_KEYS
    ] + [
        f"{key!r} must be a table, not a {_kind(data[key])}"
        for key in _FILE_KEYS
        if not isinstance(data.get(key, {}), dict)
    ]
    if not problems and not any(data.get(key) for key in _FILE_KEYS):
        problems = ["holds neither models nor aliases"]
    raise_problems(problems, where)
    return data.get("models", {}), data.get("aliases", {})


def check_mappings(where: str, **given: object) -> None:
    """Raise `PriceTableError` for what has no names to look up."""
    raise_problems(
        [
            f"{what} must be a mapping by name, not {value!r}"
            for what, value in given.items()
            if not isinstance(value, Mapping)
        ],
        where,
    )


def user_models(
    models: Mapping[str, Mapping[str, Money]], listed: Callable[[str], Model | None], where: str
) -> dict[str, Model]:
    """Return the models that a user's prices make, by name; `name#tier` adds a tier to a model.

    What is not a price (provider, limits, tool fees) is taken from the `listed` model of that name.
    Raises `PriceTableError`, with every problem found.
    """
    raise_problems(list(_problems(models)), where)
    rows: dict[str, list[RateRow]] = {}
    for name, prices in models.items():
        model, _, tier = name.partition("#")
        exact = {key: to_usd(to_pico(price)) for key, price in prices.items()}
        rows.setdefault(model, []).append(
            RateRow(tier or "standard", exact, sources={"*": where or "user"})
        )
    return {name: _model(name, tuple(of), listed(name)) for name, of in rows.items()}


def raise_problems(problems: list[str], where: str) -> None:
    """Raise one `PriceTableError` that lists all problems, if there are any."""
    if problems:
        prefix = f"{where}: " if where else ""
        raise PriceTableError("; ".join(f"{prefix}{problem}" for problem in problems))


def _model(name: str, rows: tuple[RateRow, ...], listed: Model | None) -> Model:
    return Model(
        id=name,
        provider=listed.provider if listed else "",
        periods=(Period(rows),),
        kind=listed.kind if listed else "",
        status="user",
        limits=listed.limits if listed else Limits(),
        tools=listed.tools if listed else {},
        is_user=True,
    )


def _problems(models: Mapping[Any, Any]) -> Iterator[str]:
    for name, prices in models.items():
        if not isinstance(name, str) or not name.partition("#")[0].strip():
            yield f"the name of a model must be a text, not {name!r}"
            continue
        _, mark, tier = name.partition("#")
        if mark and tier not in TIERS:
            yield f"{name!r}: unknown tier {tier!r}: valid are {', '.join(TIERS)}"
        if not isinstance(prices, Mapping):
            yield f"{name!r}: prices must be a table such as {{'input': 1, 'output': 2}}"
            continue
        if not {"input", "audio_input", "image_input"} & prices.keys():
            yield f"{name!r}: has no price for 'input'"
        for key, price in prices.items():
            problem = _problem(key, price)
            if problem:
                yield f"{name!r}: {problem}"


def _problem(key: object, price: Money) -> str:
    if key not in PRICE_KEYS:
        return f"unknown price {key!r}: valid are {', '.join(PRICE_KEYS)}"
    try:
        usd = to_usd(to_pico(price, f"price {key!r}"))
    except (TypeError, ValueError) as error:
        return str(error)
    lowest = _LOWEST.get(str(key), _LOWEST_ELSE)
    if usd and not lowest <= usd <= _HIGHEST:
        return (
            f"price {key!r} of {price} is not plausible as USD per million tokens, "
            f"which are 0 or {lowest} to {_HIGHEST}: is it per thousand or per token?"
        )
    return ""


def _parser(where: str) -> Callable[[bytes], object]:
    suffix = os.path.splitext(where)[1].lower()
    if suffix == ".toml":
        return lambda content: _parse_toml(content, where)
    if suffix == ".json":
        return lambda content: _parse_json(content, where)
    raise PriceTableError(f"{where}: a price file is .json or .toml, not {suffix or 'without one'}")


def _parse_json(content: bytes, where: str) -> object:
    try:
        return json.loads(content, parse_float=Decimal, object_pairs_hook=_without_repeats)
    except PriceTableError as error:
        raise PriceTableError(f"{where}: {error}") from None
    except ValueError as error:
        raise PriceTableError(f"{where}: is not JSON: {error}") from None


def _parse_toml(content: bytes, where: str) -> object:
    try:
        tomllib = importlib.import_module("tomllib")  # in the standard library since Python 3.11
    except ImportError:
        raise PriceTableError(
            f"{where}: reading TOML needs Python 3.11 or later; the same as .json works everywhere"
        ) from None
    try:
        data: object = tomllib.loads(content.decode(), parse_float=Decimal)
    except ValueError as error:
        raise PriceTableError(f"{where}: is not TOML: {error}") from None
    return data


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise PriceTableError(f"{repeated!r} stands there twice")
    return read


def _kind(value: object) -> str:
    return type(value).__name__

"""Cost stacks of the caller's own code: which function spends, and on behalf of which.

All functions here take totals grouped by `call_path`, whose keys are names joined by ` > `.
Calls without a price are counted, and are in no amount.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from costtrace.entry import Total
from costtrace.money import PICO_PER_USD, to_usd
from costtrace.reports.summary import names_of

_JOINED_BY = " > "
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCost:
    """What one function cost in US dollars: in its own calls, and with all that it called.

    An amount is None when there were calls and none of them has a price.
    """

    function_name: str
    own_usd: Decimal | None
    inclusive_usd: Decimal | None
    own_calls: int
    calls: int
    """Calls of the model made inside it, at any depth."""
    unpriced_calls: int


def collapsed(totals: Iterable[Total]) -> str:
    """Return one line for each path, `outer;inner 1234`, as flame graph tools read it.

    The numbers are picodollars, 1e-12 US dollars: whole, and exact in every sum. Paths without
    a known cost, or with less than none after corrections, have no width and are left out.
    """
    paths: dict[str, int] = {}
    for total in totals:
        path = ";".join(name.replace(";", ",") for name in path_of(total))
        paths[path] = paths.get(path, 0) + _pico(total)
    return "".join(f"{path} {paths[path]}\n" for path in sorted(paths) if paths[path] > 0)


def function_costs(totals: Iterable[Total]) -> list[FunctionCost]:
    """Return each function's own and inclusive cost, the dearest (inclusive) first.

    A function that calls itself counts once in its inclusive cost. Own costs sum to the whole.
    """
    own: dict[str, list[int]] = {}
    inclusive: dict[str, list[int]] = {}
    for total in totals:
        path = path_of(total)
        facts = (_pico(total), total.calls, total.unpriced_calls)
        for name in set(path):
            _add(inclusive.setdefault(name, [0, 0, 0]), facts)
        _add(own.setdefault(path[-1], [0, 0, 0]), facts)
    dearest = sorted(inclusive, key=lambda name: (-inclusive[name][0], name))
    return [_function_cost(name, own.get(name, [0, 0, 0]), inclusive[name]) for name in dearest]


def path_of(total: Total) -> tuple[str, ...]:
    """Return the functions of a path from the outside in, with no name left empty."""
    names = names_of(total)[-1].split(_JOINED_BY)
    return tuple(" ".join(name.split()) or _UNKNOWN for name in names)


def _function_cost(name: str, own: list[int], inclusive: list[int]) -> FunctionCost:
    return FunctionCost(
        function_name=name,
        own_usd=_known(own),
        inclusive_usd=_known(inclusive),
        own_calls=own[1],
        calls=inclusive[1],
        unpriced_calls=inclusive[2],
    )


def _known(sums: list[int]) -> Decimal | None:
    pico, calls, unpriced_calls = sums
    return to_usd(pico) if pico or calls > unpriced_calls or not unpriced_calls else None


def _add(sums: list[int], facts: tuple[int, int, int]) -> None:
    for place, fact in enumerate(facts):
        sums[place] += fact


def _pico(total: Total) -> int:
    return int(Fraction(total.cost_usd) * PICO_PER_USD)

"""Entries and alerts as counters for Prometheus, in its text format."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from costtrace.entry import Alert, CostEntry
from costtrace.forklock import ForkLock
from costtrace.money import PICO_PER_USD, to_usd

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_MOST_NAMES = 1000  # of functions, and of models: what is more than that is no name any longer

_METRICS = {
    "costtrace_calls_total": "Calls of a model.",
    "costtrace_input_tokens_total": "Tokens sent, cached ones included.",
    "costtrace_output_tokens_total": "Tokens generated, reasoning included.",
    "costtrace_cost_usd_total": "Known cost of the calls in US dollars.",
    "costtrace_cost_corrections_usd_total": "US dollars by which earlier costs were too high.",
    "costtrace_unpriced_calls_total": "Calls without a known price, which are in no cost.",
}
_ALERTS = "costtrace_budget_alerts_total"
_ALERTS_HELP = "Thresholds of budgets that were crossed."
_IN_USD = {"costtrace_cost_usd_total", "costtrace_cost_corrections_usd_total"}


class PrometheusSink:
    """Counts by function and model; `render()` is what an endpoint for Prometheus answers.

    With `users`, that many users get a label of their own in the order they come; everyone after
    them is `other`. Counters only grow: a line that lowers an earlier cost counts as a correction.
    Safe from any thread.

    >>> print(PrometheusSink().render().splitlines()[1])
    # TYPE costtrace_calls_total counter
    """

    def __init__(self, users: int = 0) -> None:
        if type(users) is not int or users < 0:
            raise ValueError(f"users must be how many users get a label, 0 or more, not {users!r}")
        self._functions, self._models = _Names(_MOST_NAMES), _Names(_MOST_NAMES)
        self._users = _Names(users)
        self._series: dict[tuple[str, ...], list[int]] = {}
        self._alerts = 0
        self._lock = ForkLock()

    def entry(self, entry: CostEntry) -> None:
        """Count an entry."""
        pico = int(Fraction(entry.cost_usd or 0) * PICO_PER_USD)
        is_call = entry.adjusts is None
        facts = (
            int(is_call),
            entry.usage.input_tokens,
            entry.usage.output_tokens,
            max(pico, 0),
            max(-pico, 0),
            int(is_call and entry.cost_usd is None),
        )
        with self._lock.now:
            sums = self._series.setdefault(self._labels(entry), [0] * len(_METRICS))
            for place, fact in enumerate(facts):
                sums[place] += fact

    def alert(self, alert: Alert) -> None:
        """Count an alert; whose it was is no label, since there may be many."""
        with self._lock.now:
            self._alerts += 1

    def render(self) -> str:
        """Return all counters in the text format, to be served as `CONTENT_TYPE`."""
        with self._lock.now:
            series = sorted((labels, tuple(sums)) for labels, sums in self._series.items())
            alerts = self._alerts
        return "".join(f"{line}\n" for line in _exposition(series, alerts))

    def _labels(self, entry: CostEntry) -> tuple[str, ...]:
        labels = (self._functions.label(entry.function_name), self._models.label(entry.model))
        return (*labels, self._users.label(entry.user_id)) if self._users.most else labels


class _Names:
    """The first so many names that came; all later ones are `other`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= self.most:
                return OTHER
            self._known.add(name)
        return name


def _exposition(
    series: list[tuple[tuple[str, ...], tuple[int, ...]]], alerts: int
) -> Iterator[str]:
    for place, (name, text) in enumerate(_METRICS.items()):
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} counter"
        for labels, sums in series:
            value = to_usd(sums[place]) if name in _IN_USD else Decimal(sums[place])
            yield f"{name}{{{_label_pairs(labels)}}} {value:f}"
    yield f"# HELP {_ALERTS} {_ALERTS_HELP}"
    yield f"# TYPE {_ALERTS} counter"
    yield f"{_ALERTS} {alerts}"


def _label_pairs(labels: tuple[str, ...]) -> str:
    names = ("function", "model", "user")
    return ",".join(
        f'{name}="{_escaped(label)}"' for name, label in zip(names, labels, strict=False)
    )


def _escaped(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return escaped.encode("utf-8", "replace").decode("utf-8")

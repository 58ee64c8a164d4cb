"""What a comparison of models found: each answer, a row for each model, and the table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from html import escape
from typing import Any, overload

from costtrace.exceptions import BudgetExceededError
from costtrace.money import format_usd
from costtrace.reports.table import Column, table, visible

_EXACT = Context(prec=60)
_RATIO = Context(prec=12)
_PLACES = 6
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one model, or why there is none."""

    prompt: int = 0
    """The number of the prompt, from 0."""
    run: int = 0
    text: str = field(default="", repr=False)
    correct: bool | None = None
    """None where nothing was asked of it."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal | None = None
    """US dollars, lost attempts included; None where no price is known."""
    latency_s: float | None = None
    """From the call to the whole answer, retries included; None without an answer."""
    error: str | None = None
    """What the call or the check raised."""

    @property
    def is_answered(self) -> bool:
        """Whether the model answered."""
        return self.latency_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model of a comparison, over all its answers."""

    model: str
    answers: tuple[Answer, ...] = field(default=(), repr=False)
    error: str | None = None
    """Why answers are missing, or what a check raised; the first of all that went wrong."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent."""
        return sum(answer.prompt_tokens for answer in self.answers)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated."""
        return sum(answer.completion_tokens for answer in self.answers)

    @property
    def tokens(self) -> int:
        """Tokens sent and generated."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> Decimal | None:
        """What all its calls cost, US dollars; None where one has no known price."""
        total = Decimal(0)
        for answer in self.answers:
            if answer.cost_usd is None:
                return None
            total = _EXACT.add(total, answer.cost_usd)
        return total

    @property
    def latency_s(self) -> float | None:
        """The median time to a whole answer, in seconds; None without any answer."""
        times = sorted(one.latency_s for one in self.answers if one.latency_s is not None)
        middle = len(times) // 2
        if not times:
            return None
        return times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.answers)

    @property
    def checked(self) -> int:
        """How many of its calls had to be right, those without an answer included."""
        return sum(answer.correct is not None for answer in self.answers)

    @property
    def correct_answers(self) -> int:
        """How many answers were right."""
        return sum(answer.correct is True for answer in self.answers)

    @property
    def correct(self) -> bool | None:
        """Whether every answer was right; None where nothing was checked."""
        return self.correct_answers == self.checked if self.checked else None

    @property
    def share_correct(self) -> float | None:
        """The share of right answers, 0 to 1; None where nothing was checked."""
        return self.correct_answers / self.checked if self.checked else None

    @property
    def cost_per_correct_usd(self) -> Decimal | None:
        """The cost of all its calls for each right answer; None without one, or without a price."""
        if self.cost_usd is None or not self.correct_answers:
            return None
        return _RATIO.divide(self.cost_usd, Decimal(self.correct_answers))

    @property
    def cost_per_answer_usd(self) -> Decimal | None:
        """The cost of all its calls for each answer, right or wrong."""
        answered = sum(answer.is_answered for answer in self.answers)
        if self.cost_usd is None or not answered:
            return None
        return _RATIO.divide(self.cost_usd, Decimal(answered))

    def facts(self) -> dict[str, Any]:
        """Return the row in plain values, as for JSON or a data frame; amounts are texts."""
        return {
            "model": self.model,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "tokens": self.tokens,
            "cost_usd": _plain(self.cost_usd),
            "latency_s": self.latency_s,
            "correct": self.correct,
            "correct_answers": self.correct_answers,
            "checked": self.checked,
            "cost_per_correct_usd": _plain(self.cost_per_correct_usd),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Sequence[ModelRow]):
    """The rows of a comparison, in the order in which the models were named.

    `str()` is the table, and a notebook shows it as one.
    """

    rows: tuple[ModelRow, ...]
    prompts: int = 1
    runs: int = 1
    stopped: BudgetExceededError | None = None
    """The budget that ended the comparison, if one did."""
    not_asked: tuple[str, ...] = ()
    """The models that were not asked any more because of it."""

    @property
    def cost_usd(self) -> Decimal | None:
        """What the comparison cost, US dollars; None where a call has no known price."""
        total = Decimal(0)
        for row in self.rows:
            if row.cost_usd is None:
                return None
            total = _EXACT.add(total, row.cost_usd)
        return total

    @property
    def tokens(self) -> int:
        """All tokens sent and generated."""
        return sum(row.tokens for row in self.rows)

    @property
    def is_checked(self) -> bool:
        """Whether answers had to be right."""
        return any(row.checked for row in self.rows)

    @property
    def cheapest(self) -> ModelRow | None:
        """The row with the least cost per correct answer (per answer, if none was checked).

        The faster one of two that cost the same; None where no row has such a cost.
        """
        priced = [(cost, row) for row in self.rows if (cost := self._cost_each(row)) is not None]
        return min(priced, key=lambda one: (one[0], one[1].latency_s or 0.0))[1] if priced else None

    def _cost_each(self, row: ModelRow) -> Decimal | None:
        return row.cost_per_correct_usd if self.is_checked else row.cost_per_answer_usd

    @overload
    def __getitem__(self, index: int) -> ModelRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ModelRow, ...]: ...

    def __getitem__(self, index: int | slice) -> ModelRow | tuple[ModelRow, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        columns, rows, total = self._cells()
        return "\n".join([table(rows, columns, total=total), *self._remarks()])

    def __repr__(self) -> str:
        cost = "of unknown cost" if self.cost_usd is None else f"{self.cost_usd} USD"
        return f"<Comparison of {len(self.rows)} models, {cost}>"

    def _repr_html_(self) -> str:
        columns, rows, total = self._cells()
        lines = ["<table>", f"<thead>{_html([c.title for c in columns], columns, 'th')}</thead>"]
        lines += ["<tbody>", *(_html(row, columns) for row in rows), "</tbody>"]
        lines += [f"<tfoot>{_html(total, columns)}</tfoot>", "</table>"]
        return "\n".join([*lines, *(f"<p>{escape(visible(one))}</p>" for one in self._remarks())])

    def _cells(self) -> tuple[list[Column], list[list[str]], list[str]]:
        shown = [True, self.is_checked, True, self.is_checked, True, True, True]
        titles = ["Model", "Correct", "Cost", "Per correct", "Tokens", "Latency", "Note"]
        columns = [
            Column(title, is_number=0 < place < 6, can_shrink=place in (0, 6))
            for place, title in enumerate(titles)
        ]
        rows = [[*_row(row), self._note(row)] for row in self.rows]
        total = ["Total", "", _usd(self.cost_usd), "", f"{self.tokens:,}", "", ""]
        kept = [_only(cells, shown) for cells in (*rows, total)]
        return _only(columns, shown), kept[:-1], [cell or " " for cell in kept[-1]]

    def _note(self, row: ModelRow) -> str:
        notes = []
        if row is self.cheapest and len(self.rows) > 1:
            notes.append("cheapest per correct answer" if self.is_checked else "cheapest")
        if row.error:
            notes.append(row.error.partition(":")[0])
        return "; ".join(notes) or " "

    def _remarks(self) -> Iterator[str]:
        if self.prompts * self.runs > 1:
            each = f"{self.prompts} {'prompt' if self.prompts == 1 else 'prompts'}"
            times = "once" if self.runs == 1 else f"{self.runs} times"
            yield f"{each}, each asked {times}: cost and tokens are sums, latency is the median."
        for row in self.rows:
            if row.error and ":" in row.error:
                yield f"{row.model}: {_shortened(row.error)}"
        if self.stopped is not None:
            left = f" Not asked: {', '.join(self.not_asked)}." if self.not_asked else ""
            yield f"Stopped: {self.stopped}.{left}"


def _row(row: ModelRow) -> list[str]:
    return [
        row.model,
        _correct(row),
        _usd(row.cost_usd) if row.calls else "-",
        "-" if row.cost_per_correct_usd is None else _usd(row.cost_per_correct_usd),
        f"{row.tokens:,}",
        "-" if row.latency_s is None else f"{row.latency_s:.2f} s",
    ]


def _correct(row: ModelRow) -> str:
    if row.checked > 1:
        return f"{row.correct_answers}/{row.checked}"
    return {True: "yes", False: "no", None: "-"}[row.correct]


def _shortened(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 3]}..."


def _usd(amount: Decimal | None) -> str:
    return "unpriced" if amount is None else format_usd(amount, _PLACES)


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _only(cells: list[Any], shown: list[bool]) -> list[Any]:
    return [cell for cell, is_shown in zip(cells, shown, strict=True) if is_shown]


def _html(cells: Sequence[str], columns: Sequence[Column], tag: str = "td") -> str:
    parts = []
    for cell, column in zip(cells, columns, strict=True):
        style = ' style="text-align:right"' if column.is_number else ' style="text-align:left"'
        parts.append(f"<{tag}{style}>{escape(visible(cell))}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"

"""A table of text: columns aligned by what a terminal shows, names cut in the middle."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

GAP = "  "
CUT = "..."
_NARROWEST = 12
_WITHOUT_TERMINAL = 100


@dataclass(frozen=True, slots=True)
class Column:
    """A column: numbers stand right, and only a column that `can_shrink` is ever cut."""

    title: str
    is_number: bool = False
    can_shrink: bool = False


def table(
    rows: Iterable[Sequence[str]],
    columns: Sequence[Column | str],
    *,
    total: Sequence[str] | None = None,
    width: int | None = None,
) -> str:
    """Return rows of cells under the titles of their columns, `total` under a line of its own.

    A column may be given as its title alone. `width` is in characters of the terminal: the
    terminal's own, or `COLUMNS`, without it.
    """
    all_columns = [Column(one) if isinstance(one, str) else one for one in columns]
    body = [[visible(cell) for cell in row] for row in rows]
    last = [] if total is None else [[visible(cell) for cell in total]]
    titles = [column.title for column in all_columns]
    widths = _widths([titles, *body, *last], all_columns, width or terminal_width())
    line = GAP.join("-" * wide for wide in widths)
    lines = [_line(row, widths, all_columns) for row in [titles, *body, *last]]
    if last:
        lines.insert(len(lines) - 1, line)
    return "\n".join([lines[0], line, *lines[1:]])


def terminal_width() -> int:
    """Return how many characters fit a line: from `COLUMNS`, else from the terminal, else 100."""
    return shutil.get_terminal_size((_WITHOUT_TERMINAL, 24)).columns


def visible(text: str) -> str:
    """Return `text` as it is safe to print: control characters stand as their escapes."""
    if text.isprintable():
        return text or "-"
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def shown_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, of 4 or more; its middle gives way."""
    if shown_width(text) <= width:
        return text
    room = width - len(CUT)
    head = _beginning(text, room - room // 2)
    return head + CUT + _beginning(text[::-1], room // 2)[::-1]


def _beginning(text: str, width: int) -> str:
    ends = accumulate(map(_char_width, text))
    return text[: sum(end <= width for end in ends)]


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _widths(rows: Sequence[Sequence[str]], columns: Sequence[Column], room: int) -> list[int]:
    widths = [max(shown_width(row[place]) for row in rows) for place in range(len(columns))]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - room
    shrinking = [place for place, column in enumerate(columns) if column.can_shrink]
    while excess > 0 and shrinking:
        widest = max(shrinking, key=lambda place: widths[place])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    cells = []
    for cell, width, column in zip(row, widths, columns, strict=True):
        text = cut(cell, width)
        padding = " " * (width - shown_width(text))
        cells.append(padding + text if column.is_number else text + padding)
    return GAP.join(cells).rstrip()

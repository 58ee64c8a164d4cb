"""The report as text for a terminal."""

from __future__ import annotations

import os
from textwrap import fill

from costtrace.reports.section import Section, heading, remarks, sections, selection
from costtrace.reports.summary import Summary
from costtrace.reports.table import table, terminal_width, visible

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def render_text(summary: Summary, *, width: int | None = None, is_colored: bool = False) -> str:
    """Return the report in lines of at most `width` characters, as far as its numbers allow.

    Without `width`, `COLUMNS` or the terminal decides. It is colored only if asked, and never
    where `NO_COLOR` is set.
    """
    is_bold = is_colored and not os.environ.get("NO_COLOR")
    titles = [heading(summary), *filter(None, [selection(summary)])]
    blocks = ["\n".join(map(visible, titles))]
    blocks += [_table(section, width, is_bold) for section in sections(summary)]
    room = width or terminal_width()
    blocks.append("\n".join(fill(visible(line), room) for line in remarks(summary)))
    return "\n\n".join(blocks) + "\n"


def _table(section: Section, width: int | None, is_bold: bool) -> str:
    text = table(section.rows, section.columns, total=section.total, width=width)
    if not is_bold:
        return text
    lines = text.split("\n")
    for place in [0, -1] if section.total else [0]:
        lines[place] = f"{_BOLD}{lines[place]}{_PLAIN}"
    return "\n".join(lines)

"""The report as Markdown, for pull requests and wikis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from costtrace.reports.section import heading, remarks, sections, selection
from costtrace.reports.summary import Summary
from costtrace.reports.table import Column, visible

_ACTIVE = re.compile(r"([\\`*_\[\]<>|~#&])")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")


def render_markdown(summary: Summary) -> str:
    """Return the report with a heading and one table for each section."""
    blocks = [f"## {_escaped(heading(summary))}"]
    if selection(summary):
        blocks.append(_escaped(selection(summary)))
    for section in sections(summary):
        rows = [*section.rows, *([section.total] if section.total else [])]
        blocks += [f"### {section.title}", markdown_table(rows, section.columns)]
    blocks += [_escaped(remark) for remark in remarks(summary)]
    return "\n\n".join(blocks) + "\n"


def markdown_table(rows: Iterable[Sequence[str]], columns: Sequence[Column | str]) -> str:
    """Return rows of cells as a Markdown table; nothing in a cell acts as Markdown or HTML."""
    all_columns = [Column(one) if isinstance(one, str) else one for one in columns]
    lines = [[_escaped(column.title) for column in all_columns]]
    lines.append(["---:" if column.is_number else "---" for column in all_columns])
    lines += [[_escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    escaped = _ACTIVE.sub(r"\\\1", visible(text))
    return _MENTION.sub("@&#8203;", escaped)  # a user's name in a comment must not call a person

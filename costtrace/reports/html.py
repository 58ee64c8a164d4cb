"""The report as HTML: one file that needs nothing else, and the part that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from costtrace.reports.section import Section, heading, remarks, sections, selection
from costtrace.reports.summary import Summary
from costtrace.reports.table import visible

_STYLE = """
.costtrace { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --line: #d1d9e0;
  --bar: #cfe3ff; color: var(--ink); background: var(--paper);
  font: 14px/1.5 system-ui, sans-serif; max-width: 64rem; margin: auto; padding: 1rem; }
@media (prefers-color-scheme: dark) {
  .costtrace { --ink: #e6edf3; --paper: #0d1117; --line: #3d444d; --bar: #1b3b66; } }
.costtrace h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
.costtrace h2 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
.costtrace div { overflow-x: auto; }
.costtrace table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.costtrace th, .costtrace td { padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  text-align: left; color: inherit; background-color: transparent; }
.costtrace td:first-child { overflow-wrap: anywhere; }
.costtrace .number { text-align: right; white-space: nowrap; }
.costtrace tfoot td { font-weight: 600; border-bottom: 0; }
"""
_SAFE = "default-src 'none'; style-src 'unsafe-inline'"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{safe}">
<title>{title}</title>
</head>
<body>
{body}
</body>
</html>
"""


def render_html(summary: Summary) -> str:
    """Return the report as a page that loads nothing, and runs nothing."""
    title = escape(visible(heading(summary)))
    return _PAGE.format(safe=_SAFE, title=title, body=html_fragment(summary))


def html_fragment(summary: Summary) -> str:
    """Return the report as an element with its own style, to stand in another page."""
    lines = ['<section class="costtrace">', f"<style>{_STYLE}</style>"]
    lines.append(f"<h1>{escape(visible(heading(summary)))}</h1>")
    if selection(summary):
        lines.append(f"<p>{escape(visible(selection(summary)))}</p>")
    for section in sections(summary):
        lines += _section(section)
    lines += [f"<p>{escape(visible(remark))}</p>" for remark in remarks(summary)]
    return "\n".join([*lines, "</section>"])


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    yield "<div><table>"
    yield f"<thead>{_row(section, [column.title for column in section.columns], 'th')}</thead>"
    yield "<tbody>"
    for place, row in enumerate(section.rows):
        yield _row(section, row, bar=section.shares[place] if section.shares else 0.0)
    yield "</tbody>"
    if section.total:
        yield f"<tfoot>{_row(section, section.total)}</tfoot>"
    yield "</table></div>"


def _row(section: Section, cells: Sequence[str], tag: str = "td", bar: float = 0.0) -> str:
    parts = []
    for place, (cell, column) in enumerate(zip(cells, section.columns, strict=True)):
        number = ' class="number"' if column.is_number else ""
        style = f' style="{_bar(bar)}"' if bar and not place else ""
        parts.append(f"<{tag}{number}{style}>{escape(visible(cell))}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def _bar(share: float) -> str:
    end = f"{share * 100:.1f}%"
    return f"background-image:linear-gradient(to right,var(--bar) {end},transparent {end})"

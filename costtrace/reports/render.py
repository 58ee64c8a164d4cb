"""Every format of a report, by its name."""

from __future__ import annotations

from collections.abc import Callable

from costtrace.reports.csv import render_csv
from costtrace.reports.html import render_html
from costtrace.reports.json import render_json
from costtrace.reports.markdown import render_markdown
from costtrace.reports.summary import Summary
from costtrace.reports.text import render_text

_RENDERERS: dict[str, Callable[[Summary], str]] = {
    "text": render_text,
    "json": render_json,
    "csv": render_csv,
    "markdown": render_markdown,
    "html": render_html,
}
FORMATS = tuple(_RENDERERS)


def render(summary: Summary, format: str = "text") -> str:  # noqa: A002
    """Return the report in one of `FORMATS`, ending with a newline.

    Raises `ValueError` for any other format.
    """
    if not isinstance(format, str) or format not in _RENDERERS:
        raise ValueError(f"format must be one of {', '.join(map(repr, FORMATS))}, not {format!r}")
    return _RENDERERS[format](summary)

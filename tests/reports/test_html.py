"""The report as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_rows import NOW, entry, totals_of

from costtrace.reports import Summary, html_fragment, render, summarize

VOID = {"meta", "!doctype"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_shows_what_the_report_says(summary: Summary) -> None:
    """All tables, the total, the honest line."""
    page = Page(render(summary, "html"))

    assert page.tags.count("table") == 6
    for cell in ("answer_question", "$3.6000", "72%", "unpriced", "(ledger)"):
        assert cell in page.text
    assert any("2 calls unpriced, in no amount: new-model." in text for text in page.text)


def test_page_needs_and_runs_nothing_else(summary: Summary) -> None:
    """No script, no address of anything to load, and a policy that forbids both."""
    text = render(summary, "html")
    page = Page(text)

    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?:|url\(|@import", text)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_page_follows_light_and_dark(summary: Summary) -> None:
    """The colors are chosen by what the reader's system prefers."""
    text = render(summary, "html")

    assert "prefers-color-scheme: dark" in text
    assert '<meta name="color-scheme" content="light dark">' in text


@pytest.mark.parametrize("field", ["function", "user", "model", "source", "note", "filter"])
def test_no_text_from_outside_becomes_markup(field: str) -> None:
    """Wherever a name may come from, it is shown as it is written."""
    evil = "<script>alert(1)</script>\"'&"
    one = entry(
        "1",
        evil if field == "function" else "f",
        user_id=evil if field == "user" else "u",
        model=evil if field == "model" else "m",
    )
    summary = summarize(totals_of([one]), created_at=NOW)
    if field == "source":
        summary = replace(summary, source=evil)
    if field == "note":
        summary = replace(summary, notes=(evil,))
    if field == "filter":
        summary = replace(summary, filters={"user_id": evil})

    page = Page(render(summary, "html"))

    assert "script" not in page.tags
    assert any(evil in text for text in page.text)


def test_bars_are_as_long_as_the_shares(summary: Summary) -> None:
    """The dearest function has 72% of a bar, an unpriced one has none."""
    styles = [value for name, value in Page(render(summary, "html")).attributes if name == "style"]

    assert "var(--bar) 72.0%" in styles[0]
    assert not any("--bar) 0.0%" in style for style in styles)


def test_fragment_stands_in_another_page(summary: Summary) -> None:
    """What a notebook shows has no page around it, and styles nothing but itself."""
    fragment = html_fragment(summary)

    assert fragment.startswith('<section class="costtrace">')
    assert fragment in render(summary, "html")
    style = re.search(r"<style>(.*)</style>", fragment, re.S)
    assert style
    rules = style[1].replace("@media (prefers-color-scheme: dark) {", "")
    for selectors in re.findall(r"^\s*([^{}\n]+)\{", rules, re.M):
        assert all(one.strip().startswith(".costtrace") for one in selectors.split(","))


def test_empty_ledger_says_so(empty: Summary) -> None:
    """No tables of nothing."""
    page = Page(render(empty, "html"))

    assert "table" not in page.tags
    assert "No calls yet." in page.text

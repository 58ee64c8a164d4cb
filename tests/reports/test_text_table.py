"""Tables of text: aligned as a terminal shows them, safe to print, never wider than they must."""

from __future__ import annotations

import unicodedata

import pytest

from costtrace.reports import Column, table

NAME, NUMBER = Column("Name", can_shrink=True), Column("Calls", is_number=True)


def columns_of(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def test_names_stand_left_and_numbers_right() -> None:
    """Columns are two blanks apart, and no line ends in blanks."""
    text = table([("ab", "7"), ("a", "1,234")], [NAME, NUMBER], total=("Total", "1,241"), width=80)

    assert text.split("\n") == [
        "Name   Calls",
        "-----  -----",
        "ab         7",
        "a      1,234",
        "-----  -----",
        "Total  1,241",
    ]


def test_column_may_be_just_its_title() -> None:
    """A title alone is a column of text; a table without rows still has its titles."""
    assert table([("x", "y")], ["A", "B"], width=80) == "A  B\n-  -\nx  y"
    assert table([], ["A", "B"], width=80) == "A  B\n-  -"


def test_long_name_is_cut_in_the_middle() -> None:
    """Both ends of a name stay, since packages begin alike and functions end alike."""
    name = "package.subpackage.module.Class.method"
    text = table([(name, "1")], [NAME, NUMBER], width=30)

    cell = text.split("\n")[2].split()[0]
    assert cell.startswith("package.su")
    assert cell.endswith("ass.method")
    assert "..." in cell
    assert max(map(len, text.split("\n"))) == 30


def test_numbers_are_never_cut() -> None:
    """A terminal that is too narrow gets lines that are too long, not wrong figures."""
    text = table([("a" * 40, "1,234,567,890")], [NAME, NUMBER], width=10)

    assert "1,234,567,890" in text
    assert "a" * 40 not in text


def test_wide_characters_take_two_columns() -> None:
    """Chinese names, full-width letters and combining marks do not push the numbers out of line."""
    rows = [("分析文档", "1"), ("plain", "22"), ("re\u0301sume\u0301", "333")]
    lines = table(rows, [NAME, NUMBER], width=80).split("\n")

    assert columns_of(lines[2]) == columns_of(lines[3]) == 15
    assert len(lines[4]) == 17, "the two marks take no room"
    cut = table([("分析文档" * 10, "1")], [NAME, NUMBER], width=30).split("\n")
    assert columns_of(cut[2]) == 30


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202eevil", r"\u202eevil"),
        ("", "-"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_shown_not_obeyed(name: str, shown: str) -> None:
    """A user's name can neither break the table nor speak to the terminal."""
    assert table([(name,)], [NAME], width=80).split("\n")[2] == shown


def test_width_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`COLUMNS` says how wide a line may be."""
    monkeypatch.setenv("COLUMNS", "40")

    text = table([("n" * 100, "1")], [NAME, NUMBER])

    assert max(map(len, text.split("\n"))) == 40


def test_row_of_another_length_is_refused() -> None:
    """A cell too few is a mistake of the caller, found at once."""
    with pytest.raises((ValueError, IndexError)):
        table([("a",)], [NAME, NUMBER], width=80)

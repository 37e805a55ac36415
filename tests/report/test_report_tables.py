"""Tables at any width: no name or number is broken, whatever is long."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from samespace.report.tables import Column, print_table, say, shortened

LONG = "photos/2024-11/berlin/shop-window-000000000000000000000000000000017.jpeg"
COLUMNS = (
    Column("query", shortens=True),
    Column("rank", "right"),
    Column("item", shortens=True),
    Column("cosine", "right"),
)


def printed(width: int, rows: list[list[str]]) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(COLUMNS, [[Text(cell) for cell in row] for row in rows], console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_each_row_keeps_its_numbers_and_both_ends_of_its_names(width):
    text = printed(width, [[LONG, "1", LONG[::-1], "0.1234"], ["", "2", "short", "0.5678"]])
    assert max(map(len, text.splitlines())) <= width
    for whole in ("0.1234", "0.5678", "short", "photo", ".jpeg", "gepj.", "query", "cosine"):
        assert whole in text
    assert (LONG in text) == (width == 300)
    lines = [line for line in text.splitlines() if "photo" in line]
    assert len(lines) == 1
    assert ("…" in lines[0]) == (width < 300)


def test_a_row_that_no_width_holds_becomes_a_list():
    text = printed(20, [["a", "1", "b", "0.1234"]])
    assert [line.split() for line in text.splitlines()] == [["a"], ["rank", "1"], ["item", "b"], ["cosine", "0.1234"]]


@pytest.mark.parametrize("width", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("text", [LONG, "名前名前名前名前名前", "x", ""])
def test_a_shortened_name_is_as_wide_as_allowed(text, width):
    from rich.cells import cell_len

    found = shortened(text, width)
    assert cell_len(found) <= width
    assert found == text or "…" in found


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_sentence_breaks_between_words_alone(width):
    console = Console(file=io.StringIO(), width=width)
    say(Text(f"note: item '{LONG}{LONG}' is the first of a great many that are in queries and gallery"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"'{LONG}{LONG}'" in text
    assert all(len(line) <= width or LONG in line for line in text.splitlines())

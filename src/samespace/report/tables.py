"""Tables and lines in the terminal that break no name or number: shortened in the middle, or one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LEAST = 12


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: above it; it may have two lines.
        justify: `right` for numbers.
        shortens: whether its cells are names, which may be shortened in the middle where the terminal is narrow.
    """

    title: str
    justify: Literal["left", "right"] = "left"
    shortens: bool = False


Row = Sequence[Text]


def print_table(columns: Sequence[Column], rows: Sequence[Row], console: Console, *, gap: int = 2) -> None:
    """Print rows in as many columns as the terminal holds, names shortened if need be; else each row as a list.

    Args:
        columns: from left to right; the first names the row.
        rows: a cell for each column.
        console: where to print.
        gap: spaces between columns.
    """
    widths = _widths(columns, rows, console.width, gap)
    if widths is None:
        _print_lists(columns, rows, console)
        return
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.title, justify=column.justify, no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(
            *(
                _shortened(cell, width) if column.shortens else cell
                for cell, column, width in zip(row, columns, widths, strict=True)
            )
        )
    console.print(table)


def say(line: Text, console: Console) -> None:
    """Print a line, broken between words alone: a name or path that is longer than the terminal stays whole."""
    parts = wrap(line.plain, console.width, break_long_words=False, break_on_hyphens=False) or [""]
    for part in parts:
        console.print(Text(part, style=line.style), soft_wrap=True)


def shortened(text: str, width: int) -> str:
    """A name in at most `width` cells of the terminal, its middle replaced by an ellipsis where it is longer.

    Example:
        >>> shortened("images/shop/red-shoe-0001.png", 16)
        'images/…0001.png'
    """
    if cell_len(text) <= width:
        return text
    head = max(0, (width - 1) // 2)
    tail = max(0, width - 1 - head)
    return f"{set_cell_size(text, head)}…{set_cell_size(text[::-1], tail)[::-1]}"


def _shortened(cell: Text, width: int) -> Text:
    return cell if cell_len(cell.plain) <= width else Text(shortened(cell.plain, width), style=cell.style)


def _widths(columns: Sequence[Column], rows: Sequence[Row], room: int, gap: int) -> list[int] | None:
    """The width of each column, those of names as narrow as needed; None where that does not suffice."""
    widths = [
        max(map(_width, (column.title, *(row[place].plain for row in rows)))) for place, column in enumerate(columns)
    ]
    room -= gap * (len(columns) - 1)
    while sum(widths) > room:
        names = [place for place, column in enumerate(columns) if column.shortens and widths[place] > _LEAST]
        if not names:
            return None
        widths[max(names, key=widths.__getitem__)] -= 1
    return widths


def _width(text: str) -> int:
    return max(cell_len(line) for line in text.split("\n"))


def _print_lists(columns: Sequence[Column], rows: Sequence[Row], console: Console) -> None:
    titles = [column.title.replace("\n", " ") for column in columns]
    wide = max(map(cell_len, titles[1:]), default=0)
    for row in rows:
        name = row[0].plain.replace("\n ", "")
        if name:
            console.print(Text(shortened(name, console.width), style="bold"), soft_wrap=True)
        for title, column, cell in zip(titles[1:], columns[1:], row[1:], strict=True):
            if cell.plain:
                value = _shortened(cell, max(_LEAST, console.width - wide - 4)) if column.shortens else cell
                line = Text.assemble(f"  {title}{' ' * (wide - cell_len(title))}  ", value)
                console.print(line, soft_wrap=True)

"""Metadata of items from a file: JSON lines or a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samespace import text
from samespace.errors import InputError, short
from samespace.text import Scalar

_WHAT = "metadata: JSON lines or a CSV, with an id and columns"
_DELIMITERS = (",", ";", "\t")
_TABLES = (".csv", ".tsv")
_AS_WRITTEN = ("id", "label")
Numbered = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class MetadataFile:
    """What a file of metadata says.

    Attributes:
        items: the values by item id, then by name.
        columns: what the values of each name are, `numbers`, `text`, `true or false` or `mixed`.
        notes: columns that are text for the sake of a single cell, a sentence each.
    """

    items: dict[str, dict[str, Scalar]]
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_metadata(path: str | Path) -> dict[str, dict[str, Scalar]]:
    """Metadata by item id from a file with one item per line; see `read_metadata_file`."""
    return read_metadata_file(path).items


def read_metadata_file(path: str | Path) -> MetadataFile:
    """Metadata from a file with one item per line.

    `.csv` and `.tsv`: a header with a column `id`, parted by commas, semicolons or tabs, empty cells left out. The
    cells of a column are numbers if each is written as that number is printed, `2024` or `0.5`, and booleans if all
    are `true` or `false`; otherwise all are text, as `007`, `1_000`, `12E3` or `2.50` make them. `label` is always
    text. Everything else is read as JSON lines: `{"id": "a.jpg", "shop": "berlin", "year": 2024}`.

    Raises:
        InputError: the file is missing or malformed, an id comes twice, or a value is no string, number or boolean.
    """
    place = Path(path)
    notes: list[str] = []
    rows = (
        _table(place, notes)
        if place.suffix.lower() in _TABLES
        else text.json_lines(place, _WHAT, "an object with an id")
    )
    items: dict[str, dict[str, Scalar]] = {}
    found: set[tuple[str, type]] = set()
    for number, row in rows:
        name = row.pop("id", None)
        if not isinstance(name, str) or not name:
            raise InputError(f"{place}, line {number}: expected an id, a string, got {short(name)}")
        if name in items:
            raise InputError(f"{place}, line {number}: the id {short(name)} comes twice")
        for key, value in row.items():
            kind = type(value)
            if not (kind is str or kind is bool or _is_number(value)):
                raise InputError(_unusable(value, key, name, f"{place}, line {number}"))
            found.add((key, kind))
        items[name] = row
    if not items:
        raise InputError(f"{place} holds no metadata")
    return MetadataFile(items, _columns(found), tuple(notes))


def _columns(found: set[tuple[str, type]]) -> dict[str, str]:
    """What the values of each name are, from the types met under it."""
    kinds: dict[str, set[str]] = {}
    for key, kind in found:
        kinds.setdefault(key, set()).add({str: "text", bool: "true or false"}.get(kind, "numbers"))
    return {key: kinds[key].pop() if len(kinds[key]) == 1 else "mixed" for key in sorted(kinds)}


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _unusable(value: Any, key: str, name: str, where: str) -> str:
    of = f"{where}: {short(key)} of {short(name)}"
    if isinstance(value, int):
        return f"{of} has more than 64 bits; write it as text, in quotes"
    return f"{of} should be a string, a finite number, true or false, got {short(value)}"


def _table(path: Path, notes: list[str]) -> Numbered:
    content = text.read(path, _WHAT)
    header, delimiter = _header(path, content)
    table = [(number, row) for number, row in text.split_rows(content, path, delimiter)][1:]
    for number, row in table:
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: expected {len(header)} values, got {len(row)}")
    columns: list[list[Scalar]] = []
    for place, key in enumerate(header):
        cells = [row[place] for _, row in table]
        if not key and any(cells):
            raise InputError(f"{path}, line 1: column {place + 1} has values but no name")
        columns.append(_typed(key, cells, notes))
    for (number, _), values in zip(table, zip(*columns, strict=True), strict=True):
        yield number, {key: value for key, value in zip(header, values, strict=True) if value != ""}


def _typed(key: str, cells: list[str], notes: list[str]) -> list[Scalar]:
    """A column's values; empty cells stay empty text."""
    filled = [cell for cell in cells if cell]
    if key in _AS_WRITTEN or not filled:
        return list(cells)
    values, odd = text.typed_column(filled)
    if odd is not None:
        notes.append(f"'{key}' is text, because {odd[:40]!r} is not how a number is printed, or a number in two ways")
    if len(filled) == len(cells):
        return values
    given = iter(values)
    return [next(given) if cell else "" for cell in cells]


def _header(path: Path, content: str) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter by which `id` is one of them."""
    first: list[str] = []
    fault: InputError | None = None
    for delimiter in _DELIMITERS:
        try:
            names = [name.strip() for name in next(text.split_rows(content, path, delimiter), (1, []))[1]]
        except InputError as error:
            # another delimiter may be the one by which the quotes are right
            fault = fault or error
            continue
        if "id" in names:
            if twice := [name for name in names if name and names.count(name) > 1]:
                raise InputError(f"{path}, line 1: the column '{twice[0]}' comes twice")
            return names, delimiter
        first = first or names
    raise fault or InputError(
        f"{path}: expected a header with a column 'id', got {', '.join(first)[:120] or 'nothing'}"
    )

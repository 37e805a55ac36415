"""CSV with vectors: read by pyarrow in blocks, every cell as text first, so that an id such as `007` stays."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError, suggest
from samespace.names import fault
from samespace.text import require_names_once, split_lines, split_rows
from samespace.vectors.columns import Names

if TYPE_CHECKING:
    import pyarrow

_BLOCK_BYTES = 1 << 23
_HEAD_BYTES = 1 << 22
_LISTED = re.compile(r"\s*\[\s*[-+.\d]")
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)", re.DOTALL)
MADE = "vector"
"""Name of the column of vectors, where they stand in one column a dimension."""


@dataclass(frozen=True)
class Shape:
    """How a CSV file holds vectors.

    Attributes:
        delimiter: between cells.
        columns: all of them.
        parts: the columns of the dimensions, in order; empty where one column holds JSON.
        column: the column of vectors, as the schema calls it.
        dim: dimensions, 0 where reading tells.
        schema: of the batches.
    """

    delimiter: str
    columns: tuple[str, ...]
    parts: tuple[str, ...]
    column: str
    schema: Any

    def named(self, names: Names) -> Names:
        """The names with the column of vectors as the schema calls it."""
        return replace(names, vector=self.column)


def csv_shape(path: Path, named: str | None) -> Shape:
    """Read the first line of a CSV file and tell where the vectors are.

    `named` is a column of JSON lists, or what the numbered columns begin with, such as `v` of `v0`, `v1`, …

    Raises:
        InputError: there are no such columns, or several that might be.
    """
    import pyarrow

    header, first, delimiter = _head(path)
    stems = _numbered(header)
    text = [name for name, cell in zip(header, first, strict=False) if _LISTED.match(cell)]
    choices = [*text, *stems]
    if named is not None:
        if named not in choices and named not in header:
            raise InputError(f"{path} has no column '{named}'; {suggest(named, [*choices, *header][:40])}")
        choices = [named]
    if len(choices) != 1:
        told = (
            f"several: {', '.join(choices)}; say which with --vector-column"
            if choices
            else (
                "none: expected columns v0, v1, … or one column of JSON lists such as [0.1, 0.2]; it has "
                + ", ".join(header)[:200]
            )
        )
        raise InputError(f"{path}: columns that may be vectors: {told}")
    parts = stems.get(choices[0], ()) if choices[0] not in text else ()
    column = choices[0] if not parts else (MADE if MADE not in header else MADE + "_")
    rest = [name for name in header if name not in parts and name != column]
    kind = pyarrow.list_(pyarrow.float32(), len(parts)) if parts else pyarrow.list_(pyarrow.float32())
    schema = pyarrow.schema([(column, kind), *((name, pyarrow.string()) for name in rest)])
    return Shape(delimiter, tuple(header), tuple(parts), column, schema)


def csv_batches(path: Path, shape: Shape) -> Iterator[pyarrow.RecordBatch]:
    """The rows in batches, vectors as lists of float32 and everything else as text.

    Raises:
        InputError: a cell of a vector is no number, or no list of numbers.
    """
    import pyarrow
    import pyarrow.csv

    with (
        _explained(path, shape.delimiter),
        pyarrow.csv.open_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=shape.delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(shape.columns, pyarrow.string()), strings_can_be_null=False
            ),
        ) as reader,
    ):
        row = 0
        for batch in reader:
            if shape.parts:
                vectors = _joined(batch, shape, path, row)
            else:
                vectors = _parsed(batch.column(shape.column), shape, path, row)
            rest = [batch.column(name) for name in shape.schema.names[1:]]
            yield pyarrow.RecordBatch.from_arrays([vectors, *rest], schema=shape.schema)
            row += batch.num_rows


@contextmanager
def _explained(path: Path, delimiter: str) -> Iterator[None]:
    """Say what pyarrow says of a row, or of bytes that are no text, in our words."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise InputError(f"{path}: not UTF-8 text; save it as UTF-8") from None
        if found := re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error)):
            number, expected, got = found.groups()
            number = number or _line_of_other_length(path, delimiter, int(expected))
            raise InputError(f"{path}: line {number} has {got} cells, the first {expected}") from None
        raise


def _line_of_other_length(path: Path, delimiter: str, cells: int) -> int:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        return next((rows.line_num for row in rows if row and len(row) != cells), rows.line_num)


def _joined(batch: pyarrow.RecordBatch, shape: Shape, path: Path, row: int) -> Any:
    import pyarrow
    import pyarrow.compute as compute

    values = np.empty((batch.num_rows, len(shape.parts)), dtype=np.float32)
    for place, name in enumerate(shape.parts):
        cells = batch.column(name)
        try:
            numbers = cells.cast(pyarrow.float32())
        except pyarrow.ArrowInvalid:
            # blanks around a number are none of it
            numbers = _numbers(compute.ascii_trim_whitespace(cells), cells, name, path, row)
        values[:, place] = numbers.to_numpy(zero_copy_only=False)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), len(shape.parts))


def _numbers(trimmed: Any, cells: Any, name: str, path: Path, row: int) -> Any:
    """The numbers of a column, of which perhaps one cell is none."""
    import pyarrow

    try:
        return trimmed.cast(pyarrow.float32())
    except pyarrow.ArrowInvalid:
        for number, cell in enumerate(trimmed):
            try:
                cell.cast(pyarrow.float32())
            except pyarrow.ArrowInvalid:
                told = f"row {row + number} (column '{name}'; rows count from 0) holds {cells[number].as_py()!r}"
                raise InputError(f"{path}: {told}; expected a number") from None
        raise


def _parsed(column: Any, shape: Shape, path: Path, row: int) -> Any:
    import pyarrow

    lists = []
    for number, cell in enumerate(column.to_pylist()):
        try:
            value = json.loads(cell)
            # true, "1" and [1] would pass for numbers
            if not isinstance(value, list) or not {type(part) for part in value} <= {int, float}:
                raise ValueError
            lists.append(np.array(value, dtype=np.float64))
        except (ValueError, OverflowError, RecursionError):
            raise InputError(
                f"{path}: row {row + number} (column '{shape.column}'; rows count from 0) holds {cell[:60]!r}; "
                "expected a list of numbers such as [0.1, 0.2]"
            ) from None
    offsets = np.concatenate([[0], np.cumsum([len(item) for item in lists])]).astype(np.int32)
    with np.errstate(over="ignore"):
        flat = np.concatenate(lists).astype(np.float32) if lists else np.empty(0, np.float32)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(flat))


def _head(path: Path) -> tuple[list[str], list[str], str]:
    """Names of the columns, cells of the first row, and the delimiter."""
    with path.open("rb") as file:
        raw = file.read(_HEAD_BYTES)
    text = raw.decode("utf-8-sig", errors="surrogateescape")
    line = next(filter(None, split_lines(text)), "")
    if not line:
        raise InputError(f"{path} is empty; expected a line of column names and a line for each vector")
    delimiter = max(",;\t", key=line.count)
    cut = text if len(raw) < _HEAD_BYTES else text[: text.rfind("\n")]
    found = [row for _, (_, row) in zip(range(2), split_rows(cut, path, delimiter), strict=False)]
    header = found[0]
    if any(map(fault, header)):
        raise InputError(f"{path}: the first line is not UTF-8 text, or holds NUL; save it as UTF-8 text")
    require_names_once(header, path)
    return header, found[1] if len(found) > 1 else [], delimiter


def _numbered(header: list[str]) -> dict[str, tuple[str, ...]]:
    """By what their names begin with, two or more columns numbered without a gap from 0 or 1, in that order."""
    groups: dict[str, dict[int, str]] = {}
    for name in header:
        if match := _NUMBERED.fullmatch(name):
            groups.setdefault(match["stem"], {})[int(match["number"])] = name
    found = {}
    for stem, members in groups.items():
        order = sorted(members)
        if len(order) > 1 and order[0] in (0, 1) and order[-1] - order[0] == len(order) - 1:
            found[stem] = tuple(members[number] for number in order)
    return found

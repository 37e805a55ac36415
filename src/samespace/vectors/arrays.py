"""Vectors as one array, in an `.npy` file or a memory map, and the file that names their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, counted
from samespace.files import UNREADABLE, require_file
from samespace.space import Space
from samespace.text import lines, rows
from samespace.vectors.columns import Columns, Names, find_columns, is_usual
from samespace.vectors.files import file_stamp
from samespace.vectors.source import ROWS, Batch, Source, float_of
from samespace.vectors.tables import items_of, readable, require_finite

if TYPE_CHECKING:
    import pyarrow

_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather")
WHAT = "the ids of vectors: .txt with one a line, .csv or .parquet with a column 'id'"


def npy_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of an `.npy` file, memory-mapped, with the items of `names.ids` or of the file that lies beside it.

    Beside `old.npy` this is `old.ids.csv`, or the same with `.txt` or another ending that ids may have.

    Raises:
        InputError: no such file, no array of floats of two dimensions, or ids that do not fit.
    """
    require_file(path, "an array of vectors")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as .npy: it is damaged, cut short or holds no numbers; expected an array of vectors"
        ) from error
    if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype.kind != "f":
        cure = "; save array.astype('float32')" if vectors.dtype.kind in "iub" else ""
        got = "none" if vectors.ndim == 2 and not len(vectors) else f"{vectors.dtype} of {vectors.shape}"
        raise InputError(f"{path}: expected floats of shape (items, dims), got {got}{cure}")
    given = names.ids if names.ids is not None else beside(path)
    items = read_ids(Path(given), len(vectors), path, names) if given is not None else None
    stamp = file_stamp(path) + ("" if given is None else f"; ids {file_stamp(Path(given))}")
    source = array_source(str(path), vectors, items, stamp=stamp, metadata=metadata)
    return source if given is None else replace(source, named_by=str(given))


def array_source(
    name: str,
    vectors: npt.NDArray[np.floating[Any]],
    items: tuple[pyarrow.Table, Columns] | None,
    *,
    stamp: str,
    metadata: bool,
    space: Space | None = None,
) -> Source:
    """The vectors of an array of any float type with their items, whose columns are told; None where they have none."""
    import pyarrow

    kind = float_of(vectors.dtype)
    table, columns = items if items is not None else (None, Columns(""))

    def batches(start: int) -> Iterator[Batch]:
        for row in range(start, len(vectors), ROWS):
            with np.errstate(over="ignore"):
                part: Any = np.ascontiguousarray(vectors[row : row + ROWS], dtype=kind)
            require_finite(part, name, row)
            if table is None:
                yield Batch(part, pyarrow.table({"row": pyarrow.array(np.arange(row, row + len(part)))}))
            else:
                piece = table.slice(row, len(part)).combine_chunks()
                yield Batch(part, items_of(piece, columns, name, row, metadata=metadata))

    ready = vectors if vectors.dtype == kind else None
    return Source(name, int(vectors.shape[1]), kind, len(vectors), columns, stamp, batches, space, True, ready)


def beside(path: Path) -> str | None:
    """The file of ids that lies beside vectors, `NAME.ids.csv` and so on; None where there is none."""
    places = [path.with_name(f"{path.stem}.ids{ending}") for ending in _ENDINGS]
    return next((str(place) for place in places if place.is_file()), None)


def stamp_of(place: Path) -> str | None:
    """What changes when the vectors of a folder or a file do, or the ids beside them; None where neither is there."""
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    else:
        files = [file for file in (place, *map(Path, filter(None, [beside(place)]))) if file.is_file()]
    return "; ".join(f"{file.name} {file_stamp(file)}" for file in files) or None


def read_ids(path: Path, count: int, vectors: Path, names: Names) -> tuple[pyarrow.Table, Columns]:
    """The items of `count` vectors, and what their columns are.

    Text has one id a line; a table has a line of column names, which it may lack where it has one or two columns: the
    id, then the label.

    Raises:
        InputError: the file cannot be read, has no ids, or not one for each vector.
    """
    import pyarrow

    require_file(path, WHAT)
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(f"{path}: ids are read from {', '.join(_ENDINGS)}, not from '{ending}'")
    if ending == ".txt":
        table = pyarrow.table({"id": [line.strip() for _, line in lines(path, WHAT)]})
    elif ending in (".csv", ".tsv"):
        table = _table(path, count, "\t" if ending == ".tsv" else None)
    else:
        table = _columns(path)
    if table.num_rows != count:
        raise InputError(f"{path} names {table.num_rows:,} items, but {vectors} holds {count:,} vectors")
    columns = find_columns(table.schema, replace(names, vector=None), str(path), vectors=False)
    if columns.id is None:
        raise InputError(f"{path} has no column of ids; it has {', '.join(table.column_names)}; name it: --id-column")
    return table, columns


def _columns(path: Path) -> Any:
    import pyarrow.feather
    import pyarrow.parquet

    from samespace.vectors.columns import is_vector

    with readable(str(path)):
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            table = pyarrow.feather.read_table(path)
    return table.select([item.name for item in table.schema if not is_vector(item.type)])


def _table(path: Path, count: int, delimiter: str | None) -> Any:
    import pyarrow

    if delimiter is None:
        first = next(lines(path, WHAT), (0, ""))[1]
        delimiter = max(",;\t", key=first.count)
    numbered = list(rows(path, WHAT, delimiter))
    found = [row for _, row in numbered]
    if not found:
        raise InputError(f"{path} is empty; expected {WHAT}")
    width = len(found[0])
    named = len(found) == count + 1 or width > 2 or is_usual(found[0][0], "id")
    header = found.pop(0) if named else ["id", "label"][:width]
    for number, row in numbered:
        if len(row) != width:
            raise InputError(f"{path}, line {number}: {counted(len(row), 'cell')}; the first line has {width}")
    if len(set(header)) < width:
        raise InputError(f"{path}: its first line should hold different names of columns, got {', '.join(header)}")
    return pyarrow.table({name: [row[place] for row in found] for place, name in enumerate(header)})

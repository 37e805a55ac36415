"""Vectors in files of columns: Parquet, Arrow, Feather and CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError
from samespace.files import require_file
from samespace.vectors.columns import Names
from samespace.vectors.source import ROWS, Source
from samespace.vectors.tables import readable, table_source

if TYPE_CHECKING:
    import pyarrow

WHAT = "a table of vectors"


def file_stamp(path: Path) -> str:
    """What changes when a file does: its size and time."""
    about = path.stat()
    return f"{about.st_size} bytes, {about.st_mtime_ns}"


def parquet_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of a Parquet file, row group by row group."""
    import pyarrow.parquet

    require_file(path, WHAT)
    with readable(str(path)), pyarrow.parquet.ParquetFile(path) as file:
        schema, about = file.schema_arrow, file.metadata
        sizes = np.array([about.row_group(group).num_rows for group in range(about.num_row_groups)], dtype=np.int64)

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        ends = np.cumsum(sizes)
        first = int(np.searchsorted(ends, start, side="right"))
        skip = start - int(ends[first - 1] if first else 0)
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            for group in range(first, len(sizes)):
                # one row group at a time: of several, the reader keeps what it has read until the last
                yield from after(file.iter_batches(ROWS, row_groups=[group], columns=columns), skip)
                skip = 0

    return table_source(str(path), schema, read, names, count=about.num_rows, stamp=file_stamp(path), metadata=metadata)


def arrow_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of an Arrow file or stream, or of Feather, memory-mapped."""
    require_file(path, WHAT)
    with readable(str(path)):
        opened = _arrow(path)
        count = sum(batch.num_rows for batch in _batches_of(opened)) if not hasattr(opened, "read_next_batch") else None

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        yield from after((batch.select(columns) for batch in _batches_of(_arrow(path))), start)

    return table_source(str(path), opened.schema, read, names, count=count, stamp=file_stamp(path), metadata=metadata)


def csv_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of a CSV file: one column a dimension (`v0`, `v1`, …), or one column of JSON lists."""
    from samespace.vectors.text_tables import csv_batches, csv_shape

    require_file(path, WHAT)
    with readable(str(path)):
        shape = csv_shape(path, names.vector)

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        for batch in after(csv_batches(path, shape), start):
            yield batch.select(columns)

    return table_source(
        str(path), shape.schema, read, shape.named(names), count=None, stamp=file_stamp(path), metadata=metadata,
        textual=True,
    )  # fmt: skip


def after(batches: Iterator[pyarrow.RecordBatch], start: int) -> Iterator[pyarrow.RecordBatch]:
    """The batches without their first `start` rows."""
    for batch in batches:
        if start >= batch.num_rows:
            start -= batch.num_rows
            continue
        yield batch.slice(start) if start else batch
        start = 0


def _arrow(path: Path) -> Any:
    import pyarrow
    import pyarrow.feather

    with path.open("rb") as file:
        head = file.read(6)
    if head == b"ARROW1":
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
    if head[:4] == b"FEA1":
        return pyarrow.feather.read_table(path, memory_map=True)
    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))
    except pyarrow.ArrowInvalid:
        raise InputError(f"{path} is neither an .arrow file or stream nor .feather, or is cut short") from None


def _batches_of(opened: Any) -> Iterator[pyarrow.RecordBatch]:
    if hasattr(opened, "get_batch"):
        return (opened.get_batch(place) for place in range(opened.num_record_batches))
    return iter(opened.to_batches() if hasattr(opened, "to_batches") else opened)

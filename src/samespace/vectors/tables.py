"""Record batches of Arrow, wherever they come from, as batches of vectors with their items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SamespaceError
from samespace.names import require_names
from samespace.space import Space
from samespace.vectors.columns import Columns, Names, find_columns
from samespace.vectors.source import ROWS, Batch, Source

if TYPE_CHECKING:
    import pyarrow

SPACE_KEY = b"samespace.space"
"""Key of a table's metadata that holds the space of its vectors, as JSON."""

RecordBatches = Callable[[int, list[str]], "Iterator[pyarrow.RecordBatch]"]
"""From a row on, the record batches of these columns."""


def table_source(
    name: str,
    schema: pyarrow.Schema,
    read: RecordBatches,
    names: Names,
    *,
    count: int | None,
    stamp: str,
    metadata: bool,
    textual: bool = False,
) -> Source:
    """A source of the vectors in a table; `metadata`: whether its other columns are read too.

    Raises:
        InputError: the columns cannot be told, or the first vector is none.
    """
    columns = find_columns(schema, names, name)
    kept = [columns.vector, *columns.roles().values(), *(columns.metadata if metadata else ())]
    kind = _float_of(schema.field(columns.vector).type)
    dim = _fixed_dim(schema.field(columns.vector).type)
    if dim is None:
        with readable(name):
            dim = _first_dim(read(0, [columns.vector]), name, columns.vector)

    def batches(start: int) -> Iterator[Batch]:
        row = start
        with readable(name):
            for part in read(start, kept):
                for piece in _pieces(part):
                    vectors = _vectors(piece.column(columns.vector), dim, kind, name, columns.vector, row)
                    yield Batch(vectors, items_of(piece, columns, name, row, metadata=metadata))
                    row += len(vectors)

    return Source(name, dim, kind, count, columns, stamp, batches, space_of(schema, name), textual)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into one line."""
    import pyarrow

    try:
        yield
    except SamespaceError:
        raise
    except (pyarrow.ArrowException, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        ending = name[name.rfind(".") :] if "." in name[-9:] else "a table"
        raise InputError(
            f"{name} cannot be read as {ending}: it is damaged, cut short or of another kind; expected a table of "
            "vectors, such as of columns vector, id and label"
        ) from error


def items_of(
    batch: pyarrow.RecordBatch | pyarrow.Table, columns: Columns, name: str, row: int, *, metadata: bool
) -> pyarrow.Table:
    """The items of a batch whose first row is `row`: ids and classes, then metadata where wanted.

    A metadata column that is called as one of these is kept with an underscore after its name.

    Raises:
        InputError: an id or a class is missing or has a type that is neither text nor a whole number.
    """
    import pyarrow

    found: dict[str, Any] = {}
    for role, column in columns.roles().items():
        found[role] = _names(batch.column(column), role, column, name, row)
    if metadata:
        for column in columns.metadata:
            found[column + "_" * (column in ("id", "label", "template"))] = batch.column(column)
    if not found:
        found["row"] = pyarrow.array(np.arange(row, row + batch.num_rows))
    return pyarrow.table(found)


def space_of(schema: pyarrow.Schema, name: str) -> Space | None:
    """The space that a table's metadata declares.

    Raises:
        InputError: it was altered.
    """
    import json

    text = (schema.metadata or {}).get(SPACE_KEY)
    if text is None:
        return None
    try:
        return Space.from_dict(json.loads(text), f"{name}, the metadata key {SPACE_KEY.decode()}")
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: the metadata key {SPACE_KEY.decode()} is not valid JSON") from None


def _pieces(batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    for start in range(0, batch.num_rows, ROWS):
        yield batch.slice(start, ROWS)


def _storage(kind: pyarrow.DataType) -> Any:
    import pyarrow

    return kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind


def _float_of(kind: pyarrow.DataType) -> npt.DTypeLike:
    import pyarrow

    return np.float16 if _storage(kind).value_type == pyarrow.float16() else np.float32


def _fixed_dim(kind: pyarrow.DataType) -> int | None:
    import pyarrow.types as types

    kind = _storage(kind)
    return int(kind.list_size) if types.is_fixed_size_list(kind) else None


def _first_dim(batches: Iterator[pyarrow.RecordBatch], name: str, column: str) -> int:
    for batch in batches:
        if batch.num_rows:
            first = batch.column(0)[0]
            if not first.is_valid or not len(first):
                raise InputError(f"{name}: the vector of row 0 (the first; column '{column}') is missing or empty")
            return len(first)
    raise InputError(f"{name} holds no vectors")


def _vectors(
    column: pyarrow.Array, dim: int, kind: npt.DTypeLike, name: str, label: str, row: int
) -> npt.NDArray[np.floating[Any]]:
    """(n, dim) of a column of lists whose first row is `row`; no copy where none is needed."""
    import pyarrow
    import pyarrow.types as types

    if isinstance(column, pyarrow.ExtensionArray):
        column = column.storage
    if column.null_count:
        missing = row + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{name}: row {missing} has no vector (column '{label}' is null; rows count from 0); each should have "
            "one, all of one length"
        )
    if not types.is_fixed_size_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        if (lengths != dim).any():
            place = int(np.argmax(lengths != dim))
            raise InputError(
                f"{name}: the vector of row {row + place} (column '{label}'; rows count from 0) has {lengths[place]} "
                f"dimensions, those before it {dim}; they should be all of one length"
            )
    values = column.flatten()
    if values.null_count:
        place = row + int(np.argmin(values.is_valid().to_numpy(zero_copy_only=False))) // dim
        raise InputError(
            f"{name}: the vector of row {place} (column '{label}'; rows count from 0) holds a null; fill it or leave "
            "it out"
        )
    with np.errstate(over="ignore"):
        vectors = values.to_numpy().reshape(-1, dim).astype(kind, copy=False)
    require_finite(vectors, name, row)
    return np.asarray(vectors)


def require_finite(vectors: npt.NDArray[np.floating[Any]], name: str, row: int) -> None:
    """Refuse vectors that hold NaN or infinity, by an InputError with the row, the first being `row`."""
    # a sum is finite wherever all values are, up to overflow, and is a fraction of the work of looking at each
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.add.reduce(vectors, axis=None, dtype=np.float32 if vectors.dtype == np.float16 else None)):
            return
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name}: the vector of row {row + int(np.argmin(finite))} holds NaN or infinity, or a number too large "
            "for float32 (rows count from 0)"
        )


def _names(column: pyarrow.Array, role: str, label: str, name: str, row: int) -> pyarrow.Array:
    """A column of ids, as text, or of classes, as text or int64."""
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as types

    if types.is_dictionary(column.type):
        column = (
            column.dictionary_decode() if isinstance(column, pyarrow.Array) else column.cast(column.type.value_type)
        )
    if column.null_count:
        missing = row + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise InputError(f"{name}: row {missing} has no '{role}' (column '{label}' is null; rows count from 0)")
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        column = column.cast(pyarrow.string())
        if compute.any(compute.match_substring(column, "\0")).as_py():
            # numpy would drop it from the end of a text
            require_names(column.to_pylist(), f"{role}s", name)
        return column
    if types.is_integer(kind):
        return column.cast(pyarrow.string() if role == "id" else pyarrow.int64())
    raise InputError(f"{name}: the {role}s (column '{label}') are {kind}; expected text or whole numbers")

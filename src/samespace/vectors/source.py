"""Vectors that are read in batches, wherever they are stored."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.space import Space
from samespace.vectors.columns import Columns
from samespace.vectors.declared import Declared, Floats

if TYPE_CHECKING:
    import pyarrow

ROWS = 65_536
"""Vectors of a batch, at most."""


@dataclass(frozen=True)
class Batch:
    """Some vectors of a source, in its order.

    Attributes:
        vectors: (n, D) float32 or float16, finite.
        items: n rows; columns `id`, `label` and `template` as far as the source has them, then its metadata.
    """

    vectors: Floats
    items: pyarrow.Table


@dataclass(frozen=True)
class Source:
    """Vectors in a file or a database, of which nothing has been read but what says how to read them.

    Attributes:
        name: where they are, for messages.
        dim: dimensions of a vector.
        dtype: float16 where they are stored so, else float32; float64 is rounded to it.
        count: how many there are; None where only reading tells.
        columns: where vectors, ids and labels come from.
        stamp: what changes when the content does, such as the size and time of a file.
        batches: from a row on, the batches to the end.
        space: the space that the source declares; None where it declares none.
        declared: what the user says of the model, after the address.
        textual: whether all cells are text, so that labels are numbers only where each of them is one.
        named_by: the file that names the items, where that is another one.
        array: all vectors, where they can be had without reading them, as a memory map.
    """

    name: str
    dim: int
    dtype: npt.DTypeLike
    count: int | None
    columns: Columns
    stamp: str
    batches: Callable[[int], Iterator[Batch]]
    space: Space | None = None
    textual: bool = False
    array: Floats | None = None
    declared: Declared | None = None
    named_by: str = ""

    def read(self, *, mapped: bool = False) -> tuple[Floats, pyarrow.Table]:
        """All vectors and all items, in memory; with `mapped` the vectors in a temporary file, where there is room.

        Raises:
            InputError: the source is empty, or holds what is no vector.
        """
        import pyarrow

        parts, items, filled = [], [], 0
        whole = self.array
        if whole is None and self.count is not None:
            whole = _room((self.count, self.dim), np.dtype(self.dtype), mapped=mapped)
        for batch in self.batches(0):
            if whole is None:
                parts.append(batch.vectors)
            elif self.array is None:
                whole[filled : filled + len(batch.vectors)] = batch.vectors
            items.append(batch.items)
            filled += len(batch.vectors)
        if not filled:
            raise InputError(f"{self.name} holds no vectors")
        vectors = whole[:filled] if whole is not None else np.concatenate(parts)
        return vectors, typed_items(pyarrow.concat_tables(items), self.textual)


def _room(shape: tuple[int, int], dtype: np.dtype[Any], *, mapped: bool) -> Floats:
    """An empty array, in memory or mapped from a temporary file that nobody else sees."""
    size = shape[0] * shape[1] * dtype.itemsize
    if mapped and size and hasattr(os, "posix_fallocate"):
        # without room, writing to a mapped file would end the process
        with suppress(OSError), tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    return np.empty(shape, dtype=dtype)


def float_of(dtype: np.dtype[Any]) -> type[np.float16] | type[np.float32]:
    """What floats of this type are kept as, whatever the order of their bytes: float16 as they are, else float32."""
    return np.float16 if dtype.newbyteorder("=") == np.float16 else np.float32


def typed_items(items: pyarrow.Table, textual: bool) -> pyarrow.Table:
    """The items with labels and templates as whole numbers where they are `textual` and each is printed as one."""
    import pyarrow
    import pyarrow.compute as compute

    for place, name in enumerate(items.column_names) if textual else ():
        if name not in ("label", "template") or not pyarrow.types.is_string(items.schema.field(name).type):
            continue
        column = items.column(name)
        whole = compute.match_substring_regex(column, r"^(0|-?[1-9][0-9]{0,17})$")
        if compute.all(whole).as_py():
            items = items.set_column(place, name, column.cast(pyarrow.int64()))
    return items


def item_arrays(items: pyarrow.Table) -> dict[str, npt.NDArray[Any] | None]:
    """The arrays `ids`, `labels` and `templates` of items, None where there is no such column."""
    arrays: dict[str, npt.NDArray[Any] | None] = {}
    for name in ("id", "label", "template"):
        held = name in items.column_names
        arrays[f"{name}s"] = np.asarray(items.column(name).to_pylist()) if held else None
    return arrays

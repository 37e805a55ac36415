"""Vectors in a FAISS index: reconstructed, with the file of ids beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError
from samespace.files import replacing, require_file
from samespace.vectors.arrays import beside, read_ids
from samespace.vectors.columns import Columns, Names
from samespace.vectors.files import file_stamp
from samespace.vectors.source import ROWS, Batch, Source
from samespace.vectors.stored import ids_file
from samespace.vectors.tables import items_of, require_finite

if TYPE_CHECKING:
    from samespace.vectors.stored import Advance, Stored


def _library() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError("a FAISS index needs faiss: pip install 'samespace[faiss]'") from None
    return faiss


def faiss_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of a FAISS index, by its `reconstruct`, in the order in which they were added.

    Ids are those of `names.ids`, or of the file that lies beside the index, `NAME.ids.csv` and so on; where there is
    none and the index maps ids of its own (`IndexIDMap`), these.

    Raises:
        InputError: no index, one that does not keep its vectors, or ids that do not fit.
    """
    import pyarrow

    faiss = _library()
    require_file(path, "a FAISS index")
    try:
        # what is inside belongs to what was read, which therefore must live as long
        read = index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except (RuntimeError, MemoryError):
        raise InputError(f"{path} is no FAISS index, or is cut short; write it anew with faiss.write_index") from None
    if index.ntotal == 0:
        raise InputError(f"{path} holds no vectors")
    own = None
    if isinstance(read, faiss.IndexIDMap):
        own, index = faiss.vector_to_array(read.id_map), faiss.downcast_index(read.index)
    try:
        if isinstance(index, faiss.IndexIVF):
            index.make_direct_map()
    except RuntimeError:
        raise InputError(
            f"{path}: ids of your own in an {type(index).__name__} leave no order of its vectors; export them "
            "from where they were made"
        ) from None
    given = names.ids if names.ids is not None else beside(path)
    if given is not None:
        table, columns = read_ids(Path(given), index.ntotal, path, names)
    elif own is not None:
        table, columns = pyarrow.table({"id": own.astype(str)}), Columns("", id="id")
    else:
        table, columns = None, Columns("")

    def batches(start: int) -> Iterator[Batch]:
        for row in range(start, read.ntotal, ROWS):
            count = min(ROWS, read.ntotal - row)
            try:
                vectors = np.asarray(index.reconstruct_n(row, count), dtype=np.float32)
            except RuntimeError:
                raise InputError(
                    f"{path}: {type(index).__name__} does not keep its vectors; export them from where they were made"
                ) from None
            require_finite(vectors, str(path), row)
            if table is None:
                yield Batch(vectors, pyarrow.table({"row": pyarrow.array(np.arange(row, row + count))}))
            else:
                piece = table.slice(row, count).combine_chunks()
                yield Batch(vectors, items_of(piece, columns, str(path), row, metadata=metadata))

    if not isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexHNSWFlat):
        columns = replace(columns, note=f"vectors as {type(index).__name__} has them, which may be rounded")
    stamp = file_stamp(path) + ("" if given is None else f"; ids {file_stamp(Path(given))}")
    return Source(str(path), index.d, np.float32, index.ntotal, columns, stamp, batches, textual=given is not None)


def write_index(stored: Stored, path: Path, advance: Advance) -> None:
    """Write a flat index of inner products, and beside it `NAME.ids.parquet`."""
    import pyarrow.parquet

    faiss = _library()
    index = faiss.IndexFlatIP(stored.dim)
    for vectors, _ in stored.blocks():
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        advance(len(vectors))
    with replacing(ids_file(path)) as place:
        pyarrow.parquet.write_table(stored.items, place)
    with replacing(path) as place:
        faiss.write_index(index, str(place))

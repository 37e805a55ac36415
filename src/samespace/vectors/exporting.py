"""A vector set in the forms that it can be read from, equal to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.files import is_stream, replacing
from samespace.vectors.stored import Advance, Stored, ids_file


def stored_at(address: str) -> Stored:
    """A vector set with all columns of its items, from a folder or any form that vectors are read from.

    Raises:
        InputError: it cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    from samespace.vectors.opening import source_of, split_address
    from samespace.vectors.vectorset import VectorSet

    if (source := source_of(address, metadata=True)) is None:
        found = VectorSet.load(address)
        items = pyarrow.parquet.read_table(Path(split_address(address)[0]) / "items.parquet").replace_schema_metadata(
            None
        )
        return Stored(found.vectors, items, found.space, found.name)
    vectors, items = source.read()
    if source.columns.id is None:
        items = items.add_column(0, "id", pyarrow.array(np.arange(len(vectors)).astype(str)))
    space = source.space
    if source.declared is not None:
        source.declared.require(source.dim, space, source.name)
        space = source.declared.space([vectors], source.dim)
    return Stored(vectors, items, space, source.name)


def _parquet(stored: Stored, path: Path, advance: Advance) -> None:
    import pyarrow.parquet

    tables = stored.tables()
    first = next(tables)
    with replacing(path) as place, pyarrow.parquet.ParquetWriter(place, first.schema) as out:
        for table in _then(first, tables):
            out.write_table(table)
            advance(table.num_rows)


def _arrow(stored: Stored, path: Path, advance: Advance) -> None:
    import pyarrow

    tables = stored.tables()
    first = next(tables)
    with replacing(path) as place, pyarrow.ipc.new_file(str(place), first.schema) as out:
        for table in _then(first, tables):
            out.write_table(table)
            advance(table.num_rows)


def _csv(stored: Stored, path: Path, advance: Advance) -> None:
    import csv

    names = [*stored.items.column_names, *(f"v{place}" for place in range(stored.dim))]
    with replacing(path) as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow(names)
        for vectors, items in stored.blocks():
            cells = [column.to_pylist() for column in items.columns]
            for row, vector in enumerate(vectors.tolist()):
                # nine digits tell any two float32 apart
                writer.writerow([*(column[row] for column in cells), *(f"{value:.9g}" for value in vector)])
            advance(len(vectors))


def _npy(stored: Stored, path: Path, advance: Advance) -> None:
    import pyarrow.parquet

    with replacing(ids_file(path)) as place:
        pyarrow.parquet.write_table(stored.items, place)
    with replacing(path) as place, place.open("wb") as file:
        np.save(file, stored.vectors)
    advance(len(stored.vectors))


def _npz(stored: Stored, path: Path, advance: Advance) -> None:
    names = {"id": "ids", "label": "labels", "template": "templates"}
    arrays: dict[str, Any] = {
        names.get(column, f"metadata_{column}"): np.asarray(stored.items.column(column).to_pylist())
        for column in stored.items.column_names
    }
    if odd := [name for name, array in arrays.items() if array.dtype == object]:
        raise InputError(
            f"{odd[0].removeprefix('metadata_')} has empty cells, which an .npz cannot hold; take .parquet"
        )
    if stored.space is not None:
        arrays["space"] = np.array(json.dumps(stored.space.to_dict()))
    with replacing(path) as place, place.open("wb") as file:
        np.savez(file, vectors=stored.vectors, **arrays)
    advance(len(stored.vectors))


def _faiss(stored: Stored, path: Path, advance: Advance) -> None:
    from samespace.vectors.stores.faiss import write_index

    write_index(stored, path, advance)


WRITERS: dict[str, Callable[[Stored, Path, Advance], None]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".csv": _csv,
    ".tsv": _csv,
    ".npy": _npy,
    ".npz": _npz,
    ".faiss": _faiss,
    ".index": _faiss,
}
"""By the ending of the file to write."""
_WITH_IDS = (".npy", ".faiss", ".index")
_WITHOUT_SPACE = (".csv", ".tsv", *_WITH_IDS)


def export_vectors(stored: Stored, to: str, *, table: str | None = None, advance: Advance = lambda done: None) -> str:
    """Write a vector set in another form, whole or not at all.

    `to` is a file of `WRITERS`, or an address of `STORES`, for a database with `,table=NAME` after it or `table` given.

    Returns:
        The address under which the vectors can be read again.

    Raises:
        InputError: no such form, a table that is there already, or a column that the form cannot hold.
    """
    from samespace.vectors.opening import ADDRESSES, STORES, split_address, store_of

    address, names, _ = split_address(to)
    name = table or names.table
    if (kind := store_of(address)) is not None:
        if not STORES[kind].tables:
            STORES[kind].write(stored, address, None, advance)
            return address
        if name is None:
            raise InputError(f"{to}: name the table to write, by --table or '{to},table=NAME'")
        STORES[kind].write(stored, address, name, advance)
        return f"{address},table={name}"
    writer = WRITERS.get(Path(to).suffix.lower())
    if writer is None:
        raise InputError(f"{to}: vectors are written to {', '.join(WRITERS)}, {ADDRESSES}")
    writer(stored, Path(to), advance)
    return to


def in_the_way(stored: Stored, place: Path, address: str) -> Path | None:
    """The file or folder that an export to `place` would replace by something else; None where there is none.

    `address` is how vectors are read from there.
    """
    if place.exists() and not is_stream(place) and not is_stored(stored, address):
        return place
    ids = ids_file(place)
    if place.suffix.lower() not in _WITH_IDS or not ids.exists() or _items_of(ids) == stored.items:
        return None
    return ids


def is_stored(stored: Stored, address: str) -> bool:
    """Whether these very vectors and items are at an address already, with their space where its form keeps one."""
    try:
        there = stored_at(address)
    except InputError:
        return False
    return (
        there.space == (None if Path(address).suffix.lower() in _WITHOUT_SPACE else stored.space)
        and (there.vectors.shape, there.vectors.dtype) == (stored.vectors.shape, stored.vectors.dtype)
        and there.items == stored.items
        and all(
            np.array_equal(one, other) for (one, _), (other, _) in zip(there.blocks(), stored.blocks(), strict=True)
        )
    )


def _items_of(ids: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(ids)
    except (pyarrow.ArrowException, OSError):
        return None


def _then(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest

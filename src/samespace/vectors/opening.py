"""Which form an address of vectors has: `FORMS`, the one table of what vectors are read from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samespace.errors import InputError, suggest
from samespace.files import split_options
from samespace.vectors.arrays import npy_source
from samespace.vectors.columns import Names
from samespace.vectors.declared import Declared
from samespace.vectors.files import arrow_source, csv_source, parquet_source
from samespace.vectors.npz import npz_source
from samespace.vectors.source import Source
from samespace.vectors.stores.huggingface import huggingface_source, is_saved

_LANCE = ".lance"  # the ending of the folder of one table
_LEGAL = ("vector", "id", "label", "template", "ids", "table", "split", "space", "revision")
_OPTIONS = re.compile(rf",({'|'.join(_LEGAL)})=([^,]+)$")

Opener = Callable[..., Source]


def _faiss(path: Path, names: Names, *, metadata: bool) -> Source:
    from samespace.vectors.stores.faiss import faiss_source

    return faiss_source(path, names, metadata=metadata)


FILES: dict[str, Opener] = {
    ".parquet": parquet_source,
    ".pq": parquet_source,
    ".arrow": arrow_source,
    ".feather": arrow_source,
    ".ipc": arrow_source,
    ".csv": csv_source,
    ".tsv": csv_source,
    ".npy": npy_source,
    ".faiss": _faiss,
    ".index": _faiss,
}
"""By the ending of a file's name."""


@dataclass(frozen=True)
class Store:
    """What vectors are read from and written to by an address; its client is imported only where it is used.

    Attributes:
        read: makes a source.
        write: of a set, the address, the name of the table and what to tell of progress.
        tables: whether it holds several tables, of which one is named.
    """

    read: Opener
    write: Callable[..., None]
    tables: bool = True


def _read_pgvector(address: str, names: Names, *, metadata: bool) -> Source:
    from samespace.vectors.stores.pgvector import pgvector_source

    return pgvector_source(address, names, metadata=metadata)


def _write_pgvector(stored: Any, address: str, table: str, advance: Any) -> None:
    from samespace.vectors.stores.pgvector import write_table

    write_table(stored, address, table, advance)


def _read_qdrant(address: str, names: Names, *, metadata: bool) -> Source:
    from samespace.vectors.stores.qdrant import qdrant_source

    return qdrant_source(address, names, metadata=metadata)


def _write_qdrant(stored: Any, address: str, table: str, advance: Any) -> None:
    from samespace.vectors.stores.qdrant import write_collection

    write_collection(stored, address, table, advance)


def _read_lancedb(address: str, names: Names, *, metadata: bool) -> Source:
    from samespace.vectors.stores.lancedb import lancedb_source

    return lancedb_source(address, names, metadata=metadata)


def _write_lancedb(stored: Any, address: str, table: str, advance: Any) -> None:
    from samespace.vectors.stores.lancedb import write_lancedb

    write_lancedb(stored, address, table, advance)


def _write_saved(stored: Any, address: str, table: str | None, advance: Any) -> None:
    from samespace.vectors.stores.huggingface import write_saved

    write_saved(stored, address, table, advance)


_PGVECTOR, _QDRANT = Store(_read_pgvector, _write_pgvector), Store(_read_qdrant, _write_qdrant)
STORES: dict[str, Store] = {
    "postgresql": _PGVECTOR,
    "postgres": _PGVECTOR,
    "http": _QDRANT,
    "https": _QDRANT,
    "qdrant": _QDRANT,
    "lancedb": Store(_read_lancedb, _write_lancedb),
    "hf": Store(huggingface_source, _write_saved, tables=False),
}
"""By what an address begins with; `qdrant:FOLDER` is a folder of Qdrant's client."""
ADDRESSES = "postgresql://…, http://…, qdrant:FOLDER, lancedb:FOLDER or hf:FOLDER"
"""The addresses of `STORES`, for messages."""


def store_of(address: str) -> str | None:
    """The key in `STORES` of a database's address; None where it is a path."""
    scheme, colon, _ = address.partition(":")
    return scheme if colon and scheme in STORES and not Path(address).exists() else None


def split_address(address: str | os.PathLike[str]) -> tuple[str, Names, Declared | None]:
    """An address without the options after it, and these: names, `old.npy,ids=old.csv`, and the model, `,space=clip`.

    Raises:
        InputError: a revision of no model, or an option that there is not.
    """
    # a path has lost one of the two slashes of an address
    text = re.sub(r"^(postgres(?:ql)?|https?|lancedb:\w+):/(?=[^/])", r"\1://", os.fspath(address))
    path, options = split_options(text, _OPTIONS)
    other = re.match(r"([^,]+),([\w-]+)=", path)
    if other and other[2] not in _LEGAL and Path(other[1]).exists() and not Path(path).exists():
        raise InputError(f"{address}: there is no option '{other[2]}' after a comma; {suggest(other[2], _LEGAL)}")
    if path.endswith(_LANCE) and store_of(path) is None:
        folder, _, table = path.removesuffix(_LANCE).rpartition("/")
        path, options = f"lancedb:{folder or '.'}", {"table": table, **options}
    elif store_of(path) is None and is_saved(Path(path)):
        path = f"hf:{path}"
    model, revision = options.pop("space", None), options.pop("revision", "")
    if revision and model is None:
        raise InputError(f"{address}: the revision {revision} is of which model? add ',space=NAME'")
    return path, Names(**options), None if model is None else Declared(model, revision)


def source_of(address: str | os.PathLike[str], names: Names | None = None, *, metadata: bool = False) -> Source | None:
    """The source of vectors at an address; None where its form is not of `FILES`.

    Args:
        address: a path, options after it (see `split_address`).
        names: what the user calls the columns, before what the address says.
        metadata: read all other columns too, also of an `.npz`, which `VectorSet.load` reads without this.

    Raises:
        InputError: it cannot be read, or its columns cannot be told.
    """
    text, told, declared = split_address(address)
    given = {} if names is None else {key: value for key, value in vars(names).items() if value is not None}
    if (kind := store_of(text)) is not None:
        found = STORES[kind].read(text, replace(told, **given), metadata=metadata)
        return replace(found, declared=declared)
    path = Path(text)
    opener = npz_source if metadata and path.suffix.lower() == ".npz" else FILES.get(path.suffix.lower())
    if opener is None or path.is_dir():
        if told != Names():
            raise InputError(
                f"{address}: of the options after a comma, only space and revision belong to what is no file of "
                f"{', '.join(FILES)}"
            )
        return None
    return replace(opener(path, replace(told, **given), metadata=metadata), declared=declared)

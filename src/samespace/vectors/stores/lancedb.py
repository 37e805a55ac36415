"""Vectors in a table of LanceDB, in a folder or in an object store that its client reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samespace.errors import InputError, suggest
from samespace.vectors.columns import Names
from samespace.vectors.source import ROWS, Source
from samespace.vectors.tables import table_source

if TYPE_CHECKING:
    import pyarrow

    from samespace.vectors.stored import Advance, Stored


def lancedb_source(address: str, names: Names, *, metadata: bool) -> Source:
    """The vectors of the table `names.table`, in the order of its rows, as of its version when it is opened.

    Raises:
        InputError: there is no such database or table, none is named, or it is damaged.
    """
    place = address.removeprefix("lancedb:")
    if "://" not in place and not Path(place).is_dir():
        raise InputError(f"{address}: there is no folder {place}; expected the folder of a LanceDB database")
    with _connected(address) as database:
        held = database.list_tables().tables
        if names.table is None:
            told = f"it has {', '.join(held)}" if held else "it has none"
            raise InputError(f"{address}: name the table, by --table or ',table=NAME'; {told}")
        if names.table not in held:
            raise InputError(f"{address} has no table '{names.table}'; {suggest(names.table, held)}")
        table = database.open_table(names.table)
        schema, count, version = table.schema, table.count_rows(), table.version
    where = f"table {names.table} of {address}"

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        with _connected(address) as database:
            table = database.open_table(names.table)
            table.checkout(version)
            for batch in table.search().select(columns).offset(start).to_batches(ROWS):
                yield batch.select(columns)

    return table_source(where, schema, read, names, count=count, stamp=f"version {version}", metadata=metadata)


def write_lancedb(stored: Stored, address: str, table: str, advance: Advance) -> None:
    """Create a table `id`, `vector` and the other columns, whose metadata hold the space, and fill it.

    Raises:
        InputError: the table is there already, or the database cannot be reached.
    """
    import pyarrow

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for part in stored.tables():
            yield from part.to_batches()
            advance(part.num_rows)

    with _connected(address) as database:
        if table in database.list_tables().tables:
            raise InputError(f"{address} has a table '{table}' already; choose another name")
        schema = next(stored.tables()).schema
        try:
            database.create_table(table, pyarrow.RecordBatchReader.from_batches(schema, batches()))
        except BaseException:
            database.drop_table(table, ignore_missing=True)
            raise


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import lancedb
    except ImportError:
        raise InputError("a LanceDB table needs its client: pip install 'samespace[lancedb]'") from None
    try:
        yield lancedb.connect(address.removeprefix("lancedb:"))
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{address} cannot be read as a LanceDB database: {line}") from None

"""Vectors in a table of PostgreSQL with pgvector, by its binary form, so that none is rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError
from samespace.vectors.columns import Names, find_columns
from samespace.vectors.source import Source
from samespace.vectors.tables import table_source

if TYPE_CHECKING:
    import pyarrow

    from samespace.vectors.stored import Advance, Stored

_FETCHED = 4096
_KINDS = {"vector": ">f4", "halfvec": ">f2"}
_WHOLE = ("int2", "int4", "int8")


def pgvector_source(address: str, names: Names, *, metadata: bool) -> Source:
    """The vectors of `names.table`, in the order of its ids; rows should not change while they are read.

    Raises:
        InputError: the server cannot be reached, there is no such table or none is named, or it has no vectors.
    """
    import pyarrow

    table = names.table
    with _connected(address) as connection:
        tables = [row[0] for row in connection.execute(_TABLES)]
        if table is None:
            held = f"tables with vectors: {', '.join(tables)}" if tables else "no table has a column of pgvector's type"
            raise InputError(f"{_shown(address)}: name the table, by --table or ',table=NAME'; {held}")
        found = connection.execute(_COLUMNS, [table]).fetchall()
        if not found:
            held = ", ".join(tables) or "none"
            raise InputError(f"{_shown(address)} has no table '{table}'; tables with vectors: {held}")
        count = connection.execute(_counted(table)).fetchone()[0]
    kinds = dict(found)
    arrow = {name: _arrow_type(kind) for name, kind in found}
    where = f"table {table} of {_shown(address)}"
    whole = pyarrow.schema(list(arrow.items()))
    # rows are sorted by what is unique and stays: the ids, or else their place on disk
    ids = find_columns(whole, names, where).id

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        schema = pyarrow.schema([(name, arrow[name]) for name in columns])
        with _connected(address) as connection, connection.cursor("samespace", binary=True) as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(_select(table, columns, kinds, ids), [start])
            while rows := cursor.fetchmany(_FETCHED):
                arrays = [
                    _lists([row[place] for row in rows], kinds[name])
                    if kinds[name] in _KINDS
                    else pyarrow.array([row[place] for row in rows], type=arrow[name])
                    for place, name in enumerate(columns)
                ]
                yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)

    return table_source(where, whole, read, names, count=count, stamp=f"{count} rows", metadata=metadata)


def write_table(stored: Stored, address: str, table: str, advance: Advance) -> None:
    """Create a table `id`, `vector` and the other columns, and fill it, in one transaction.

    Raises:
        InputError: the table is there already, or the server cannot be reached.
    """
    import pyarrow.types as types
    from psycopg import errors, sql

    kind = "halfvec" if stored.vectors.dtype == np.float16 else "vector"
    columns = [("id", "text PRIMARY KEY"), ("vector", f"{kind}({stored.dim})")]
    rest = [name for name in stored.items.column_names if name != "id"]
    for name in rest:
        type_ = stored.items.schema.field(name).type
        whole, real = types.is_integer(type_), types.is_floating(type_)
        truth = types.is_boolean(type_)
        columns.append((name, "bigint" if whole else "double precision" if real else "boolean" if truth else "text"))
    parts = [sql.SQL("{} " + type_).format(sql.Identifier(name)) for name, type_ in columns]
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
        _identifier(table), sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    )
    with _connected(address) as connection:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(_identifier(table), sql.SQL(", ").join(parts)))
        except errors.DuplicateTable:
            raise InputError(f"{_shown(address)} has a table '{table}' already; choose another name") from None
        with connection.cursor() as cursor, cursor.copy(copy) as out:
            for vectors, items in stored.blocks():
                ids, cells = items.column("id").to_pylist(), [items.column(name).to_pylist() for name in rest]
                for row, vector in enumerate(vectors.tolist()):
                    text = "[" + ",".join(f"{value:.9g}" for value in vector) + "]"
                    values = [None if (value := column[row]) is None else _cell(value) for column in cells]
                    out.write_row([str(ids[row]), text, *values])
                advance(len(vectors))
        connection.commit()


_TABLES = """SELECT DISTINCT attrelid::regclass::text FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
JOIN pg_class ON pg_class.oid = attrelid WHERE typname IN ('vector', 'halfvec') AND relkind IN ('r', 'p', 'v', 'm')
ORDER BY 1"""
_COLUMNS = """SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _identifier(table: str) -> Any:
    from psycopg import sql

    return sql.Identifier(*table.split("."))


def _counted(table: str) -> Any:
    from psycopg import sql

    return sql.SQL("SELECT count(*) FROM {}").format(_identifier(table))


def _select(table: str, columns: list[str], kinds: dict[str, str], order: str | None) -> Any:
    from psycopg import sql

    parts = []
    for name in columns:
        form = "{}"
        if kinds[name] in _KINDS:
            form = f"{kinds[name]}_send({{}})"
        elif kinds[name] not in (*_WHOLE, "float4", "float8", "bool"):
            form = "{}::text"
        parts.append(sql.SQL(form).format(sql.Identifier(name)))
    return sql.SQL("SELECT {} FROM {} ORDER BY {} OFFSET %s").format(
        sql.SQL(", ").join(parts), _identifier(table), sql.Identifier(order) if order else sql.SQL("ctid")
    )


def _arrow_type(kind: str) -> Any:
    import pyarrow

    if kind in _KINDS:
        return pyarrow.list_(pyarrow.float16() if kind == "halfvec" else pyarrow.float32())
    if kind in _WHOLE:
        return pyarrow.int64()
    if kind in ("float4", "float8"):
        return pyarrow.float64()
    return pyarrow.bool_() if kind == "bool" else pyarrow.string()


def _lists(cells: list[bytes | None], kind: str) -> Any:
    """Lists of the binary form: two bytes of dimensions, two that are not used, then the values, big-endian."""
    import pyarrow

    dtype = np.dtype(_KINDS[kind])
    sizes = [0 if cell is None else (len(cell) - 4) // dtype.itemsize for cell in cells]
    joined = b"".join(bytes(cell[4:]) for cell in cells if cell is not None)
    values = np.frombuffer(joined, dtype=dtype).astype(dtype.newbyteorder("="))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    gone = pyarrow.array([cell is None for cell in cells])
    return pyarrow.ListArray.from_arrays(
        pyarrow.array(offsets), pyarrow.array(values), mask=gone if None in cells else None
    )


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import psycopg
    except ImportError:
        raise InputError("a pgvector table needs psycopg: pip install 'samespace[postgres]'") from None
    try:
        connection = psycopg.connect(address, connect_timeout=30)
    except (psycopg.Error, UnicodeError) as error:
        line = str(error).strip().splitlines()[0][:200]
        raise InputError(f"{_shown(address)} cannot be reached: {line}") from None
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{_shown(address)}: {line}; once that is mended, the same command carries on") from None


def _shown(address: str) -> str:
    """An address without its password."""
    import re

    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1@", address)

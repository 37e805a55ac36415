"""One transaction on SQLite, as the ledger uses it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.ledger.state import Ints, Vectors


class SqliteSession:
    """One open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self._execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; how many rows it touched."""
        return self._execute(sql, values).rowcount

    def _execute(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, values)
        except OverflowError as error:
            raise GalleryError(
                "a number of the gallery's database is beyond 64 bits: it is damaged or was altered; restore it from a "
                "backup"
            ) from error

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""
        self.connection.executemany(sql, rows)

    def insert(self, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
        """Append rows to a table."""
        if rows:
            self.many(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))}) {conflict}", rows)

    def insert_vectors(
        self, generation: int, numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors
    ) -> None:
        """Append rows to a space's vectors."""
        blobs = [row.tobytes() for row in np.ascontiguousarray(values, dtype="<f4")]
        columns = zip(numbers.tolist(), items.tolist(), contents, map(zlib.crc32, blobs), blobs, strict=True)
        self.insert(f"vector_{generation}", list(columns))

    def vectors(self, sql: str, values: Sequence[Any], dim: int) -> tuple[list[tuple[Any, ...]], Vectors]:
        """Rows of a query whose last column is a vector, and these vectors (N, dim).

        Raises:
            ValueError: a stored vector has another length.
        """
        rows = self.all(sql, values)
        joined = b"".join(row[-1] for row in rows)
        if len(joined) != 4 * dim * len(rows):
            raise ValueError
        return rows, np.frombuffer(joined, dtype="<f4").astype(np.float32).reshape(len(rows), dim)

"""One transaction on PostgreSQL, as the ledger uses it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import psycopg

from samespace.gallery.ledger.postgres import copy_format
from samespace.gallery.ledger.state import Ints, Vectors

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_AT_ONCE = 500


class PostgresSession:
    """One open transaction; `side` begins the names of the tables that vectors are written to."""

    def __init__(self, connection: Connection, side: str = "vector") -> None:
        self.connection, self._side = connection, side

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self.connection.execute(_placeholders(sql), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; how many rows it touched."""
        return self.connection.execute(_placeholders(sql), values).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""
        with self.connection.cursor() as cursor:
            cursor.executemany(_placeholders(sql), rows)

    def insert(self, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
        """Append rows to a table: by COPY, which knows no conflicts, or by statements of many rows."""
        if not conflict:
            with self.connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            return
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            marks = ", ".join([f"({', '.join('?' * len(part[0]))})"] * len(part))
            self.run(f"INSERT INTO {table} VALUES {marks} {conflict}", [value for row in part for value in row])

    def insert_vectors(
        self, generation: int, numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors
    ) -> None:
        """Append rows to a space's vectors."""
        sql = f"COPY {self._side}_{generation} FROM STDIN (FORMAT BINARY)".encode()
        with self.connection.cursor() as cursor, cursor.copy(sql) as copy:
            for piece in copy_format.rows(numbers, items, contents, values):
                copy.write(piece)

    def vectors(self, sql: str, values: Sequence[Any], dim: int) -> tuple[list[tuple[Any, ...]], Vectors]:
        """Rows of a query whose last column is a vector, and these vectors (N, dim).

        Raises:
            ValueError: a stored vector has another length.
        """
        with self.connection.cursor(binary=True) as cursor:
            rows = cursor.execute(_placeholders(sql), values).fetchall()
        return rows, copy_format.unpacked([row[-1] for row in rows], dim)


@lru_cache(maxsize=4096)
def _placeholders(sql: str) -> bytes:
    """SQL with the placeholders of psycopg, which also wants each percent sign twice."""
    return sql.replace("%", "%%").replace("?", "%s").encode()

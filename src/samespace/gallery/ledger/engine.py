"""What a ledger asks of a database: connections, transactions, vector tables, the few things dialects differ in."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from samespace.errors import GalleryError
from samespace.gallery.ledger.filters import Scalar
from samespace.gallery.ledger.state import Ints, Vectors


class Session(Protocol):
    """One open transaction of a database; SQL is written with `?` for values, and holds no other question mark."""

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        ...

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; how many rows it touched."""
        ...

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""
        ...

    def insert(self, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
        """Append rows to a table, as fast as the database can; `conflict` is an `ON CONFLICT` clause."""
        ...


class Engine(Protocol):
    """A database that can hold a ledger."""

    @property
    def location(self) -> str:
        """Where it lies, as users write it, without secrets."""
        ...

    @property
    def secret_location(self) -> str:
        """What another process opens it by; it may hold a password, so it is never shown or stored."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction that sees the database as of its start throughout."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction that writes: whole or not at all, flushed to disk when the block ends."""
        ...

    def claiming(self) -> AbstractContextManager[Session]:
        """A transaction that only claims work; it waits for writers no more than it must."""
        ...

    @property
    def skip_locked(self) -> str:
        """What to add to the query that picks work, so that two workers never pick the same."""
        ...

    def create_tables(self, session: Session) -> None:
        """The fixed tables; see `samespace.gallery.ledger.schema`."""
        ...

    def create_vectors(self, session: Session, generation: int, dim: int) -> None:
        """The table of a space's vectors."""
        ...

    def insert_vectors(
        self, session: Session, generation: int, numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors
    ) -> None:
        """Append rows to a space's vectors, as fast as the database can."""
        ...

    def vectors(
        self, session: Session, sql: str, values: Sequence[Any], dim: int
    ) -> tuple[list[tuple[Any, ...]], Vectors]:
        """Rows of a query whose last column is a vector: the other columns, and the vectors as (N, dim) float32."""
        ...

    def condition(self, key: str, operator: str, value: Scalar) -> tuple[str, list[Any]]:
        """A filter condition on `item`, with one of the operators of comparison, as SQL with its values."""
        ...

    def size(self) -> int:
        """Bytes that the database takes."""
        ...

    def check(self) -> Iterator[str]:
        """What the database itself finds wrong with its files, a line each."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...

    def discard(self) -> None:
        """Close, and remove what opening a new database left where its tables could not be made."""
        ...


class OneChange:
    """Refuses a change within a change of the same thread, which would wait for itself until the database gives up."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def begun(self, location: str) -> Iterator[None]:
        """While this thread writes.

        Raises:
            GalleryError: it is writing already.
        """
        if getattr(self._local, "writing", False):
            raise GalleryError(f"{location}: a change was begun within another of the same thread; end that one first")
        self._local.writing = True
        try:
            yield
        finally:
            self._local.writing = False

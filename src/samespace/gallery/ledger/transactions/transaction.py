"""`Transaction`: one transaction on a ledger and how it asks for many values at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery.ledger.state import Ints

if TYPE_CHECKING:
    from samespace.gallery.ledger.postgres.engine import PostgresEngine
    from samespace.gallery.ledger.postgres.session import PostgresSession
    from samespace.gallery.ledger.sqlite.engine import SqliteEngine
    from samespace.gallery.ledger.sqlite.session import SqliteSession

Engine: TypeAlias = "SqliteEngine | PostgresEngine"
Session: TypeAlias = "SqliteSession | PostgresSession"

ALTERED = (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading a value raises that no gallery wrote."""

_AT_ONCE = 500


class Transaction:
    """One transaction on the database of a ledger."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self.engine = engine
        self.session = session

    def all_listed(self, sql: str, listed: Sequence[Any] | Ints, before: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query that holds `IN (LISTED)` as its last values, some hundred at a time."""
        parts = parts_of(listed)
        return [row for part in parts for row in self.session.all(listing(sql, part), [*before, *part])]

    def run_listed(self, sql: str, listed: Sequence[Any] | Ints, before: Sequence[Any] = ()) -> None:
        """Execute a statement that holds `IN (LISTED)`; see `all_listed`."""
        for part in parts_of(listed):
            self.session.run(listing(sql, part), [*before, *part])

    @contextmanager
    def _as_written(self, what: str) -> Iterator[None]:
        """Raises GalleryError: a value is none that a gallery writes."""
        try:
            yield
        except SamespaceError:
            raise
        except ALTERED as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())[:80]
            raise GalleryError(
                f"{self.engine.location}: {what} cannot be read ({reason}): the database is damaged or was altered; "
                "restore it from a backup"
            ) from error


def parts_of(values: Sequence[Any] | Ints) -> list[list[Any]]:
    """Values in lists of some hundred each, as many as a statement takes well."""
    listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [listed[start : start + _AT_ONCE] for start in range(0, len(listed), _AT_ONCE)]


def listing(sql: str, part: Sequence[Any]) -> str:
    """SQL that holds `LISTED` for as many values."""
    return sql.replace("LISTED", ", ".join("?" * len(part)))


def column(rows: Sequence[tuple[Any, ...]], place: int) -> Ints:
    """A column of whole numbers. Raises GalleryError: a value is none."""
    try:
        return np.fromiter((index(row[place]) for row in rows), dtype=np.int64, count=len(rows))
    except ALTERED as error:
        raise GalleryError(
            f"a whole number was expected in the gallery's database ({str(error)[:80]}): it is damaged or was altered; "
            "restore it from a backup"
        ) from error


def none() -> Ints:
    """No numbers."""
    return np.empty(0, dtype=np.int64)

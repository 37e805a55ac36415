"""The ledger on SQLite: one file, no server, every commit flushed to disk."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from samespace.errors import GalleryError, InputError
from samespace.gallery.ledger.adopted_collection import TABLE, AdoptedCollection
from samespace.gallery.ledger.pool import OneChange, Pool
from samespace.gallery.ledger.schema import SQLITE, sqlite_vectors
from samespace.gallery.ledger.sqlite.errors import explain
from samespace.gallery.ledger.sqlite.file import FILE, HOLDS_ALREADY, has_log, require_empty, writable
from samespace.gallery.ledger.sqlite.session import SqliteSession
from samespace.gallery.ledger.state import Ints, Rows
from samespace.names import as_argument
from samespace.text import Scalar
from samespace.typed import read

_BUSY_SECONDS = 60.0
_KEPT_OPEN = 4
_READ_KIB, _WRITE_KIB = 8_192, 65_536  # of pages that a connection keeps: once it has written, more
_INCREMENTAL = 2
_PAGES_AT_ONCE = 1_000
_PATIENCE = 2_000  # milliseconds that searches under way may hold up the end of the log


class Elsewhere(Protocol):
    """Where the vectors of a space lie that an engine's own tables do not hold."""

    def get(self, reader: Any, items: Ints) -> Rows:
        """Those of these items as they are now, as far as they are there; `reader` is the `LedgerReader` that asks."""
        ...


class SqliteEngine:
    """A SQLite database in a gallery's folder; safe to use from many threads and processes at once.

    Args:
        folder: the gallery's folder.
        create: make a new database; otherwise there must be one.
        read_only: never write, not even the log and shared memory that SQLite keeps beside the file.
        adopted: for a new one, the application's collection with the vectors of its first space.

    Attributes:
        elsewhere: reads the vectors which lie in an adopted collection, once it was opened.

    Raises:
        InputError: there is a database already (`create`).
        GalleryError: there is no database, it is damaged, or the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        adopted: AdoptedCollection | None = None,
    ) -> None:
        self.path = folder / FILE
        self.location = self.secret_location = str(folder)
        self.read_only = read_only
        self.dialect = "sqlite"
        self.lock = self.skip_locked = ""
        self.described = "item"
        self.adopted = adopted
        self.elsewhere: Elsewhere | None = None
        self._change = OneChange()
        self._pool = Pool(self._connect, lambda connection: not connection.in_transaction, keep=_KEPT_OPEN)
        if create:
            self._create_file(folder)
        elif not self.path.is_file():
            command = f"samespace gallery create {as_argument(folder)} --model DIR"
            raise GalleryError(f"{folder} holds no gallery; make one with '{command}'")
        try:
            with self._explained(), self._borrowed():
                pass
        except BaseException:
            if create:
                self.discard()
            raise

    @contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        """A transaction that sees the database as of its start throughout."""
        with self._transaction("BEGIN") as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        """A transaction that writes: whole or not at all, flushed to disk when the block ends."""
        if self.read_only:
            raise GalleryError(f"{self.location} was opened read-only or cannot be written; nothing was changed")
        with self._change.begun(self.location), self._transaction("BEGIN IMMEDIATE", _WRITE_KIB) as session:
            yield session

    @contextmanager
    def claiming(self) -> Iterator[SqliteSession]:
        """The same as `writing`: on SQLite one transaction writes at a time."""
        with self.writing() as session:
            yield session

    def create_tables(self, session: Any) -> None:
        """The fixed tables."""
        for statement in [*SQLITE.split(";"), *([TABLE] if self.adopted else [])]:
            session.run(statement)

    def unbounded(self, session: Any) -> None:
        """Let the statements of a transaction take any time, as they may on SQLite anyway."""

    def vector_table(self, generation: int, dim: int) -> list[str]:
        """Statements that make the table of a space's vectors."""
        return (
            [self.adopted.view()] if self.adopted and self.written(generation) is None else sqlite_vectors(generation)
        )

    def written(self, generation: int) -> str | None:
        """The table that the ledger writes a space's vectors to; None where they are the application's own."""
        return None if self.adopted and self.adopted.generation == generation else f"vector_{generation}"

    def refresh(self, session: Any) -> None:
        """Learn which collection was adopted, and of one that another process has handed over since."""
        for (text,) in session.all("SELECT value FROM meta WHERE key = 'adopted'"):
            self.adopted = read(AdoptedCollection, json.loads(text), f"{self.location}: the adopted collection")

    def drop_vectors(self, generation: int) -> list[str]:
        """Statements that undo `vector_table`."""
        return [f"DROP TABLE vector_{generation}"]

    def condition(self, key: str, operator: str, options: Sequence[Scalar]) -> tuple[str, list[Any]]:
        """A filter condition on `item` as SQL with its values; of several options of one type, for `=`, one is met."""
        compared = f"{operator} ?" if len(options) == 1 else f"IN ({', '.join('?' * len(options))})"
        if key == "label":
            return f"label {compared}", [str(option) for option in options]
        kinds, values = "('integer', 'real')", list[Any](options)
        if isinstance(options[0], bool):
            kinds, values = "('true', 'false')", [int(option) for option in options]
        elif isinstance(options[0], str):
            kinds = "('text')"
        path = json.dumps(key)
        if path != f'"{key}"':
            # SQLite's paths know no escapes
            held = f"key = ? AND type IN {kinds} AND atom {compared}"
            return f"EXISTS (SELECT 1 FROM json_each(metadata) WHERE {held})", [key, *values]
        return (
            f"json_type(metadata, ?) IN {kinds} AND json_extract(metadata, ?) {compared}",
            [f"$.{path}", f"$.{path}", *values],
        )

    def size(self) -> int:
        """Bytes that the database takes."""
        return sum(file.stat().st_size for file in self.path.parent.glob(FILE + "*"))

    def check(self) -> Iterator[str]:
        """What SQLite finds wrong with its file, a line each."""
        with self._explained(), self._borrowed() as connection:
            for (line,) in connection.execute("PRAGMA quick_check(20)"):
                if line != "ok":
                    yield str(line)
            own = self.adopted.view() if self.adopted else ""
            foreign = (
                "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') AND sql <> ? ORDER BY name"
            )
            for kind, name in connection.execute(foreign, [own]):
                yield f"the {kind} {name!r} is none of the gallery's, and can change what is read or written"

    def reclaim(self, generations: Sequence[int]) -> str:
        """Give the room of deleted rows back to the file system, a part at a time so that others may write between.

        Args:
            generations: of the spaces whose vectors were deleted.

        Returns:
            What to do where the file cannot be made smaller so; empty where it was.
        """
        with self._explained(), self._borrowed() as connection:

            def pragma(text: str) -> int:
                return int(connection.execute(f"PRAGMA {text}").fetchall()[0][0])

            left = pragma("freelist_count") if pragma("auto_vacuum") == _INCREMENTAL else 0
            while left:
                with self._change.begun(self.location):
                    # a script, as `execute` stops after one page
                    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
                before, left = left, pragma("freelist_count")
                if left >= before:
                    break
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(1000 * _BUSY_SECONDS)}")
            free = pragma("freelist_count") * pragma("page_size") / 2**20
        vacuum = f"sqlite3 {shlex.quote(str(self.path))} 'PRAGMA auto_vacuum = 2; VACUUM'"
        return f"{free:,.0f} MiB are kept for new rows; to give them back, run {vacuum}" if free >= 1 else ""

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        self._pool.close()

    def discard(self) -> None:
        """Close, and delete the database that this engine made."""
        self.close()
        for end in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(FILE + end).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self, begin: str, cache: int = 0) -> Iterator[SqliteSession]:
        with self._explained(), self._borrowed() as connection:
            if cache:
                connection.execute(f"PRAGMA cache_size = -{cache}")
            connection.execute(begin)
            try:
                yield SqliteSession(connection)
                connection.execute("COMMIT")
            except BaseException:
                # another thread may have closed the connection meanwhile
                with suppress(sqlite3.ProgrammingError):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        connection = self._pool.take()
        try:
            yield connection
        finally:
            self._pool.give(connection)

    def _create_file(self, folder: Path) -> None:
        """Make an empty file; where several processes make a gallery here, one succeeds."""
        require_empty(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GalleryError(f"{folder} cannot be made: {error.strerror}") from None
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        except FileExistsError:
            raise InputError(f"{folder} {HOLDS_ALREADY}") from None
        except OSError as error:
            raise GalleryError(explain(error, self.location, _BUSY_SECONDS)) from None

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only and not writable(self.path):
            self.read_only = True
        mode = "ro" if self.read_only else "rw"
        # a file that nobody can write to, and that has no log, does not change, so SQLite need not lock it
        still = "&immutable=1" if self.read_only and not writable(self.path) and not has_log(self.path) else ""
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path.absolute()))}?mode={mode}{still}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # no function that a foreign view or trigger names may do anything outside the database
            connection.execute("PRAGMA trusted_schema = OFF")
            if not self.path.stat().st_size:
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_READ_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            # of a damaged file SQLite may name what is no text
            raise GalleryError(explain(sqlite3.DatabaseError("malformed"), self.location, _BUSY_SECONDS)) from error
        except sqlite3.Error as error:
            raise GalleryError(explain(error, self.location, _BUSY_SECONDS)) from error

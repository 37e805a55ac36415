"""The ledger on SQLite: one file, no server, every commit flushed to disk."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from samespace.errors import GalleryError, InputError
from samespace.gallery.ledger.adopted_collection import TABLE, AdoptedCollection
from samespace.gallery.ledger.pool import OneChange, Pool
from samespace.gallery.ledger.schema import SQLITE, sqlite_vectors
from samespace.gallery.ledger.state import Ints, Rows, Vectors
from samespace.text import Scalar
from samespace.typed import read

FILE = "gallery.db"

_BUSY_SECONDS = 60.0
_HOLDS_ALREADY = (
    "holds a gallery already; choose another folder, or add to it; what was adopted is brought up to date by sync"
)
_SHARED_BYTES = 65536
_KEPT_OPEN = 4
_READ_KIB, _WRITE_KIB = 8_192, 65_536  # of pages that a connection keeps: once it has written, more
_INCREMENTAL = 2
_PAGES_AT_ONCE = 1_000
_PATIENCE = 2_000  # milliseconds that searches under way may hold up the end of the log


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
            command = f"samespace gallery create {shlex.quote(str(folder))} --model DIR"
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
            raise InputError(f"{folder} {_HOLDS_ALREADY}") from None
        except OSError as error:
            raise GalleryError(_explain(error, self.location)) from None

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only and not _writable(self.path):
            self.read_only = True
        mode = "ro" if self.read_only else "rw"
        # a file that nobody can write to, and that has no log, does not change, so SQLite need not lock it
        still = "&immutable=1" if self.read_only and not _writable(self.path) and not _log(self.path) else ""
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
            raise GalleryError(_explain(sqlite3.DatabaseError("malformed"), self.location)) from error
        except sqlite3.Error as error:
            raise GalleryError(_explain(error, self.location)) from error


def require_empty(folder: Path) -> None:
    """Refuse a folder for a new gallery that holds anything.

    Raises:
        InputError: it holds a gallery, or something else.
        GalleryError: it cannot be read.
    """
    try:
        # listed at once: another process may be making a gallery here
        names = {file.name for file in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = {folder.name}
    except OSError as error:
        raise GalleryError(f"{folder} cannot be read: {error.strerror}") from None
    if FILE in names:
        raise InputError(f"{folder} {_HOLDS_ALREADY}")
    if names:
        raise InputError(f"{folder} exists and is not empty; choose another folder for the gallery")


def _writable(path: Path) -> bool:
    try:
        # access(2) alone says yes to root on a read-only file system in some kernels
        read_only = hasattr(os, "statvfs") and bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False
    return not read_only and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _full(folder: str) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SHARED_BYTES
    except OSError:
        return False


def _log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.is_file() and log.stat().st_size > 0


def _explain(error: sqlite3.Error | OSError, where: str) -> str:
    text = str(error)
    # the shared-memory file grows by other calls, which fail with another text
    if "disk is full" in text or "No space left" in text or ("disk I/O error" in text and _full(where)):
        return f"{where}: the disk is full; what was acknowledged is kept, make room and run the same command again"
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return f"{where}/{FILE} is damaged; restore it from a backup: the index files hold no item that it lacks"
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        reason = (isinstance(error, OSError) and error.strerror) or "its file or folder may not be changed"
        return f"{where} cannot be written ({reason}); nothing was changed"
    if "locked" in text or "busy" in text:
        return f"{where}: another process has been writing for over {_BUSY_SECONDS:.0f} s; try again"
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return f"{where}: the database failed ({code}); nothing was changed"

"""The ledger on SQLite: one file, no server, every commit flushed to disk."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from samespace.errors import GalleryError, InputError
from samespace.gallery.ledger.engine import Session, Turns
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.sqlite_pool import Pool
from samespace.gallery.ledger.state import Ints, Vectors

FILE = "gallery.db"

_BUSY_SECONDS = 60.0
_SHARED_BYTES = 65536
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, config INTEGER NOT NULL,
    query INTEGER NOT NULL, next_item INTEGER NOT NULL, next_vector INTEGER NOT NULL);
CREATE TABLE space (rank INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, description TEXT NOT NULL, model TEXT,
    retired INTEGER NOT NULL, added REAL NOT NULL);
CREATE TABLE link (query INTEGER NOT NULL, gallery INTEGER NOT NULL, dims INTEGER NOT NULL, certificate TEXT,
    added REAL NOT NULL, PRIMARY KEY (query, gallery));
CREATE TABLE calibration (no INTEGER PRIMARY KEY AUTOINCREMENT, query INTEGER NOT NULL, gallery INTEGER NOT NULL,
    value TEXT NOT NULL, source TEXT NOT NULL, added REAL NOT NULL);
CREATE TABLE item (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT NOT NULL, label TEXT,
    metadata TEXT, deleted INTEGER NOT NULL, epoch INTEGER NOT NULL);
CREATE INDEX item_epoch ON item (epoch);
CREATE TABLE traffic (item INTEGER PRIMARY KEY, hits INTEGER NOT NULL);
CREATE TABLE work (space INTEGER NOT NULL, item INTEGER NOT NULL, priority REAL NOT NULL, owner TEXT, lease REAL,
    tries INTEGER NOT NULL, error TEXT, PRIMARY KEY (space, item)) WITHOUT ROWID;
CREATE INDEX work_order ON work (space, priority DESC, item) WHERE error IS NULL AND owner IS NULL;
CREATE INDEX work_lease ON work (space, lease) WHERE owner IS NOT NULL;
CREATE TABLE upgrade (no INTEGER PRIMARY KEY, old INTEGER NOT NULL, new INTEGER NOT NULL, state TEXT NOT NULL,
    paused INTEGER NOT NULL, ordering TEXT NOT NULL, plan TEXT NOT NULL, started REAL, ended REAL);
CREATE TABLE canary (space INTEGER NOT NULL, item INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, item));
CREATE TABLE worker (owner TEXT PRIMARY KEY, space INTEGER NOT NULL, started REAL NOT NULL, seen REAL NOT NULL,
    done INTEGER NOT NULL, failed INTEGER NOT NULL, note TEXT NOT NULL);
CREATE TABLE audit (no INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL,
    action TEXT NOT NULL, detail TEXT NOT NULL);
"""


class SqliteSession:
    """One open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self.connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; how many rows it touched."""
        return self.connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""
        self.connection.executemany(sql, rows)


class SqliteEngine:
    """A SQLite database in a gallery's folder; safe to use from many threads and processes at once.

    Args:
        folder: the gallery's folder.
        create: make a new database; otherwise there must be one.
        read_only: never write, not even what SQLite keeps beside the file.

    Raises:
        InputError: there is a database already (`create`).
        GalleryError: there is no database, it is damaged, or the folder cannot be used.
    """

    def __init__(self, folder: Path, *, create: bool = False, read_only: bool = False) -> None:
        self.path = folder / FILE
        self.location = self.secret_location = str(folder)
        self.read_only = read_only
        self._turns = Turns()
        self._pool = Pool(self._connect)
        if create:
            self._claim()
        elif not self.path.is_file():
            raise GalleryError(f"{folder} holds no gallery; make one with 'samespace gallery create {folder}'")
        try:
            with self._explained(), self._borrowed():
                pass
        except BaseException:
            if create:
                self.remove()
            raise

    @contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        """A transaction that sees one moment of the database throughout."""
        with self._transaction("BEGIN", "COMMIT") as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        """A transaction that writes: whole or not at all, flushed to disk when the block ends."""
        if self.read_only:
            raise GalleryError(f"{self.location} was opened read-only or cannot be written; nothing was changed")
        with self._turns.taken(self.location), self._transaction("BEGIN IMMEDIATE", "COMMIT") as session:
            yield session

    @contextmanager
    def picking(self) -> Iterator[SqliteSession]:
        """The same as `writing`: here writers take turns whatever they write."""
        with self.writing() as session:
            yield session

    def claiming(self, session: Session) -> str:
        """Nothing to add: writers take turns."""
        return ""

    def create_tables(self, session: Session) -> None:
        """The fixed tables."""
        for statement in TABLES.split(";\n"):
            if statement.strip():
                session.run(statement)

    def create_vectors(self, session: Session, generation: int, dim: int) -> None:
        """The table of a space's vectors."""
        session.run(
            f"CREATE TABLE vector_{generation} (no INTEGER PRIMARY KEY, item INTEGER NOT NULL UNIQUE, "
            "content TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL)"
        )

    def insert_items(self, session: Session, rows: Sequence[Sequence[Any]]) -> None:
        """Append to `item`."""
        session.many("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def insert_vectors(
        self, session: Session, generation: int, numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors
    ) -> None:
        """Append rows to a space's vectors."""
        data = np.ascontiguousarray(values, dtype="<f4")
        blobs = [row.tobytes() for row in data]
        session.many(
            f"INSERT INTO vector_{generation} VALUES (?, ?, ?, ?, ?)",
            [
                (number, item, content, zlib.crc32(blob), blob)
                for number, item, content, blob in zip(numbers.tolist(), items.tolist(), contents, blobs, strict=True)
            ],
        )

    def vectors(
        self, session: Session, sql: str, values: Sequence[Any], dim: int
    ) -> tuple[list[tuple[Any, ...]], Vectors]:
        """Rows of a query whose last column is a vector."""
        rows = session.all(sql, values)
        joined = b"".join(row[-1] for row in rows)
        if len(joined) != 4 * dim * len(rows):
            raise GalleryError(f"{self.location}: a stored vector has the wrong length; run 'samespace gallery doctor'")
        return rows, np.frombuffer(joined, dtype="<f4").astype(np.float32).reshape(len(rows), dim)

    def condition(self, condition: Condition) -> tuple[str, list[Any]]:
        """A filter condition on `item` as SQL with its values."""
        values = list(condition.value) if isinstance(condition.value, tuple) else [condition.value]
        if condition.operator == "in":
            parts = [self.condition(Condition(condition.key, "=", value)) for value in values]
            return "(" + " OR ".join(sql for sql, _ in parts) + ")", [v for _, given in parts for v in given]
        value = values[0]
        if condition.key == "label":
            return f"label {condition.operator} ?", [str(value)]
        kinds = "('integer', 'real')"
        if isinstance(value, bool):
            kinds, value = "('true', 'false')", int(value)
        elif isinstance(value, str):
            kinds = "('text')"
        else:
            value = _bounded(value)
        path = json.dumps(condition.key)
        if path != f'"{condition.key}"':
            # SQLite's paths know no escapes
            found = f"key = ? AND type IN {kinds} AND atom {condition.operator} ?"
            return f"EXISTS (SELECT 1 FROM json_each(metadata) WHERE {found})", [condition.key, value]
        return (
            f"json_type(metadata, ?) IN {kinds} AND json_extract(metadata, ?) {condition.operator} ?",
            [f"$.{path}", f"$.{path}", value],
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

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        self._pool.close()

    def remove(self) -> None:
        """Delete the database that this engine made."""
        self.close()
        for end in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(FILE + end).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[SqliteSession]:
        with self._explained(), self._borrowed() as connection:
            connection.execute(begin)
            try:
                yield SqliteSession(connection)
                connection.execute(end)
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

    def _claim(self) -> None:
        """Make the file, so that of several that make a gallery here one does."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        except FileExistsError:
            raise holds_already(self.location) from None
        except OSError as error:
            raise GalleryError(_explain(error, self.location)) from None

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only and not _writable(self.path):
            self.read_only = True
        mode = "ro" if self.read_only else "rw"
        # without a log beside it a file that nobody can write to holds still, and SQLite need not lock it
        still = "&immutable=1" if self.read_only and not _writable(self.path) and not _log(self.path) else ""
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?mode={mode}{still}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # counts in a file that is empty yet
            connection.execute("PRAGMA page_size = 16384")
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -65536")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise GalleryError(_explain(error, self.location)) from error


def holds_already(folder: Path | str) -> InputError:
    """That a gallery cannot be made where there is one."""
    return InputError(f"{folder} holds a gallery already; choose another folder, or add to it")


def _bounded(value: float) -> float:
    """A number that SQLite can hold."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1023 else math.copysign(math.inf, value)
    return value


def _writable(path: Path) -> bool:
    try:
        # access(2) alone says yes to root on a read-only file system in some kernels
        read_only = bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False
    return not read_only and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _full(folder: str) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _SHARED_BYTES


def _log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.is_file() and log.stat().st_size > 0


def _explain(error: sqlite3.Error | OSError, where: str) -> str:
    text = str(error)
    # the file that processes share grows by other means, whose failure has other words
    if "disk is full" in text or "No space left" in text or ("disk I/O error" in text and _full(where)):
        return f"{where}: the disk is full; what was acknowledged is kept, make room and run the same command again"
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return (
            f"{where}/{FILE} is damaged ({text}); restore it from a backup: the index files hold no item that it lacks"
        )
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        return f"{where} cannot be written ({text}); nothing was changed"
    if "locked" in text or "busy" in text:
        return f"{where}: another process has been writing for over {_BUSY_SECONDS:.0f} s; try again ({text})"
    return f"{where}: the database failed: {text}"

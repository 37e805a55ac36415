"""The ledger on PostgreSQL with pgvector: a schema of a database, the same transactions as on SQLite."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from samespace.errors import GalleryError, InputError

try:
    import psycopg
    from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
except ImportError:
    raise InputError("galleries on PostgreSQL need psycopg: pip install 'samespace[postgres]'") from None

from samespace.gallery.ledger.adopted import AdoptedTable
from samespace.gallery.ledger.pool import OneChange, Pool
from samespace.gallery.ledger.postgres.address import parsed
from samespace.gallery.ledger.postgres.checks import findings, relations, require_empty
from samespace.gallery.ledger.postgres.errors import WAIT_SECONDS, explained, no_gallery, no_vectors, starting
from samespace.gallery.ledger.postgres.session import PostgresSession
from samespace.gallery.ledger.postgres.watch import STATEMENT_SECONDS, connected
from samespace.gallery.ledger.postgres.watch import WatchedConnection as Connection
from samespace.gallery.ledger.schema import POSTGRES, postgres_vectors
from samespace.text import Scalar
from samespace.typed import read

_MOST_DIMS = 16000
_KEPT_OPEN = 8
_SERVER = "system_identifier::text"
_RECOVERY_SECONDS = 30.0
_EXTENSION = (
    "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
    "WHERE e.extname = 'vector'"
)


class PostgresEngine:
    """A schema of a PostgreSQL database; safe to use from many threads and processes at once.

    `location`: `postgresql://…`; the schema is named by `?schema=NAME` and is `samespace` by default. `create`: make a
    new gallery; otherwise there must be one. `adopted`, for a new one: the application's table with the vectors of its
    first space.

    Raises:
        InputError: the address is not legal, or there is something in the schema already (`create`).
        GalleryError: there is no gallery, or the server cannot be reached or used.
    """

    elsewhere: None = None
    """All vectors are in the database, an application's too."""

    def __init__(
        self,
        location: str,
        *,
        create: bool = False,
        read_only: bool = False,
        adopted: AdoptedTable | None = None,
    ) -> None:
        self.adopted = adopted
        self.address = parsed(location)
        self.location = self.address.shown
        self.secret_location = location
        self.read_only = read_only
        self._path = f'"{self.address.schema}"'
        self._fresh = create
        self.dialect = "postgres"
        self.lock = "FOR UPDATE"
        self.skip_locked = "FOR UPDATE SKIP LOCKED"
        self._change = OneChange()
        self._pool = Pool(self._connect, _reusable, keep=_KEPT_OPEN)
        try:
            with self._explained():
                connection = self._pool.take()
                require_empty(connection, self.address) if create else self._check_old(connection)
                self._pool.give(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        """A transaction that sees the database as of its start throughout."""
        with self._transaction("REPEATABLE READ READ ONLY", "") as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        """A transaction that writes: whole or not at all, flushed to disk when the block ends.

        Writers lock the row of `clock` in turn, so that revisions rise in the order of commits.
        """
        self._check_writable()
        # whoever makes a gallery finds no clock yet
        turn = "SELECT pg_advisory_xact_lock(7310018)" if self._fresh else "SELECT 1 FROM clock WHERE id = 1 FOR UPDATE"
        with self._change.begun(self.location), self._transaction("READ COMMITTED", turn) as session:
            yield session
        self._fresh = False

    @contextmanager
    def claiming(self) -> Iterator[PostgresSession]:
        """A transaction that only claims work: it does not wait for writers, nor they for it."""
        self._check_writable()
        with self._transaction("READ COMMITTED", "") as session:
            yield session

    def create_tables(self, session: Any) -> None:
        """The schema, the extension, the fixed tables. Raises GalleryError: the server has no pgvector."""
        require_empty(session.connection, self.address)
        if not session.all("SELECT 1 FROM pg_namespace WHERE nspname = ?", [self.address.schema]):
            session.run(f'CREATE SCHEMA "{self.address.schema}"')
        if not session.all(_EXTENSION):
            try:
                session.run("CREATE EXTENSION vector SCHEMA public")
            except psycopg.Error as error:
                raise no_vectors(error, self.address) from error
        self._find_extension(session.connection)
        session.run(f"SET LOCAL search_path TO {self._path}")
        for statement in [POSTGRES, *(self.adopted.tables() if self.adopted else ())]:
            session.run(statement)

    def unbounded(self, session: Any) -> None:
        """Let the statements of a transaction take any time."""
        session.run("SET LOCAL statement_timeout = 0")
        session.connection.bounded = False

    def vector_table(self, generation: int, dim: int) -> list[str]:
        """Statements that make the table of a space's vectors."""
        if dim > _MOST_DIMS:
            raise InputError(f"{self.location}: pgvector keeps vectors of at most {_MOST_DIMS} dimensions, got {dim}")
        return self.adopted.vectors(generation, dim) if self.adopted else postgres_vectors(generation, dim)

    def written(self, generation: int) -> str | None:
        """The table that the ledger writes a space's vectors to; None where they are the application's own."""
        if self.adopted is None:
            return f"vector_{generation}"
        return None if generation == self.adopted.generation else f"side_{generation}"

    def drop_vectors(self, generation: int) -> list[str]:
        """Statements that undo `vector_table` where the ledger writes the vectors."""
        kept = [f"DROP TABLE {self.written(generation)}"]
        return kept if self.adopted is None else [f"DROP VIEW vector_{generation}", *kept]

    def refresh(self, session: Any) -> None:
        """Learn of a table that another process has handed over since."""
        if self.adopted is not None:
            self.adopted = self._adopted(session.all("SELECT value FROM meta WHERE key = 'adopted'")[0][0])

    def _adopted(self, text: str) -> AdoptedTable:
        return read(AdoptedTable, json.loads(text), f"{self.location}: the adopted table")

    @property
    def described(self) -> str:
        """The table or view that has each item's label and metadata."""
        return "item" if self.adopted is None else "described"

    def condition(self, key: str, operator: str, options: Sequence[Scalar]) -> tuple[str, list[Any]]:
        """A filter condition on `item` as SQL with its values; of several options of one type, for `=`, one is met."""
        # one array: the server would otherwise read an item's metadata once for each option
        several, given = len(options) > 1, [str(option) for option in options]
        if key == "label":
            return f'label COLLATE "C" {"= ANY(?::text[])" if several else f"{operator} ?"}', [
                given if several else given[0]
            ]
        kind, cast = "number", "numeric"
        if isinstance(options[0], bool):
            kind, cast = "boolean", "boolean"
        elif isinstance(options[0], str):
            kind, cast = "string", "text"
        elif isinstance(options[0], float):
            # a fraction compares as the float64 it is, which the cast to numeric would round
            cast, given = "double precision", [repr(option) for option in options]
        collated = f'{cast} COLLATE "C"' if cast == "text" else cast
        right = f"= ANY(?::text[]::{cast}[])" if several else f"{operator} ?::{collated}"
        return (
            # only a CASE keeps the cast away from values of other kinds
            f"CASE WHEN jsonb_typeof(metadata -> ?::text) = '{kind}' "
            f"THEN (metadata ->> ?::text)::{collated} {right} ELSE FALSE END",
            [key, key, given if several else given[0]],
        )

    def reclaim(self, generations: Sequence[int]) -> str:
        """See `SqliteEngine.reclaim`: PostgreSQL keeps the room for new rows until it is told otherwise."""
        tables = ", ".join(f"{self.address.schema}.{self.written(one)}" for one in generations if self.written(one))
        return f"PostgreSQL keeps the room for new rows; to give it back, run VACUUM FULL {tables}" if tables else ""

    def size(self) -> int:
        """Bytes that the gallery's tables and indexes take."""
        with self.reading() as session:
            rows = session.all(
                "SELECT COALESCE(SUM(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r'",
                [self.address.schema],
            )
        return int(rows[0][0])

    def check(self) -> Iterator[str]:
        """What can damage or has damaged the data, as far as the server tells, a line each."""
        with self.reading() as session:
            yield from findings(session, self.address.schema)

    @contextmanager
    def outside_transaction(self) -> Iterator[PostgresSession]:
        """A connection outside any transaction, for statements that PostgreSQL refuses within one."""
        self._check_writable()
        with self._explained():
            connection = self._pool.new()
            try:
                # an index may take an hour to build
                connection.bounded = False
                connection.execute(f"SET search_path TO {self._path}".encode())
                yield self._session(connection)
            finally:
                connection.close()
                self._pool.give(connection)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def discard(self) -> None:
        """Close; tables that were not made are gone with their transaction."""
        self.close()

    @contextmanager
    def _transaction(self, mode: str, turn: str) -> Iterator[PostgresSession]:
        begin = (
            f"BEGIN ISOLATION LEVEL {mode}; SET LOCAL search_path TO {self._path}; SET LOCAL jit = off; "
            f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'; "
            f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; {turn}"
        ).encode()
        with self._explained():
            connection = self._begun(begin)
            try:
                yield self._session(connection)
                # after an error that the caller swallowed the server rolls back and calls it a success
                if connection.execute(b"COMMIT").statusmessage != "COMMIT":
                    raise GalleryError(f"{self.location}: a statement of this change failed; nothing was changed")
            except BaseException:
                with suppress(psycopg.Error):
                    connection.rollback()
                raise
            finally:
                connection.bounded = True
                self._pool.give(connection)

    def _session(self, connection: Connection) -> PostgresSession:
        return PostgresSession(connection, "vector" if self.adopted is None else "side")

    def _begun(self, begin: bytes) -> Connection:
        """A connection with an open transaction; a new one where the server has closed the one that was kept."""
        for take in (self._pool.take, self._pool.new):
            connection = take()
            try:
                connection.execute(begin)
                return connection
            except BaseException as error:
                lost = connection.broken and isinstance(error, psycopg.OperationalError)
                with suppress(psycopg.Error):
                    connection.rollback()
                self._pool.give(connection)
                if not lost or take == self._pool.new:
                    raise
        raise AssertionError

    def _connect(self) -> Connection:
        """A new connection; waits for a server that is starting or recovering."""
        limit = time.monotonic() + _RECOVERY_SECONDS
        while True:
            try:
                connection = connected(self.address.server)
                break
            except psycopg.OperationalError as error:
                if not starting(error) or time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        # one width for all whole numbers, so that lists of them stay lists to the planner
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false), set_config('client_encoding', 'UTF8', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
        return connection

    def _check_old(self, connection: Connection) -> None:
        there = relations(connection, self.address.schema)
        if "clock" not in there:
            raise GalleryError(no_gallery(self.address))
        self._find_extension(connection)
        writable = connection.execute(
            "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' "
            "AND has_table_privilege(%s, 'UPDATE')",
            [f'"{self.address.schema}".clock'],
        ).fetchall()
        self.read_only = self.read_only or not writable[0][0]
        if "adopted" in there:
            rows = connection.execute(
                f"SELECT value FROM {self._path.split(',')[0]}.meta WHERE key = 'adopted'".encode()
            )
            self.adopted = self._adopted(rows.fetchall()[0][0])
            self._know_server(connection)

    def _know_server(self, connection: Connection) -> None:
        """Forget row versions where the database was restored on a server whose transaction numbers began anew."""
        schema = self._path.split(",")[0]
        known = f"SELECT 1 FROM {schema}.meta, pg_control_system() WHERE key = 'adopted server' AND value = {_SERVER}"
        if connection.execute(known.encode()).fetchall():
            return
        if self.read_only:
            raise GalleryError(f"{self.location} was restored on this server; run gallery.sync() there first")
        with connection.transaction():
            connection.execute(f"UPDATE {schema}.adopted SET version = '0'::xid".encode())
            connection.execute(
                f"UPDATE {schema}.meta SET value = {_SERVER} FROM pg_control_system() "
                "WHERE key = 'adopted server'".encode()
            )

    def _find_extension(self, connection: Connection) -> None:
        for schema, _ in connection.execute(_EXTENSION):
            self._path = f'"{self.address.schema}", "{schema}"'

    def _check_writable(self) -> None:
        if self.read_only:
            raise GalleryError(f"{self.location} was opened read-only or cannot be written; nothing was changed")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise explained(error, self.address) from error


def _reusable(connection: Connection) -> bool:
    return not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

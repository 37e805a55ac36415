"""`Ledger`: the gallery's source of truth, on SQLite or PostgreSQL, the same transactions on both."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.gallery.ledger.adopted import AdoptedTable
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.migrations import brought_up, index_audit
from samespace.gallery.ledger.schema import FORMAT
from samespace.gallery.ledger.sqlite.engine import SqliteEngine
from samespace.gallery.ledger.sqlite.file import require_empty
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.queue import WorkQueue
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.transaction import Engine
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.space import Score, Space
from samespace.typed import plain

POSTGRES = ("postgresql://", "postgres://")


class Ledger:
    """Items, one immutable vector row per (item, space), spaces, links, calibrations, work list, audit trail.

    Safe to use from several threads, and the same gallery from several processes.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._query: int | None = None

    @classmethod
    def create(
        cls,
        location: str | Path,
        space: Space,
        *,
        model: str | None,
        settings: Mapping[str, Any],
        score: Score = "cosine",
        adopted: AdoptedTable | AdoptedCollection | None = None,
    ) -> Ledger:
        """Make a new ledger with its first space, which is searched by `score`.

        The location is a folder, or `postgresql://…`, where `?schema=NAME` names the schema; settings are JSON-ready.
        `adopted`: the table in the same database, or for a folder the collection in Qdrant, that has the vectors of
        the space, and keeps them.

        Raises:
            InputError: there is a gallery already, or something else.
            GalleryError: the place cannot be written.
        """
        engine = _engine(str(location), create=True, adopted=adopted)
        try:
            with engine.writing() as session:
                writer = LedgerWriter(engine, session)
                engine.create_tables(session)
                session.run("INSERT INTO clock VALUES (1, 0, 0, 1, 1, 1)")
                writer.put_meta("format", FORMAT)
                writer.put_meta("audit indexed", "1")
                if adopted is not None:
                    writer.put_meta("adopted", json.dumps(plain(adopted)))
                writer.put_meta("gallery", uuid.uuid4().hex)
                writer.put_meta("settings", json.dumps(dict(settings)))
                writer.add_space(space, model, score)
                writer.note("create", space=space.id)
        except BaseException:
            engine.discard()
            raise
        return cls(engine)

    @classmethod
    def open(cls, location: str | Path, *, read_only: bool = False) -> Ledger:
        """Open a ledger; one of an earlier version is brought to the present format, see `migrations`.

        Raises:
            GalleryError: there is none, it is damaged, of a later version, or of an earlier one and cannot be written.
        """
        engine = _engine(str(location), read_only=read_only)
        try:
            ledger = cls(engine)
            with ledger.read() as reader:
                written = reader.meta("format")
            brought_up(engine, written)
            with ledger.read() as reader:
                engine.refresh(reader.session)
        except BaseException:
            engine.close()
            raise
        return ledger

    def queried_by(self, generation: int) -> Ledger:
        """The same ledger for queries of another generation: whatever reads it sees that as the query space.

        Only to be read, and closed with this one.
        """
        other = Ledger(self.engine)
        other._query = generation
        return other

    @property
    def location(self) -> str:
        """Where it lies, as users write it."""
        return self.engine.location

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self.engine.read_only

    @contextmanager
    def read(self) -> Iterator[LedgerReader]:
        """A transaction that reads the ledger as of its start."""
        with self.engine.reading() as session:
            yield LedgerReader(self.engine, session, self._query)

    def index_steps(self) -> None:
        """Make the index that steps are counted by, where an earlier version made the ledger without."""
        with self.read() as reader:
            if reader.meta("audit indexed") is not None:
                return
        index_audit(self.engine)

    def state(self) -> State:
        """Everything but the items, as it is now."""
        with self.read() as reader:
            return reader.state()

    @contextmanager
    def write(self) -> Iterator[LedgerWriter]:
        """A change, whole or not at all; on disk when the block has ended."""
        with self.engine.writing() as session:
            yield LedgerWriter(self.engine, session)

    @contextmanager
    def claiming(self) -> Iterator[WorkQueue]:
        """A change of claims and workers only, which no search notices; it need not wait for other writers."""
        with self.engine.claiming() as session:
            yield WorkQueue(self.engine, session)

    def close(self) -> None:
        """Close every connection."""
        self.engine.close()


def _engine(
    location: str,
    *,
    create: bool = False,
    read_only: bool = False,
    adopted: AdoptedTable | AdoptedCollection | None = None,
) -> Engine:
    if location.startswith(POSTGRES):
        assert not isinstance(adopted, AdoptedCollection)
        # needs the extra `postgres`
        from samespace.gallery.ledger.postgres.engine import PostgresEngine

        return PostgresEngine(location, create=create, read_only=read_only, adopted=adopted)
    assert not isinstance(adopted, AdoptedTable)
    return SqliteEngine(_folder(location), create=create, read_only=read_only, adopted=adopted)


def require_new(location: str) -> None:
    """Refuse a folder in which no gallery can be made; a database says so when it is opened.

    Raises:
        InputError: the name is empty, or the folder holds a gallery or something else.
        GalleryError: it cannot be read.
    """
    if not location.startswith(POSTGRES):
        require_empty(_folder(location))


def _folder(location: str) -> Path:
    """The folder that a gallery's name, not one of PostgreSQL, stands for; an InputError where it is empty."""
    if not location:
        raise InputError("a gallery is a folder or postgresql://…, got an empty name")
    return Path(location)

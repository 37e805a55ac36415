"""An application's PostgreSQL table as the vectors of a space: searched there, by its own index, and scanned there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samespace.gallery.index.adopted.lacking import Lacking, lacking
from samespace.gallery.index.adopted.store import Asked, Differences, SeenRow
from samespace.gallery.index.adopted.sync import Lister
from samespace.gallery.index.base import Advance, Coverage
from samespace.gallery.index.exact import better_of
from samespace.gallery.index.found import Neighbours
from samespace.gallery.index.pgvector.hnsw import indexes
from samespace.gallery.index.pgvector.source import EXACT_ROWS, PgvectorSnapshot, PgvectorSource, ServedVectors, wanted
from samespace.gallery.index.pgvector.source import following_index as following
from samespace.gallery.ledger.adopted import AdoptedTable, quoted, superseded
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.postgres.engine import PostgresEngine
from samespace.gallery.ledger.state import Ints, Rows, State, StoredSpace, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.transaction import Session
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.serving import newer
from samespace.progress import silent

_AT_ONCE = 10_000
_MEASURED_SECONDS = 10.0
_WALK = 0.5

_TABLE_OF_VIEW = (
    "SELECT d.refobjid FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = d.refobjid "
    "WHERE r.ev_class = 'adopted_rows'::regclass AND d.refclassid = 'pg_class'::regclass AND c.relkind IN ('r', 'p') "
    "LIMIT 1"
)
_INDEXES = f"""SELECT c.relname, am.amname, o.opcname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_am am ON am.oid = c.relam JOIN pg_opclass o ON o.oid = x.indclass[0]
JOIN pg_attribute t ON t.attrelid = x.indrelid AND t.attnum = x.indkey[0]
WHERE x.indrelid = ({_TABLE_OF_VIEW}) AND x.indisvalid AND x.indpred IS NULL AND am.amname IN ('hnsw', 'ivfflat')
AND t.attname = ? ORDER BY am.amname, c.relname"""
_OPERATORS = {"ip": "<#>", "cosine": "<=>", "l2": "<->"}


@dataclass(frozen=True)
class Index:
    """An index that the application keeps on its vectors: its name, its kind, and the operator that it answers."""

    name: str
    kind: str
    operator: str


def index_of(session: Session, table: AdoptedTable, kept: StoredSpace) -> Index | None:
    """The application's index whose order is that of the space's scores; None where there is none of that kind."""
    if session.all("SELECT 1 FROM pg_extension WHERE extname = 'vector' AND extversion < '0.8'"):
        return None
    for name, kind, opclass in session.all(_INDEXES, [table.vector]):
        measure = opclass.removeprefix(f"{table.kind}_").removesuffix("_ops")
        # among unit vectors all three orders are the same
        if measure in _OPERATORS and (kept.space.normalized or measure == kept.score):
            return Index(name, kind, _OPERATORS[measure])
    return None


@dataclass(frozen=True)
class _Size:
    """What decides how to search, a few seconds old at most: rows, those that no newer space serves, the index."""

    at: float
    config: int
    rows: int
    live: int
    index: Index | None


class PostgresStore:
    """See `store.AdoptedStore`."""

    def __init__(self, ledger: Ledger, *, exact_rows: int = EXACT_ROWS) -> None:
        assert isinstance(ledger.engine, PostgresEngine)
        self.ledger, self.engine, self.exact_rows = ledger, ledger.engine, exact_rows
        self._size: _Size | None = None
        self._lacking: Lacking | None = None

    @property
    def table(self) -> AdoptedTable:
        """The application's table."""
        assert self.engine.adopted is not None
        return self.engine.adopted

    @property
    def name(self) -> str:
        """See `store.AdoptedStore`."""
        return f"{self.table.schema}.{self.table.table}"

    def scan(self) -> Iterator[Differences]:
        """See `store.AdoptedStore`: the server compares row versions, and only rows with another one come here."""
        yield from self._pages(
            "SELECT NULL, v.key::text, v.content, v.version::text, v.key FROM adopted_rows v "
            "LEFT JOIN adopted a ON a.key = v.key WHERE a.key IS NULL{after} ORDER BY v.key",
            "v.key",
            lambda rows: Differences(added=rows),
        )
        yield from self._pages(
            "SELECT a.item, v.key::text, v.content, v.version::text, a.item FROM adopted a "
            "JOIN adopted_rows v ON v.key = a.key WHERE v.version <> a.version{after} ORDER BY a.item",
            "a.item",
            lambda rows: Differences(changed=rows),
        )
        yield from self._pages(
            "SELECT a.item, '', '', '', a.item FROM adopted a JOIN item i ON i.no = a.item "
            "LEFT JOIN adopted_rows v ON v.key = a.key WHERE v.key IS NULL AND i.deleted = 0{after} ORDER BY a.item",
            "a.item",
            lambda rows: Differences(gone=tuple(row.number for row in rows if row.number is not None)),
        )

    def note(self, writer: LedgerWriter, rows: Sequence[SeenRow], numbers: Ints) -> None:
        """See `store.AdoptedStore`."""
        values = [(row.mark, number) for row, number in zip(rows, numbers.tolist(), strict=True)]
        fresh = [(row.id, *value) for row, value in zip(rows, values, strict=True) if row.number is None]
        known = [value for row, value in zip(rows, values, strict=True) if row.number is not None]
        if fresh:
            # the key in its own type, from the table that has it
            ids, marks, items = (list(column) for column in zip(*fresh, strict=True))
            key = writer.session.all(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = 'adopted'::regclass AND attname = 'key'"
            )[0][0]
            writer.session.run(
                "INSERT INTO adopted (item, key, version) SELECT n.item, n.id::" + key + ", n.mark::xid "
                "FROM unnest(?::bigint[], ?::text[], ?::text[]) AS n (item, id, mark)",
                [items, ids, marks],
            )
        if known:
            marks, items = (list(column) for column in zip(*known, strict=True))
            writer.session.run(
                "UPDATE adopted a SET version = n.mark::xid FROM unnest(?::text[], ?::bigint[]) AS n (mark, item) "
                "WHERE a.item = n.item",
                [marks, items],
            )

    def top(self, asked: Asked, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `store.AdoptedStore`.

        Approximately, above 50,000 rows and where the application has an index: the index is walked, as far as it takes
        to find enough rows that no newer space serves. Where it would meet more rows than there are of these, they are
        looked up by number, and the walk only looks for rows that were added or changed since the ledger listed them.
        """
        size = self.size(asked.reader, asked.state)
        rows = _AdoptedVectors(asked, self.table, allowed, size.index)
        if exact or size.index is None or size.rows < self.exact_rows:
            return rows.all_exact(queries, k)
        live = size.live if allowed is None else min(size.live, len(allowed))
        near: list[Neighbours | None] = [None] * len(queries)
        if live**2 > wanted(k) * size.rows:
            with following(asked.reader, k, live / size.rows):
                near = [rows.near(query, k) for query in queries]
        missing = [place for place, one in enumerate(near) if one is None]
        if missing:
            for place, one in zip(missing, self._few(asked, rows, queries[missing], k, allowed), strict=True):
                near[place] = one
        return [one for one in near if one is not None]

    def _few(
        self, asked: Asked, rows: _AdoptedVectors, queries: Vectors, k: int, allowed: Ints | None
    ) -> list[Neighbours]:
        """Where the walk does not meet enough rows: those without a newer vector by number, if they are not many."""
        known = lacking(asked.reader, asked.state, newer(self.table.generation, asked.state.servable), self._lacking)
        self._lacking = known
        items = known.items if allowed is None else np.intersect1d(known.items, allowed)
        if len(items) > self.exact_rows:
            return rows.all_exact(queries, k)
        listed = rows.listed(items).all_exact(queries, k) if len(items) else None
        with following(asked.reader, k, _WALK, patient=False):
            unlisted = [rows.unlisted(query, k) for query in queries]
        return unlisted if listed is None else better_of(listed, unlisted, k)

    def get(self, reader: LedgerReader, items: Ints) -> Rows:
        """See `store.AdoptedStore`."""
        return reader.rows_of(self.table.generation, items)

    def put(self, generation: int, items: Ints) -> int:
        """See `store.AdoptedStore`; what is there already is not written again."""
        table, new = self.table, quoted(self.table.coming)
        same = f"{table.content('t.' + quoted(table.vector))} = w.content"
        with self.ledger.write() as writer:
            # the application may change a row meanwhile: the condition is asked of the row as it is when it is locked,
            # and nothing waits for a row that the application holds, so that neither can end the other's transaction
            return writer.session.run(
                f"WITH free AS (SELECT a.item, a.key, w.value FROM side_{generation} w "
                f"JOIN adopted a ON a.item = w.item JOIN {table.quoted} t ON t.{quoted(table.key)} = a.key "
                f"WHERE w.item = ANY(?) AND t.{new} IS DISTINCT FROM w.value::{table.kind} "
                f"AND CASE WHEN t.xmin = a.version THEN TRUE ELSE {same} END FOR NO KEY UPDATE OF t SKIP LOCKED), "
                f"moved AS (UPDATE {table.quoted} t SET {new} = f.value FROM free f "
                f"WHERE t.{quoted(table.key)} = f.key RETURNING f.item) "
                "UPDATE adopted a SET version = pg_current_xact_id()::xid FROM moved WHERE a.item = moved.item",
                [items.tolist()],
            )

    def size(self, reader: LedgerReader, state: State) -> _Size:
        """How many rows there are, about, and the application's index."""
        known = self._size
        if known is None or known.config != state.config or time.monotonic() - known.at > _MEASURED_SECONDS:
            generation = self.table.generation
            rows = int(reader.session.all(f"SELECT reltuples FROM pg_class WHERE oid = ({_TABLE_OF_VIEW})")[0][0])
            if rows <= 0:
                rows = int(reader.session.all("SELECT COUNT(*) FROM adopted_rows")[0][0])
            served = sum(reader.stored(other) for other in newer(generation, state.servable))
            index = index_of(reader.session, self.table, state.spaces[generation])
            known = _Size(time.monotonic(), state.config, rows, max(0, rows - served), index)
            self._size = known
        return known

    def _pages(self, sql: str, key: str, made: Any) -> Iterator[Differences]:
        after, values = "", list[Any]()
        while True:
            with self.ledger.read() as reader:
                rows = reader.session.all(f"{sql.format(after=after)} LIMIT {_AT_ONCE}", values)
            if rows:
                yield made(tuple(SeenRow(row[1], row[2], row[0], row[3]) for row in rows))
            if len(rows) < _AT_ONCE:
                return
            after, values = f" AND {key} > ?", [rows[-1][4]]


class _AdoptedVectors(ServedVectors):
    """The application's rows that no newer space serves, and are allowed; those that are not listed, too."""

    rows, table, key, item = "adopted_rows v LEFT JOIN adopted a ON a.key = v.key", "adopted_rows", "key", "a.item"
    name = "v.key::text"

    def __init__(self, asked: Asked, table: AdoptedTable, allowed: Ints | None, index: Index | None) -> None:
        super().__init__(asked.reader, asked.state, table.generation, None)
        self._asked = asked
        self._newer = newer(table.generation, asked.state.servable)
        self.kind, self.where = table.kind, f"NOT {superseded(self._newer)}"
        if index is not None:
            self.near_operator = index.operator
        if allowed is not None:
            meets, values = asked.reader.meets(asked.where)
            self.where += f" AND (a.item = ANY(?) OR (a.item IS NULL AND {meets}))"
            self.values = [allowed.tolist(), *values]

    def _longest(self) -> float:
        # the ledger keeps no account of the application's vectors
        if not self._asked.longest:
            norm = "vector_norm" if self.kind == "vector" else "l2_norm"
            self._asked.longest.extend(self.reader.session.all(f"SELECT MAX({norm}(value)) FROM adopted_rows")[0])
        return self._asked.longest[0]

    def listed(self, items: Ints) -> _AdoptedVectors:
        """Only these items, and of them those that have no vector in a newer space at all."""
        sides = [f" AND NOT EXISTS (SELECT 1 FROM side_{other} w WHERE w.item = a.item)" for other in self._newer]
        return self._restricted(f"a.item = ANY(?){''.join(sides)}", [items.tolist()])

    def unlisted(self, query: Vectors, k: int) -> Neighbours:
        """The nearest that the ledger has not listed, or has listed with another vector, as far as the walk goes."""
        # a subquery for each row that the walk meets; an EXISTS would read the whole side table first
        sides = [f"(SELECT TRUE FROM side_{other} w WHERE w.item = a.item)" for other in self._newer]
        rows = self._restricted(f"COALESCE({', '.join([*sides, 'a.item IS NULL'])})")
        found, vectors = rows._fetch(*rows.near_sql(query, k))
        return rows._best(found, vectors, query, k)

    def _restricted(self, where: str, values: Sequence[Any] = ()) -> _AdoptedVectors:
        part = _AdoptedVectors.__new__(_AdoptedVectors)
        part.__dict__.update(self.__dict__)
        part.where, part.values = f"{where} AND {self.where}", [*values, *self.values]
        return part

    def _items(self, rows: list[tuple[Any, ...]]) -> Ints:
        items = (self._asked.number(row[1]) if row[0] is None else row[0] for row in rows)
        return np.fromiter(items, dtype=np.int64, count=len(rows))


class AdoptedSource(PgvectorSource):
    """Snapshots of a gallery with a space in an application's table; safe to use from several threads."""

    def __init__(self, ledger: Ledger, *, exact_rows: int = EXACT_ROWS) -> None:
        super().__init__(ledger, exact_rows=exact_rows)
        self.adopted = PostgresStore(ledger, exact_rows=exact_rows)
        self._lister = Lister(ledger, self.adopted)

    def maintain(self, advance: Advance = silent) -> None:
        """List what the application has changed, unless that was just done, and build the ledger's own indexes."""
        self._lister.list_now_and_then()
        super().maintain(advance)

    def coverage(self) -> Coverage:
        """See `base.Source`."""
        covered, generation = super().coverage(), self._own()
        if generation in covered:
            with self.ledger.read() as reader:
                index = index_of(reader.session, self.adopted.table, reader.state().spaces[generation])
            covered[generation]["kind"] = "exact" if index is None else f"{index.kind} ({index.name}, the table's own)"
        return covered

    def generations(self, reader: LedgerReader, state: State) -> list[int]:
        """See `base.Source`; the application may have added a row at any time, so its own space is always asked."""
        own = self._own()
        others = super().generations(reader, replace(state, spaces=_without(state, own)))
        return sorted([*others, own]) if own in state.servable else others

    def counts(self, reader: LedgerReader, state: State) -> dict[int, tuple[int, int]]:
        """See `PgvectorSource`; rows of side tables are counted as they are, stale ones too."""
        stored = {generation: reader.stored(generation) for generation in state.servable if generation != self._own()}
        later = {generation: sum(stored[other] for other in newer(generation, state.servable)) for generation in stored}
        there = indexes(reader.session)
        return {g: (rows, max(0, rows - later[g])) for g, rows in stored.items() if g in there}

    def _own(self) -> int:
        return self.adopted.table.generation

    def _snapshot(self, reader: LedgerReader, state: State, where: Sequence[Condition]) -> AdoptedSnapshot:
        return AdoptedSnapshot(self, reader, state, where)


def _without(state: State, generation: int) -> Any:
    return {
        number: replace(kept, retired=True) if number == generation else kept for number, kept in state.spaces.items()
    }


class AdoptedSnapshot(PgvectorSnapshot):
    """See `base.Snapshot`."""

    def __init__(self, source: AdoptedSource, reader: LedgerReader, state: State, where: Sequence[Condition]) -> None:
        super().__init__(source, reader, state, reader.select(where) if where else None)
        self._store, self._asked = source.adopted, Asked(reader, state, where)

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `base.Snapshot`."""
        if generation == self._store.table.generation:
            return self._store.top(self._asked, queries, k, allowed=allowed, exact=exact)
        return super().top(generation, queries, k, allowed=allowed, exact=exact)

    def ids(self, items: Ints) -> list[str]:
        """See `base.Snapshot`."""
        return self._asked.ids(items)

"""Search inside PostgreSQL: pgvector finds candidates, float64 decides, one transaction per search."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.gallery.index.base import Advance, Coverage, best_of_each, ids_of
from samespace.gallery.index.exact import margin, nearest_in, slack
from samespace.gallery.index.found import Found, Key, Neighbours
from samespace.gallery.index.pgvector.hnsw import MOST_DIMS, build, indexes, operator
from samespace.gallery.index.segments import Segment, compared
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.postgres.engine import PostgresEngine
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.serving import served_sql
from samespace.progress import silent

EXACT_ROWS = 50_000
EXACT_SHARE = 0.2

_COUNTED_SECONDS = 10.0
_BATCH = 16
_BLOCK = 8192
_PROBES = 10
_SORT_MEMORY = "64MB"
# the planner would rather sort everything than follow the index through an anti-join
_FOLLOW_INDEX = ("enable_seqscan", "enable_sort", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan")


@dataclass(frozen=True)
class _Counts:
    """What decides between exact and approximate: rows of a space with an index, and those that it serves."""

    config: int
    at: float
    rows: dict[int, tuple[int, int]]


class PgvectorSource:
    """Snapshots of a gallery on PostgreSQL; safe to use from several threads.

    Searches are exact below 50,000 live rows or a live share of 20 %, and where there is no HNSW index; `maintain`
    builds them.

    `exact_rows`: live rows of a space below which it is searched exactly.
    """

    def __init__(self, ledger: Ledger, *, exact_rows: int = EXACT_ROWS) -> None:
        assert isinstance(ledger.engine, PostgresEngine)
        self.ledger = ledger
        self.engine = ledger.engine
        self.exact_rows = exact_rows
        self._guard = threading.Lock()
        self._state: State | None = None
        self._generations: tuple[int, list[int]] = (-1, [])
        self._counts: _Counts | None = None

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[PgvectorSnapshot]:
        """The gallery now, as one transaction sees it; see `base.Source`."""
        with self.ledger.read() as reader:
            state = reader.state(self._state)
            with self._guard:
                if self._state is None or self._state.revision <= state.revision:
                    self._state = state
            reader.session.run(f"SET LOCAL work_mem = '{_SORT_MEMORY}'")
            yield self._snapshot(reader, state, where)

    def _snapshot(self, reader: LedgerReader, state: State, where: Sequence[Condition]) -> PgvectorSnapshot:
        return PgvectorSnapshot(self, reader, state, reader.select(where) if where else None)

    def maintain(self, advance: Advance = silent) -> None:
        """Build the HNSW index of every servable space that has grown out of exact search; searches go on meanwhile."""
        if self.ledger.read_only:
            return
        with self.ledger.read() as reader:
            state = reader.state()
            stored = {generation: reader.stored(generation) for generation in state.servable}
            there = indexes(reader.session)
        for generation, rows in stored.items():
            space = state.spaces[generation].space
            small = rows < self.exact_rows or space.dim > MOST_DIMS
            if small or generation in there or self.engine.written(generation) is None:
                continue
            name = space.name or space.id
            advance(0, f"building the index of {name} in the server: {rows:,} vectors, it does not tell how far it is")
            if build(self.engine, state.spaces[generation]):
                advance(rows, f"the index of {name} is built")
        with self._guard:
            self._counts = None

    def coverage(self) -> Coverage:
        """See `base.Source`; PostgreSQL keeps its indexes in step, so none is lacking."""
        covered: Coverage = {}
        with self.ledger.read() as reader:
            state, indexed = reader.state(), indexes(reader.session)
            for generation in state.servable:
                kind = "hnsw" if generation in indexed else "exact"
                if generation not in indexed and state.spaces[generation].space.dim > MOST_DIMS:
                    kind = f"exact (pgvector indexes at most {MOST_DIMS} dimensions)"
                covered[generation] = {"indexed": reader.stored(generation), "lag": 0, "kind": kind}
        return covered

    def damaged(self) -> dict[int, list[str]]:
        """See `base.Source`; the server keeps its own files."""
        return {}

    def close(self) -> None:
        """Nothing to let go of: connections are the ledger's."""

    def generations(self, reader: LedgerReader, state: State) -> list[int]:
        """Spaces that serve at least one item, remembered until the revision moves."""
        revision, known = self._generations
        if revision == state.revision:
            return known
        known = [
            generation
            for generation in state.servable
            if reader.session.all(
                f"SELECT 1 FROM vector_{generation} v WHERE {served_sql(generation, state.servable)} LIMIT 1"
            )
        ]
        self._generations = (state.revision, known)
        return known

    def counts(self, reader: LedgerReader, state: State) -> dict[int, tuple[int, int]]:
        """Rows and served rows of each space with an index, a few seconds old at most: they choose speed only."""
        known = self._counts
        if known is None or known.config != state.config or time.monotonic() - known.at > _COUNTED_SECONDS:
            rows = {}
            for generation in indexes(reader.session):
                if generation in state.servable:
                    sql = f"SELECT COUNT(*) FROM vector_{generation} v WHERE {served_sql(generation, state.servable)}"
                    rows[generation] = (reader.stored(generation), int(reader.session.all(sql)[0][0]))
            known = _Counts(state.config, time.monotonic(), rows)
            self._counts = known
        return known.rows


class PgvectorSnapshot:
    """See `base.Snapshot`: one transaction of the server."""

    def __init__(self, source: PgvectorSource, reader: LedgerReader, state: State, allowed: Ints | None) -> None:
        self._source = source
        self._reader = reader
        self.state = state
        self.allowed = allowed

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        return list(self._source.generations(self._reader, self.state))

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        return ids_of(self._reader, items)

    def best(self, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
        """See `base.Snapshot`."""
        return best_of_each(self, asked, k, key, exact=exact)

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `base.Snapshot`."""
        rows = self._vectors(generation, allowed)
        share = 0.0 if exact else self._share(generation, allowed)
        if share > 0:
            with following_index(self._reader, k, share):
                near = [rows.near(query, k) for query in queries]
            return [rows.exact(query, k) if one is None else one for one, query in zip(near, queries, strict=True)]
        return rows.all_exact(queries, k)

    def _vectors(self, generation: int, allowed: Ints | None) -> ServedVectors:
        return ServedVectors(self._reader, self.state, generation, allowed)

    def _share(self, generation: int, allowed: Ints | None) -> float:
        """Share of the index's rows that may be returned; 0 where an exact search is the better one."""
        rows, live = self._source.counts(self._reader, self.state).get(generation, (0, 0))
        live = live if allowed is None else min(live, len(allowed))
        return live / rows if rows and live >= self._source.exact_rows and live >= EXACT_SHARE * rows else 0.0


class ServedVectors:
    """The vectors of one space that serve an item, and are allowed; a subclass says where else they lie.

    `rows` is what stands after FROM, with a row `v`; `table` has each row's `value` by its `key`.
    """

    rows, table, key, item = "vector_{0} v", "vector_{0}", "no", "v.item"
    # the type of the column, and a name of the row where it may have no number
    kind, name = "vector", "NULL"

    def __init__(self, reader: LedgerReader, state: State, generation: int, allowed: Ints | None) -> None:
        self.reader = reader
        self.generation = generation
        kept = state.spaces[generation]
        self.space, self.score = kept.space, kept.score
        self.rows, self.table = self.rows.format(generation), self.table.format(generation)
        self.where, self.values = served_sql(generation, state.servable), list[Any]()
        if allowed is not None:
            self.where += " AND v.item = ANY(?)"
            self.values = [allowed.tolist()]
        self.operator = self.near_operator = operator(kept)[0]

    def all_exact(self, queries: Vectors, k: int) -> list[Neighbours]:
        """For each query the nearest by looking at every row."""
        if len(queries) >= _BATCH:
            return nearest_in(self.blocks(), queries, k)
        return [self.exact(query, k) for query in queries]

    def exact(self, query: Vectors, k: int) -> Neighbours:
        """By looking at every row; adding zero keeps the server from using an index."""
        count = k + k // 2 + 16
        while True:
            rows, vectors = self._fetch(
                f"SELECT b.item, b.name, b.distance, w.value::vector FROM (SELECT v.{self.key}, {self.item}, "
                f"{self.name} AS name, (v.value::vector {self.operator} ?::vector) + 0 AS distance "
                f"FROM {self.rows} WHERE {self.where} ORDER BY distance LIMIT {count}) b "
                f"JOIN {self.table} w ON w.{self.key} = b.{self.key} ORDER BY b.distance",
                [_text(query), *self.values],
            )
            if len(rows) < count or self._beyond(rows[-1][2], rows[k - 1][2], query):
                return self._best(rows, vectors, query, k)
            count *= 4

    def _beyond(self, last: float, kth: float, query: Vectors) -> bool:
        """Whether no row as far as the last one, by the server's distances, can be as near as the k-th."""
        if self.score == "cosine":
            # the server's cosine divides by lengths that err like the product
            return last > kth + margin(self.space.dim) * (1.01 if self.space.normalized else 4.0)
        if self.score == "l2":
            last, kth = last**2, kth**2
        longest = self._longest() if self.score == "ip" else 1.0
        lengths = longest * float(np.linalg.norm(query.astype(np.float64)))
        return last > kth + slack(self.score, self.space.dim, kth, lengths)

    def _longest(self) -> float:
        return self.reader.longest(self.generation)

    def near(self, query: Vectors, k: int) -> Neighbours | None:
        """By the index; None where its walk ended early, as few of the rows that it met are both served and allowed."""
        rows, vectors = self._fetch(*self.near_sql(query, k))
        return self._best(rows, vectors, query, k) if len(rows) == wanted(k) else None

    def near_sql(self, query: Vectors, k: int) -> tuple[str, list[Any]]:
        """The query that the index answers, with its values."""
        return (
            f"SELECT {self.item}, {self.name}, v.value::vector FROM {self.rows} WHERE {self.where} "
            f"ORDER BY v.value {self.near_operator} ?::{self.kind} LIMIT {wanted(k)}",
            [*self.values, _text(query)],
        )

    def blocks(self) -> Iterator[Segment]:
        """All of them, brought here."""
        after, values = "", list[Any]()
        while True:
            rows, vectors = self._fetch(
                f"SELECT {self.item}, {self.name}, v.{self.key}, v.value::vector FROM {self.rows} "
                f"WHERE {self.where}{after} ORDER BY v.{self.key} LIMIT {_BLOCK}",
                [*self.values, *values],
            )
            if not rows:
                return
            after, values = f" AND v.{self.key} > ?", [rows[-1][2]]
            yield self._segment(rows, vectors)

    def _fetch(self, sql: str, values: Sequence[Any]) -> tuple[list[tuple[Any, ...]], Vectors]:
        return self.reader.vectors(sql, values, self.space.dim)

    def _best(self, rows: list[tuple[Any, ...]], vectors: Vectors, query: Vectors, k: int) -> Neighbours:
        return nearest_in([self._segment(rows, vectors)], query[None], k)[0]

    def _segment(self, rows: list[tuple[Any, ...]], vectors: Vectors) -> Segment:
        """Rows that begin with the item number, for scoring; their row numbers do not matter there."""
        unused = np.zeros(len(rows), dtype=np.int64)
        return Segment(unused, self._items(rows), unused, compared(vectors, self.space, self.score), score=self.score)

    def _items(self, rows: list[tuple[Any, ...]]) -> Ints:
        return np.array([row[0] for row in rows], dtype=np.int64)


@contextmanager
def following_index(reader: LedgerReader, k: int, share: float, *, patient: bool = True) -> Iterator[None]:
    """Let the server walk the index, as far as it takes to find enough rows that are served.

    Where it is not `patient`, only among the nearest, whether they are enough or not.
    """
    effort = min(1000, max(100, int(wanted(k) * 2 / share)))
    settings = {
        "hnsw.iterative_scan": "relaxed_order" if patient else "off",
        "hnsw.ef_search": str(effort),
        "hnsw.max_scan_tuples": str(_most_scanned(effort)),
        "ivfflat.iterative_scan": "relaxed_order" if patient else "off",
        "ivfflat.probes": str(_PROBES),
        **dict.fromkeys(_FOLLOW_INDEX, "off"),
    }
    reader.session.run("; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items()))
    yield
    reader.session.run("; ".join(f"SET LOCAL {name} TO DEFAULT" for name in settings))


def wanted(k: int) -> int:
    """How many rows the index is asked for; float64 then decides."""
    return 2 * k + 16


def _most_scanned(effort: int) -> int:
    """After how many rows of the index a walk ends, though it has not found enough."""
    return max(20_000, 100 * effort)


def _text(query: Vectors) -> str:
    return "[" + ",".join(map(repr, query.tolist())) + "]"

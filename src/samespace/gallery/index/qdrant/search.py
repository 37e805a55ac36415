"""One search by way of a Qdrant collection, with every answer checked against the ledger at the snapshot's revision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.gallery.index.base import best_of_each, ids_of
from samespace.gallery.index.exact import Bools, better_of, nearest_in, no_neighbours, slack
from samespace.gallery.index.found import Found, Key, Neighbours
from samespace.gallery.index.qdrant.points import CollectionLost, Points
from samespace.gallery.index.qdrant.wire import Near, vector_name
from samespace.gallery.index.segments import Segment, read_segments
from samespace.gallery.index.served import ServedRows
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.serving import newer

_SLACK = 16
_MOST = 10_000


@dataclass(frozen=True, eq=False)
class QdrantSnapshot:
    """See `base.Snapshot`.

    `covered`, (items,), says whether the collection, `points`, has the item as the ledger has it. Up to `scan_below`
    candidates are read from the ledger instead. `doubt` is called where the collection lacks something (False) or
    proves wrong (True).
    """

    reader: LedgerReader
    state: State
    allowed: Ints | None
    served: ServedRows
    covered: Bools
    points: Points
    scan_below: int
    doubt: Callable[[bool], None]

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        return [generation for generation in self.state.servable if bool((self.served.serving == generation).any())]

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        return ids_of(self.reader, items)

    def best(self, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
        """See `base.Snapshot`."""
        return best_of_each(self, asked, k, key, exact=exact)

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `base.Snapshot`.

        The collection is asked for more than `k`; the ledger's vectors decide. Where the collection is missing, wrong
        or holds too little, the ledger alone answers.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        eligible = self.served.serving == generation
        if allowed is not None:
            chosen = np.zeros(len(eligible), dtype=bool)
            chosen[allowed] = True
            eligible &= chosen
        if np.count_nonzero(eligible & self.covered) > max(self.scan_below, k):
            search = _CollectionSearch(
                self, generation, queries, k, eligible, filtered=allowed is not None, exact=exact
            )
            try:
                if search.run():
                    return search.best
            except CollectionLost:
                search.missing = True
            if search.missing or search.wrong:
                self.doubt(search.wrong)
        return self._scanned(generation, queries, k, np.flatnonzero(eligible))

    def name(self, generation: int) -> str:
        """Of a space's vectors in the collection."""
        return vector_name(self.state.spaces[generation].space.id)

    def _scanned(self, generation: int, queries: Vectors, k: int, items: Ints) -> list[Neighbours]:
        kept, rows = self.state.spaces[generation], self.served.rows[generation]
        return nearest_in(read_segments(self.reader, kept, items, rows), queries, k)


class _CollectionSearch:
    """The best items of one space for some queries: ask, check, compare, and ask for more until no better can come."""

    def __init__(
        self,
        snapshot: QdrantSnapshot,
        generation: int,
        queries: Vectors,
        k: int,
        eligible: Bools,
        *,
        filtered: bool,
        exact: bool,
    ) -> None:
        self.snapshot, self.generation, self.queries, self.k, self.exact = snapshot, generation, queries, k, exact
        self.best = no_neighbours(len(queries))
        self._kept = snapshot.state.spaces[generation]
        longest = snapshot.reader.longest(generation) if self._kept.score == "ip" else 1.0
        self._lengths = (longest * np.linalg.norm(queries.astype(np.float64), axis=1)).tolist()
        self.missing = self.wrong = False
        self._indexed = eligible & snapshot.covered
        self._enough = min(k, int(np.count_nonzero(eligible)))
        self._seen = np.zeros(len(eligible), dtype=bool)
        self._rest = np.flatnonzero(eligible & ~snapshot.covered)
        count = int(np.count_nonzero(self._indexed))
        self._listed = np.flatnonzero(self._indexed) if filtered and count <= _MOST else None
        # a name may be asked for only where the collection is sure to know it
        rows, covered = snapshot.served.rows, snapshot.covered
        self._lacking = [
            snapshot.name(higher)
            for higher in newer(generation, snapshot.state.servable)
            if (rows[higher].all()[covered] > 0).any()
        ]

    def run(self) -> bool:
        """Fill `best`; False where the collection cannot answer."""
        waiting, limit = np.arange(len(self.queries)), self.k + _SLACK
        while len(waiting):
            if limit > _MOST:
                return False
            answers = self.snapshot.points.near(
                self.snapshot.name(self.generation),
                self.queries[waiting],
                limit,
                lacking=self._lacking,
                items=self._listed,
                exact=self.exact,
            )
            self._compare_touched()
            if not self._compare(answers):
                self.wrong = True
                return False
            pairs = zip(waiting.tolist(), answers, strict=True)
            waiting = np.array([query for query, near in pairs if self._open(query, near)], dtype=np.int64)
            if self.missing:
                return False
            limit *= 4
        self.missing = self.exact and not self._holds_all()
        return not self.missing

    def _compare_touched(self) -> None:
        """Points that others wrote since this revision may hide rows that the ledger still has here: compare those."""
        touched = self.snapshot.points.touched(self.snapshot.state.revision)
        touched = touched[touched < len(self._indexed)]
        self._rest = np.union1d(self._rest, touched[self._indexed[touched]])
        self._indexed[touched] = False

    def _compare(self, answers: Sequence[Near]) -> bool:
        """Compare what was answered and not seen before; False where a point is not a copy of the ledger's row."""
        items, first = np.unique(np.concatenate([near.items for near in answers]), return_index=True)
        known = items < len(self._indexed)
        items, first = items[known], first[known]
        fresh = self._indexed[items] & ~self._seen[items]
        items, first = items[fresh], first[fresh]
        numbers = np.concatenate([near.rows for near in answers])[first]
        checksums = np.concatenate([near.checksums for near in answers])[first]
        if (numbers != self.snapshot.served.rows[self.generation].of(items)).any():
            return False
        rows = self.snapshot.reader.rows_of(self.generation, np.union1d(items, self._rest[~self._seen[self._rest]]))
        place = np.searchsorted(rows.numbers, numbers)
        if (rows.checksums[place] != checksums).any():
            return False
        self._seen[rows.items] = True
        more = nearest_in([Segment.of(rows, self._kept.space, self._kept.score)], self.queries, self.k)
        self.best = better_of(self.best, more, self.k)
        return True

    def _open(self, query: int, near: Near) -> bool:
        """Whether a point that was not answered might still be among the best of a query."""
        raw = self.best[query].raw
        if near.complete:
            self.missing = self.missing or len(raw) < self._enough
            return False
        if len(raw) < self._enough:
            return True
        last = -(near.last**2) if self._kept.score == "l2" else near.last
        kth = float(raw[self.k - 1])
        return bool(last >= kth - slack(self._kept.score, self.queries.shape[1], kth, self._lengths[query]))

    def _holds_all(self) -> bool:
        """Whether the collection has as many points for this space to serve as the ledger has."""
        points, served, covered = self.snapshot.points, self.snapshot.served, self.snapshot.covered.copy()
        touched = points.touched(self.snapshot.state.revision)
        covered[touched[touched < len(covered)]] = False
        without = np.union1d(np.flatnonzero(~covered), touched)
        if len(without) > _MOST:
            return False
        present = points.count(self.snapshot.name(self.generation), lacking=self._lacking, without=without)
        return present == np.count_nonzero((served.serving == self.generation) & covered)

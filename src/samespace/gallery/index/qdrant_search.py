"""One search by way of a Qdrant collection, with every answer checked against the ledger as of the search's moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.gallery.index.base import Found
from samespace.gallery.index.exact import Bools, Part, nearest
from samespace.gallery.index.qdrant_points import CollectionLost, Points
from samespace.gallery.index.qdrant_wire import Near, vector_name
from samespace.gallery.index.segments import Segment
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Ints, Rows, State, Vectors
from samespace.gallery.serving import Generations, newer, serving_generations

_SLACK = 16
_MOST = 10_000
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Served:
    """Which space serves which item, as of one moment.

    Attributes:
        revision: of the ledger.
        rows: by generation: the row number of each item, by item number; 0 where it has none.
        serving: generation that serves each item, by item number; 0 for none.
    """

    revision: int
    rows: Mapping[int, Ints]
    serving: Generations

    @classmethod
    def at(cls, reader: LedgerReader, state: State, before: Served | None) -> Served:
        """As the ledger has it, read anew only as far as it changed since `before`."""
        if before is not None and before.revision > state.revision:
            before = None
        size = reader.next_numbers()[0]
        changed = None if before is None else reader.items_since(before.revision)[0]
        rows: dict[int, Ints] = {}
        for generation in (generation for generation, kept in state.spaces.items() if not kept.retired):
            known = None if before is None else before.rows.get(generation)
            if known is None or changed is None or before is None:
                known, since = np.zeros(size, dtype=np.int64), -1
            else:
                since = before.revision
                if len(changed) or len(known) < size:
                    known = np.concatenate([known, np.zeros(size - len(known), dtype=np.int64)])
                    known[changed] = 0
            if since < 0 or (changed is not None and len(changed)):
                items, numbers = reader.row_numbers(generation, since)
                known[items] = numbers
            rows[generation] = known
        return cls(state.revision, rows, serving_generations(rows, state.servable, size))


class QdrantSnapshot:
    """A gallery at one moment; see `snapshot.Snapshot`.

    Args:
        reader: the ledger at this moment.
        state: spaces, leaves, calibrations.
        served: which space serves which item.
        covered: (items,) whether the collection has the item as the ledger has it.
        points: the collection.
        scan_below: up to so many candidates are read from the ledger instead.
        doubt: called where the collection lacks something (False) or proves wrong (True).
    """

    def __init__(
        self,
        reader: LedgerReader,
        state: State,
        served: Served,
        covered: Bools,
        points: Points,
        *,
        scan_below: int,
        doubt: Callable[[bool], None],
    ) -> None:
        self.view, self.served, self.covered, self.points = reader, served, covered, points
        self._state, self._scan_below, self._doubt = state, scan_below, doubt

    @property
    def state(self) -> State:
        """Spaces, leaves, calibrations."""
        return self._state

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        return [generation for generation in self._state.servable if bool((self.served.serving == generation).any())]

    def allowed(self, where: Sequence[Condition]) -> Ints:
        """Numbers of the items that meet every condition, ascending."""
        return self.view.select(where)

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        known = self.view.items(items)
        return [known[number].id for number in items.tolist()]

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Found]:
        """For each query the `k` best items that a space serves, with all that tie; see `snapshot.Snapshot`.

        The collection is asked for more than `k`; the ledger's vectors decide. Where the collection is missing, wrong
        or holds too little, the ledger alone answers.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        eligible = self.served.serving == generation
        if allowed is not None:
            chosen = np.zeros(len(eligible), dtype=bool)
            chosen[allowed] = True
            eligible &= chosen
        if np.count_nonzero(eligible & self.covered) > max(self._scan_below, k):
            hunt = _Hunt(self, generation, queries, k, eligible, filtered=allowed is not None, exact=exact)
            try:
                if hunt.run():
                    return hunt.best
            except CollectionLost:
                hunt.missing = True
            if hunt.missing or hunt.wrong:
                self._doubt(hunt.wrong)
        return self._scanned(generation, queries, k, np.flatnonzero(eligible))

    def compared(self, generation: int, queries: Vectors, k: int, rows: Rows) -> list[Found]:
        """The `k` best of these rows for each query."""
        segment = Segment.of(rows, self._state.spaces[generation].space)
        return nearest([Part(segment, len(segment), None)], queries, k)

    def name(self, generation: int) -> str:
        """Of a space's vectors in the collection."""
        return vector_name(self._state.spaces[generation].space.id)

    def _scanned(self, generation: int, queries: Vectors, k: int, items: Ints) -> list[Found]:
        best = nothing(len(queries))
        for rows in self._rows(generation, items):
            best = merged(best, self.compared(generation, queries, k, rows), k)
        return best

    def _rows(self, generation: int, items: Ints) -> Iterator[Rows]:
        if 2 * len(items) < np.count_nonzero(self.served.rows[generation]):
            for start in range(0, len(items), _ROWS):
                yield self.view.rows_of(generation, items[start : start + _ROWS])
            return
        wanted = np.zeros(len(self.served.serving), dtype=bool)
        wanted[items] = True
        for rows in self.view.batches(generation, _ROWS):
            keep = wanted[rows.items]
            contents = tuple(content for content, kept in zip(rows.contents, keep.tolist(), strict=True) if kept)
            yield Rows(rows.numbers[keep], rows.items[keep], rows.values[keep], rows.checksums[keep], contents)


class _Hunt:
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
        self.best = nothing(len(queries))
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
            if (rows[higher][covered] > 0).any()
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
            self._leave_out_touched()
            if not self._taken(answers):
                self.wrong = True
                return False
            pairs = zip(waiting.tolist(), answers, strict=True)
            waiting = np.array([query for query, near in pairs if self._open(query, near)], dtype=np.int64)
            if self.missing:
                return False
            limit *= 4
        self.missing = self.exact and not self._holds_all()
        return not self.missing

    def _leave_out_touched(self) -> None:
        """Points that others wrote since this moment may hide rows that the ledger still has here: compare those."""
        touched = self.snapshot.points.touched(self.snapshot.state.revision)
        touched = touched[touched < len(self._indexed)]
        self._rest = np.union1d(self._rest, touched[self._indexed[touched]])
        self._indexed[touched] = False

    def _taken(self, answers: Sequence[Near]) -> bool:
        """Compare what was answered and not seen before; False where a point is not a copy of the ledger's row."""
        items, first = np.unique(np.concatenate([near.items for near in answers]), return_index=True)
        known = items < len(self._indexed)
        items, first = items[known], first[known]
        fresh = self._indexed[items] & ~self._seen[items]
        items, first = items[fresh], first[fresh]
        numbers = np.concatenate([near.rows for near in answers])[first]
        checksums = np.concatenate([near.checksums for near in answers])[first]
        if (numbers != self.snapshot.served.rows[self.generation][items]).any():
            return False
        rows = self.snapshot.view.rows_of(self.generation, np.union1d(items, self._rest[~self._seen[self._rest]]))
        place = np.searchsorted(rows.numbers, numbers)
        if (rows.checksums[place] != checksums).any():
            return False
        self._seen[rows.items] = True
        self.best = merged(self.best, self.snapshot.compared(self.generation, self.queries, self.k, rows), self.k)
        return True

    def _open(self, query: int, near: Near) -> bool:
        """Whether a point that was not answered might still be among the best of a query."""
        raw = self.best[query].raw
        if near.complete:
            self.missing = self.missing or len(raw) < self._enough
            return False
        if len(raw) < self._enough:
            return True
        # float32 scores of unit vectors err by less than this, however they are summed
        return bool(near.last >= raw[self.k - 1] - (self.queries.shape[1] + 8) * 2.0**-23)

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


def nothing(queries: int) -> list[Found]:
    """No item for any query."""
    return [Found(np.empty(0, dtype=np.int64), np.empty(0))] * queries


def merged(some: Sequence[Found], more: Sequence[Found], k: int) -> list[Found]:
    """The `k` best of two answers to each query, which share no item, ties with the last one included."""
    both = []
    for one, other in zip(some, more, strict=True):
        items, raw = np.concatenate([one.items, other.items]), np.concatenate([one.raw, other.raw])
        order = np.lexsort((items, -raw))
        if len(order) > k:
            order = order[raw[order] >= raw[order[k - 1]]]
        both.append(Found(items[order], raw[order]))
    return both

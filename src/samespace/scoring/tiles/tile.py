"""A tile of scores, some queries by some gallery items: in float32, and exactly where asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.scoring.grid import Doubles
from samespace.scoring.score import Singles, score_pairs, score_table, single_table
from samespace.space import Score

# one exact score costs about as much as this many of a whole tile
_ALONE = 64
_PAIRS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Vectors:
    """Some vectors, (n, D), in float64 and float32."""

    exact: Doubles
    singles: Singles

    @classmethod
    def of(cls, vectors: Doubles) -> Vectors:
        """Both forms of float64 vectors."""
        return cls(vectors, vectors.astype(np.float32))

    def __len__(self) -> int:
        return len(self.exact)

    def part(self, rows: slice) -> Vectors:
        """Some of them."""
        return Vectors(self.exact[rows], self.singles[rows])


class Tile:
    """Scores of some queries (q, D) with some gallery items (g, D).

    Attributes:
        singles: (q, g) float32, within `single_error` of the exact scores, or these themselves where the tile was made
            `exactly`; the caller's to use up.
    """

    def __init__(
        self, queries: Vectors, gallery: Vectors, score: Score, longest: float | None, *, exactly: bool = False
    ) -> None:
        self._queries, self._gallery = queries, gallery
        self._score, self._longest = score, longest
        self.exactly = exactly
        self.singles = self._table.copy() if exactly else single_table(queries.singles, gallery.singles, score)

    def exact(self, query: Ints, item: Ints) -> Floats:
        """The scores of listed pairs, (P,) float32, as `score_blocks` gives them."""
        if self.exactly or len(query) * _ALONE > self.singles.size:
            return np.asarray(self._table[query, item])
        return exact_pairs(self._queries.exact, self._gallery.exact, query, item, self._score, self._longest)

    def exact_rows(self, rows: Ints) -> Floats:
        """All scores of some of the queries, (r, g) float32; the caller's to use up."""
        if self.exactly:
            return self._table[rows]
        table = score_table(self._queries.exact[rows], self._gallery.exact, self._score, longest=self._longest)
        return np.asarray(table.astype(np.float32))

    @cached_property
    def _table(self) -> Floats:
        table = score_table(self._queries.exact, self._gallery.exact, self._score, longest=self._longest)
        return np.asarray(table.astype(np.float32))


def exact_pairs(
    queries: Doubles, gallery: Doubles, query: Ints, item: Ints, score: Score, longest: float | None
) -> Floats:
    """The scores of queries `query` (P,) with items `item` (P,), float32, as `score_blocks` gives them."""
    scores = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        scores[part] = score_pairs(queries[query[part]], gallery[item[part]], score, longest=longest)
    return scores


def places(chosen: Mask) -> tuple[Ints, Ints]:
    """Rows and columns where a table is true; quicker than `nonzero` where it rarely is."""
    row, column = np.divmod(np.flatnonzero(chosen), chosen.shape[1])
    return row, column

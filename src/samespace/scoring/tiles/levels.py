"""The scores of mates, as levels at or above which the other scores of their query are counted."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints

# sorting a line costs about as much as counting it so often
_MANY = 12


class Levels:
    """The scores of each query's mates, and how many other scores are at or above each.

    Most levels are reached by few scores, which are gathered and sorted. The others, the lowest of a query, are
    `counted` in whole lines of a tile, and where a query has many of them all its lines are `sorted`.

    Attributes:
        ends: (Q + 1,) where the levels of each query begin and end.
        exact: (P,) float32, ascending for each query.
        low: (P,) float32; an exact score below a level has a float32 score below its `high`, one at or above the level
            a float32 score at or above its `low`.
        high: (P,) float32.
        first: (Q,) the first level of each query that is not counted, and not in a line that is sorted.
        sorted: (Q,) bool.
        cut: (Q,) float32, the `low` of that level; +inf without one.
        others: (P,) int64, what was counted.
    """

    def __init__(self, query: Ints, scores: Floats, error: Floats, few: float) -> None:
        """Levels (P,) of queries (P,) in any order.

        `error` (Q,) bounds the error of a float32 score of each query; few impostors have scores above `few`.
        """
        order = np.lexsort((scores, query))
        query, self.exact = query[order], scores[order]
        self.ends = np.searchsorted(query, np.arange(len(error) + 1))
        margin = error[query]
        self.low, self.high = (self.exact - margin).astype(np.float32), (self.exact + margin).astype(np.float32)
        many = np.bincount(query[self.low < few], minlength=len(error))
        self.sorted = many > _MANY
        self.first = np.where(self.sorted, self.ends[1:], self.ends[:-1] + many)
        self.cut = np.append(self.low, np.float32(np.inf))[np.where(self.first < self.ends[1:], self.first, len(query))]
        self.others = np.zeros(len(query), dtype=np.int64)

    def finish(self) -> None:
        """Let go of what only counting needs; what was counted stays."""
        self.low = self.high = self.exact[:0]

    def slice_of(self, rows: slice) -> slice:
        """The levels of some queries."""
        return slice(int(self.ends[rows.start]), int(self.ends[rows.stop]))

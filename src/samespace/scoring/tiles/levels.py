"""Counting scores against levels that differ from query to query, in one search for many queries.

A key holds the number of a query in its upper bits and a score in its lower 32, so that the levels of all queries stand
in one ascending list, and a score finds its place among the levels of its own query.
"""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.score import Singles

# sorting a line costs about as much as counting it so often
_MANY = 12


def keys(query: Ints, scores: Floats) -> Ints:
    """One int64 for each query number (n,) and float32 score (n,): ordered by query, then by score.

    Example:
        >>> found = keys(np.array([0, 0, 1]), np.array([-0.5, 0.5, -1.0], dtype=np.float32))
        >>> bool((np.diff(found) > 0).all())
        True
    """
    # adding zero makes −0 and 0 the same; of two negative floats the one with the smaller bits is the larger
    bits = (scores.astype(np.float32, copy=False) + np.float32(0)).view(np.int32).astype(np.int64)
    return np.asarray((query << 32) + np.where(bits < 0, -(bits & 0x7FFFFFFF), bits))


class Levels:
    """The scores of each query's mates, and what is counted at or above each.

    Most levels are reached by few scores, which are looked up one by one. The others are `counted` in whole lines of a
    tile, and where a query has many of them all its lines are `sorted`.

    Attributes:
        ends: (Q + 1,) where the levels of each query begin and end.
        exact: (P,) float32, ascending for each query.
        low: (P,) float32; an exact score below a level has a float32 score below its `high`, one at or above the level
            a float32 score at or above its `low`.
        high: (P,) float32.
        counted: (P,) bool.
        sorted: (Q,) bool.
        cut: (Q,) float32, the `low` of the lowest level that is not counted; +inf without one.
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
        self._keys = keys(query, self.low), keys(query, self.exact), keys(query, self.high)
        self.counted = self.low < few
        self.sorted = np.bincount(query[self.counted], minlength=len(error)) > _MANY
        self.counted |= self.sorted[query]
        self.cut = np.full(len(error), np.inf, dtype=np.float32)
        np.minimum.at(self.cut, query[~self.counted], self.low[~self.counted])
        self._met = np.zeros(len(query), dtype=np.int64)
        self._reached = np.zeros(len(query), dtype=np.int64)

    def finish(self) -> None:
        """Let go of what only counting needs; what was counted stays."""
        none = np.zeros(0, dtype=np.int64)
        self._keys, self.low, self.high = (none, none, none), self.exact[:0], self.exact[:0]

    def slice_of(self, rows: slice) -> slice:
        """The levels of some queries."""
        return slice(int(self.ends[rows.start]), int(self.ends[rows.stop]))

    def sure(self, levels: slice, query: Ints, scores: Singles) -> tuple[Ints, Ints]:
        """How many of the `levels` stand at or below each score for sure, (n,), and whose place is in doubt, (d,)."""
        asked = keys(query, scores)
        least = self._keys[2][levels].searchsorted(asked, "right")
        most = self._keys[0][levels].searchsorted(asked, "right")
        return least, np.flatnonzero(most > least)

    def place(self, levels: slice, query: Ints, exact: Floats) -> Ints:
        """How many of the `levels`, which are of other queries too, stand before each exact score, (n,)."""
        return self._keys[1][levels].searchsorted(keys(query, exact), "right")

    def highest_met(self, levels: slice, query: Ints, place: Ints) -> Ints:
        """How many scores have each of the `levels` as their highest level met, (levels,) int64."""
        own = place > self.ends[query] - levels.start
        return np.bincount(place[own] - 1, minlength=levels.stop - levels.start)

    def add(self, levels: slice, met: Ints, reached: Ints) -> None:
        """Take how many scores of a tile met a level as their highest, and how many reached a counted level."""
        self._met[levels] += met
        self._reached[levels] += reached

    def others(self) -> Ints:
        """How many scores are at or above each level, (P,)."""
        total = np.concatenate([np.cumsum(self._met[::-1])[::-1], [0]])
        above = total[:-1] - np.repeat(total[self.ends[1:]], np.diff(self.ends))
        return np.where(self.counted, self._reached, above)

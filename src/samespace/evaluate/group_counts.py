"""Of a partly re-embedded gallery, tile by tile: how many scores of each group of items are at or above some levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.scoring.tiles.tile import LOWEST, Tile, at_least

Seen = list[tuple[Ints, Floats]]


class GroupCounts:
    """Counts the scores of one pair of models that are at or above each of a query's levels, by group of items.

    Args:
        levels: (q, L) float32, in any order, +inf where there are no more.
        cut: (q,) scores below it are passed over: no level is lower. +inf leaves a query out.
        error: (q,) bound on the error of a float32 score.
        groups: in each order of items, the group (G,) of each, and how many groups there are.
    """

    def __init__(self, levels: Floats, cut: Floats, error: Floats, groups: Sequence[tuple[Ints, int]]) -> None:
        self._cut, self._groups = cut, groups
        self._low = np.maximum(cut - error, LOWEST).astype(np.float32)
        self._order = np.argsort(levels, axis=1, kind="stable")
        self._levels = np.take_along_axis(levels, self._order, axis=1)
        queries, count = levels.shape
        self._counts = [np.zeros((queries, count + 1, size), dtype=np.int32) for _, size in groups]
        self._best = [np.full((queries, size), -np.inf, dtype=np.float32) for _, size in groups]

    def read(self, tile: Tile, rows: slice, first: int, mates: tuple[Ints, Ints]) -> Seen:
        """What a tile shows: by order (q, L + 1, groups) scores that reach so many levels, and (q, groups) the best."""
        tile.singles[mates] = -np.inf
        width = tile.singles.shape[1]
        query, item = np.divmod(at_least(tile.singles, self._low[rows]), width)
        scores = tile.exact(query, item)
        reached = scores >= self._cut[rows][query]
        query, item, scores = query[reached], item[reached], scores[reached]
        ends = query.searchsorted(np.arange(rows.stop - rows.start + 1))
        met = np.empty(len(scores), dtype=np.int64)
        for row, levels in enumerate(self._levels[rows]):
            mine = slice(ends[row], ends[row + 1])
            met[mine] = levels.searchsorted(scores[mine], "right")
        seen = []
        shape = rows.stop - rows.start, self._levels.shape[1] + 1
        for group, size in self._groups:
            of = group[first : first + width][item]
            cell = (query * shape[1] + met) * size + of
            best = np.full((shape[0], size), -np.inf, dtype=np.float32)
            np.maximum.at(best, (query, of), scores)
            seen.append((np.bincount(cell, minlength=shape[0] * shape[1] * size).reshape(*shape, size), best))
        return seen

    def add(self, rows: slice, seen: Seen) -> None:
        """Take what a tile showed."""
        for (counts, best), total, highest in zip(seen, self._counts, self._best, strict=True):
            total[rows] += counts
            np.maximum(highest[rows], best, out=highest[rows])

    def told(self) -> Mask:
        """(q,) whether everything is known of a query: it was not left out, and a best score was seen in each group."""
        seen = np.concatenate([np.isfinite(self._cut)[:, None], *map(np.isfinite, self._best)], axis=1)
        return np.asarray(seen.all(axis=1))

    def of(self, order: int, queries: Mask) -> tuple[Ints, Floats]:
        """Of some queries in one order the counts (n, L, groups + 1), summed over groups, and the best (n, groups)."""
        # scores at or above a level are those that reach more levels than lie below it
        above = np.cumsum(self._counts[order][queries][:, :0:-1], axis=1)[:, ::-1]
        counts = np.zeros((*above.shape[:2], above.shape[2] + 1), dtype=np.int32)
        np.put_along_axis(counts[..., 1:], self._order[queries][..., None], np.cumsum(above, axis=2), axis=1)
        return counts, self._best[order][queries]

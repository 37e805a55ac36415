"""Counting the scores at or above thresholds, as exactly as in float64 at the cost of float32.

A block of scores is computed in float32, whose error has a bound that holds for any order of the sums. Scores farther
than the bound from a threshold are counted as they are; the few that are nearer are computed anew without rounding
(`scoring.grid`), one by one or, where many are near as among equal vectors, a line of the block at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles, exact_scores, on_grid

# blocks of these sizes stay in the processor's cache between their product and their count
_TILE_ITEMS = 8_192
_BLOCK_QUERIES = 256
_LEAST_QUERIES = 16
# one exact score costs about as much as this many in an exact line
_ALONE = 64

Singles = npt.NDArray[np.float32]


def count_others(
    queries: npt.NDArray[Any], gallery: npt.NDArray[Any], query: Ints, item: Ints, thresholds: Doubles, memory: int
) -> Ints:
    """How many gallery items, listed ones of the same query apart, score at least a threshold.

    Queries (Q, D) and gallery (G, D), perhaps a memory map, are unit vectors. Each threshold, (P,), is the exact score
    of a `query` and an `item`; the items of a query are not counted for it. The result is (P,) int64.

    Raises:
        InputError: a vector is longer than one, or not finite.
    """
    order = np.lexsort((item, query))
    present, first = np.unique(query[order], return_index=True)
    ends = np.append(first, len(query))
    items, levels, others = item[order], thresholds[order], np.zeros(len(query), dtype=np.int64)
    tile, step = _cut(len(present), len(gallery), queries.shape[1], memory)
    for start in range(0, len(present), step):
        left = on_grid(queries[present[start : start + step]])
        for begin in range(0, len(gallery), tile):
            right = on_grid(gallery[begin : begin + tile])
            part = _Tile(left, right, items - begin, levels, others)
            for row in range(0, len(left), _BLOCK_QUERIES):
                part.count(row, ends[start + row : start + min(row + _BLOCK_QUERIES, len(left)) + 1])
    result = np.empty_like(others)
    result[order] = others
    return result


class _Tile:
    """Some gallery items, against which blocks of queries are counted.

    Queries `left` (q, D) and items `right` (g, D) are on the grid; `items` (P,) are the places of the listed items,
    most of them outside of the tile, `levels` (P,) the thresholds, and `others` (P,) the counts, added to.
    """

    def __init__(self, left: Doubles, right: Doubles, items: Ints, levels: Doubles, others: Ints) -> None:
        self.left, self.right, self.items, self.levels, self.others = left, right, items, levels, others
        self.singles = left.astype(np.float32), right.astype(np.float32).T
        dim = left.shape[1]
        # rounding of the vectors to float32, of each sum and product, and of the thresholds
        margin = 1.01 * (dim + 8) * 2.0**-24
        self.low, self.high = (levels - margin).astype(np.float32), (levels + margin).astype(np.float32)

    def count(self, row: int, ends: Ints) -> None:
        """Count a block of queries from `row` on, whose thresholds lie between the `ends`."""
        rows = slice(row, row + len(ends) - 1)
        exact, unsure = [], []
        scores = self.singles[0][rows] @ self.singles[1]
        scores[self._listed(ends)] = -np.inf
        for number, line in enumerate(scores):
            mine = slice(ends[number], ends[number + 1])
            sure, which, places = _met(line, self.low[mine], self.high[mine])
            if len(which) * _ALONE > len(line):
                exact.append(number)
            else:
                self.others[mine] += sure
                unsure.append((np.full(len(which), row + number), which + mine.start, places))
        if unsure:
            query, which, places = (np.concatenate(part) for part in zip(*unsure, strict=True))
            anew = exact_scores(self.left, self.right, query, places)
            np.add.at(self.others, which, anew >= self.levels[which])
        if exact:
            self._count_exactly(row, exact, ends)

    def _listed(self, ends: Ints) -> tuple[Ints, Ints]:
        """Rows of the block and places in the tile of the listed items."""
        items = self.items[ends[0] : ends[-1]]
        inside = (items >= 0) & (items < len(self.right))
        return np.arange(len(ends) - 1).repeat(np.diff(ends))[inside], items[inside]

    def _count_exactly(self, row: int, numbers: list[int], ends: Ints) -> None:
        scores = self.left[[row + number for number in numbers]] @ self.right.T
        for number, line in zip(numbers, scores, strict=True):
            mine = slice(ends[number], ends[number + 1])
            line[self._listed(ends[number : number + 2])[1]] = -np.inf
            line.sort()
            self.others[mine] += len(line) - np.searchsorted(line, self.levels[mine], side="left")


def _met(line: Singles, low: Singles, high: Singles) -> tuple[Ints, Ints, Ints]:
    """How many scores of a line surely meet each level, (m,); which levels are in doubt, about which places in it."""
    places = np.flatnonzero(line >= low.min())
    values = line[places]
    order = values.argsort()
    values = values[order]
    begin, end = values.searchsorted(low), values.searchsorted(high)
    doubts = end - begin
    which = np.arange(len(low)).repeat(doubts)
    slot = np.arange(len(which)) - (doubts.cumsum() - doubts)[which]
    return len(values) - end, which, places[order[begin[which] + slot]]


def _cut(queries: int, items: int, dim: int, memory: int) -> tuple[int, int]:
    """Gallery items per tile, and queries per pass over the gallery, whose work fits the memory."""
    # vectors are held four times over while they are brought onto the grid and to float32
    vector = 4 * 8 * dim
    tile = max(1, min(items, _TILE_ITEMS, memory // (2 * (vector + 16 * _LEAST_QUERIES))))
    spare = memory - tile * (vector + 16 * _BLOCK_QUERIES)
    return tile, max(1, min(queries, max(spare // vector, _LEAST_QUERIES)))

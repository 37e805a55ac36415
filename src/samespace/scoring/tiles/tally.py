"""What one pair of models shows tile by tile: counts at its mates' scores, its best non-mates, its impostor tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.tail import TailCollector
from samespace.scoring.tiles.levels import Levels
from samespace.scoring.tiles.mixed import MixedTile
from samespace.scoring.tiles.score_counts import ScoreCounts
from samespace.scoring.tiles.tile import LOWEST, Tile, at_least

Listed = tuple[Ints, Ints]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a tile shows.

    Attributes:
        reached: of each level of its queries, how many scores are at or above it.
        best: (q,) the highest exact score of each query, −inf where it was surely below an earlier one.
        tail: exact scores above the floor, their queries in the tile and items in the tile.
    """

    reached: Ints
    best: Floats
    tail: tuple[Floats, Ints, Ints]


@dataclass(frozen=True, eq=False)
class _High:
    """The highest float32 scores of each query of a tile, by query: `ends` (q + 1,), and of each value and item."""

    ends: Ints
    values: Floats
    item: Ints

    @classmethod
    def of(cls, singles: Floats, cut: Floats) -> _High:
        """Those at or above the `cut` (q,)."""
        rows, width = singles.shape
        flat = at_least(singles, cut)
        ends = flat.searchsorted(np.arange(rows + 1) * width)
        return cls(ends, singles.reshape(-1).take(flat), flat - np.repeat(np.arange(rows) * width, np.diff(ends)))

    def query(self, some: Ints) -> Ints:
        """The queries of some of them."""
        return self.ends.searchsorted(some, "right") - 1

    def tops(self) -> Floats:
        """The highest of each query, (q,), −inf without any."""
        tops = np.maximum.reduceat(np.append(self.values, np.float32(-np.inf)), self.ends[:-1])
        tops[self.ends[1:] == self.ends[:-1]] = -np.inf
        return np.asarray(tops)


class Tally:
    """Gathers one pair of models over a pass of queries. Tiles are read by several threads and added by one.

    Args:
        levels: the scores of the queries' mates.
        error: (Q,) bound on the error of a float32 score of each query.
        tail: takes the largest impostor scores.
        first: number of the first query of the pass.
    """

    def __init__(self, levels: Levels, error: Floats, tail: TailCollector | ScoreCounts, first: int) -> None:
        self.levels, self._error, self._tail, self._first = levels, error, tail, first
        self.best = np.full(len(error), -np.inf, dtype=np.float32)

    def read(self, tile: Tile | MixedTile, rows: slice, mates: Listed) -> Reading:
        """What a tile of the queries `rows` shows; its `singles` are used up."""
        tile.singles[mates] = -np.inf
        if tile.exactly:
            return self._read_exactly(tile.singles, rows)
        error, levels = self._error[rows], self.levels
        # another thread may raise the best meanwhile, which only spares work
        best = self.best[rows].copy()
        nearly = np.where(np.isfinite(best), best, tile.singles.max(axis=1) if not np.isfinite(best).all() else best)
        floor = (self._tail.floor if self._tail.size else np.inf) - error
        cut = np.minimum(np.minimum(levels.cut[rows], floor), nearly - 3 * error)
        high = _High.of(tile.singles, np.maximum(cut, LOWEST).astype(np.float32))
        reached = np.zeros(levels.ends[rows.stop] - levels.ends[rows.start], dtype=np.int64)
        self._look_up(tile, rows, high, reached)
        self._count(tile, rows, reached)
        lines = np.flatnonzero(levels.sorted[rows])
        if lines.size:
            self._sort(self._without_mates(tile, lines, mates), lines + rows.start, rows, reached)
        return Reading(reached, self._best(tile, high, best, error), self._high_tail(tile, high, floor))

    def add(self, rows: slice, first_item: int, reading: Reading) -> None:
        """Take what a tile showed."""
        self.levels.others[self.levels.slice_of(rows)] += reading.reached
        np.maximum(self.best[rows], reading.best, out=self.best[rows])
        scores, query, item = reading.tail
        above = scores > self._tail.floor
        if above.any():
            query = query[above] + (self._first + rows.start)
            self._tail.take(scores[above], query.astype(np.int32), (item[above] + first_item).astype(np.int32))

    def _read_exactly(self, scores: Floats, rows: slice) -> Reading:
        """What exact scores (q, g) show."""
        tail = np.zeros(0, dtype=np.int64)
        if self._tail.size:
            above = np.nextafter(np.float32(self._tail.floor), np.float32(np.inf))
            tail = at_least(scores, np.full(len(scores), above))
        kept = scores.reshape(-1).take(tail), *np.divmod(tail, scores.shape[1])
        reached = np.zeros(self.levels.ends[rows.stop] - self.levels.ends[rows.start], dtype=np.int64)
        self._sort(scores, np.arange(rows.start, rows.stop), rows, reached)
        return Reading(reached, scores[:, -1].copy(), kept)

    def _sort(self, scores: Floats, queries: Ints, rows: slice, reached: Ints) -> None:
        """Count exact scores (r, g) of some `queries`, which are used up, at or above all their levels."""
        levels, start = self.levels, self.levels.ends[rows.start]
        scores.sort(axis=1)
        for query, line in zip(queries.tolist(), scores, strict=True):
            first, last = levels.ends[query], levels.ends[query + 1]
            reached[first - start : last - start] = len(line) - line.searchsorted(levels.exact[first:last])

    def _look_up(self, tile: Tile | MixedTile, rows: slice, high: _High, reached: Ints) -> None:
        """Count the highest scores at or above the levels that only they reach."""
        levels, start = self.levels, self.levels.ends[rows.start]
        doubtful: list[tuple[int, slice, Ints]] = []
        for row, query in enumerate(range(rows.start, rows.stop)):
            mine = slice(levels.first[query], levels.ends[query + 1])
            values = high.values[high.ends[row] : high.ends[row + 1]]
            if levels.sorted[query] or mine.start == mine.stop or not len(values):
                continue
            ordered = np.sort(values)
            below = ordered.searchsorted(levels.high[mine])
            reached[mine.start - start : mine.stop - start] = len(values) - below
            if not np.array_equal(below, ordered.searchsorted(levels.low[mine])):
                least = levels.high[mine].searchsorted(values, "right")
                most = levels.low[mine].searchsorted(values, "right")
                doubtful.append((row, mine, high.ends[row] + np.flatnonzero(most > least)))
        if not doubtful:
            return
        some = np.concatenate([places for _, _, places in doubtful])
        high.values[some] = tile.exact(high.query(some), high.item[some])
        for row, mine, _ in doubtful:
            ordered = np.sort(high.values[high.ends[row] : high.ends[row + 1]])
            below = ordered.searchsorted(levels.exact[mine])
            reached[mine.start - start : mine.stop - start] = len(ordered) - below

    def _count(self, tile: Tile | MixedTile, rows: slice, reached: Ints) -> None:
        """Count the scores at or above the levels that many reach in lines that are not sorted."""
        levels, start = self.levels, self.levels.ends[rows.start]
        doubts: list[tuple[int, int, Ints]] = []
        for row in np.flatnonzero(
            ~levels.sorted[rows] & (levels.first[rows] > levels.ends[rows.start : rows.stop])
        ).tolist():
            scores = tile.singles[row]
            for level in range(levels.ends[rows.start + row], levels.first[rows.start + row]):
                met, perhaps = scores >= levels.high[level], scores >= levels.low[level]
                reached[level - start] = np.count_nonzero(met)
                if np.count_nonzero(perhaps) > reached[level - start]:
                    doubts.append((level, row, np.flatnonzero(perhaps > met)))
        if doubts:
            count = [len(items) for _, _, items in doubts]
            of_level, line = (np.repeat([doubt[which] for doubt in doubts], count) for which in (0, 1))
            exact = tile.exact(line, np.concatenate([items for _, _, items in doubts]))
            np.add.at(reached, of_level - start, exact >= levels.exact[of_level])

    def _without_mates(self, tile: Tile | MixedTile, lines: Ints, mates: Listed) -> Floats:
        """The exact scores of some lines, −inf at mates."""
        table = tile.exact_rows(lines)
        line = np.full(len(tile.singles), -1)
        line[lines] = np.arange(len(lines))
        listed = line[mates[0]] >= 0
        table[line[mates[0][listed]], mates[1][listed]] = -np.inf
        return table

    def _best(self, tile: Tile | MixedTile, high: _High, before: Floats, error: Floats) -> Floats:
        """Exact scores of those that may be the highest of their query, given the highest `before` (q,)."""
        tops = high.tops()
        best = np.full(len(tops), -np.inf, dtype=np.float32)
        for row in np.flatnonzero((tops + error >= before) & (tops >= LOWEST)).tolist():
            mine = slice(high.ends[row], high.ends[row + 1])
            near = high.item[mine][high.values[mine] >= np.float32(tops[row] - 2 * error[row])]
            best[row] = tile.exact(np.full(len(near), row), near).max()
        return best

    def _high_tail(self, tile: Tile | MixedTile, high: _High, floor: Floats) -> tuple[Floats, Ints, Ints]:
        """Exact scores above the floor of the tail, which float32 scores at or above `floor` (q,) may have."""
        some = np.flatnonzero(high.values >= np.float32(floor.min()))
        query = high.query(some)
        some, query = (part[high.values[some] >= floor[query]] for part in (some, query))
        exact = tile.exact(query, high.item[some])
        kept = exact > self._tail.floor
        return exact[kept], query[kept], high.item[some][kept]

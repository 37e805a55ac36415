"""What one pair of models shows tile by tile: counts at its mates' scores, its best non-mates, its impostor tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.score import Singles
from samespace.scoring.tail import TailCollector
from samespace.scoring.tiles.levels import Levels
from samespace.scoring.tiles.tile import Tile, places

_LOWEST = np.finfo(np.float32).min

Listed = tuple[Ints, Ints]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a tile shows.

    Attributes:
        met: of each level of its queries, how many scores have it as their highest level met.
        reached: of each counted level of its queries, how many scores are at or above it.
        best: (q,) the highest exact score of each query, −inf where it was surely below an earlier one.
        tail: exact scores above the floor, their queries in the tile and items in the tile.
    """

    met: Ints
    reached: Ints
    best: Floats
    tail: tuple[Floats, Ints, Ints]


class Tally:
    """Gathers one pair of models over a pass of queries. Tiles are read by several threads and added by one.

    Args:
        levels: the scores of the queries' mates.
        error: (Q,) bound on the error of a float32 score of each query.
        tail: takes the largest impostor scores.
        first: number of the first query of the pass.
    """

    def __init__(self, levels: Levels, error: Floats, tail: TailCollector, first: int) -> None:
        self.levels, self._error, self._tail, self._first = levels, error, tail, first
        self.best = np.full(len(error), -np.inf, dtype=np.float32)

    def read(self, tile: Tile, rows: slice, mates: Listed) -> Reading:
        """What a tile of the queries `rows` shows; its `singles` at `mates` are overwritten."""
        singles, error, reach = tile.singles, self._error[rows], self.levels.cut[rows]
        singles[mates] = -np.inf
        floor = (self._tail.floor if self._tail.size else np.inf) - error
        cut = np.maximum(np.minimum(reach, floor), _LOWEST).astype(np.float32)
        query, item = places(singles >= cut[:, None])
        scores = singles[query, item]
        some = scores >= reach[query]
        met = self._met(tile, rows, query[some], item[some], scores[some])
        some = scores >= floor[query]
        query, item = query[some], item[some]
        exact = tile.exact(query, item)
        kept = exact > self._tail.floor
        tail = exact[kept], query[kept], item[kept]
        return Reading(met, self._reached(tile, rows, mates), self._best(tile, rows), tail)

    def add(self, rows: slice, first_item: int, reading: Reading) -> None:
        """Take what a tile showed."""
        self.levels.add(self.levels.slice_of(rows), reading.met, reading.reached)
        np.maximum(self.best[rows], reading.best, out=self.best[rows])
        scores, query, item = reading.tail
        above = scores > self._tail.floor
        if above.any():
            query = query[above] + (self._first + rows.start)
            self._tail.take(scores[above], query.astype(np.int32), (item[above] + first_item).astype(np.int32))

    def _met(self, tile: Tile, rows: slice, query: Ints, item: Ints, scores: Singles) -> Ints:
        levels, numbers = self.levels.slice_of(rows), query + rows.start
        place, doubtful = self.levels.sure(levels, numbers, scores)
        exact = tile.exact(query[doubtful], item[doubtful])
        place[doubtful] = self.levels.place(levels, numbers[doubtful], exact)
        return self.levels.highest_met(levels, numbers, place)

    def _reached(self, tile: Tile, rows: slice, mates: Listed) -> Ints:
        """How many scores are at or above each counted level."""
        levels, part = self.levels, self.levels.slice_of(rows)
        reached = np.zeros(part.stop - part.start, dtype=np.int64)
        self._count(tile, rows, reached)
        lines = np.flatnonzero(levels.sorted[rows])
        if lines.size:
            table = tile.exact_rows(lines)
            line = np.full(rows.stop - rows.start, -1)
            line[lines] = np.arange(len(lines))
            listed = line[mates[0]] >= 0
            table[line[mates[0][listed]], mates[1][listed]] = -np.inf
            table.sort(axis=1)
            ends = levels.ends[rows.start : rows.stop + 1]
            for row, ordered in zip(lines.tolist(), table, strict=True):
                first, last = ends[row], ends[row + 1]
                below = ordered.searchsorted(levels.exact[first:last], "left")
                reached[first - part.start : last - part.start] = len(ordered) - below
        return reached

    def _count(self, tile: Tile, rows: slice, reached: Ints) -> None:
        """Count the float32 scores above levels of lines that are not sorted, and look anew at those in doubt."""
        levels, part = self.levels, self.levels.slice_of(rows)
        doubts: list[tuple[int, int, Ints]] = []
        mine = np.flatnonzero(levels.counted[part])
        lines = np.searchsorted(levels.ends[rows.start + 1 : rows.stop + 1], mine + part.start, side="right")
        alone = ~levels.sorted[rows][lines]
        mine, lines = mine[alone], lines[alone]
        highs, lows = levels.high[part][mine], levels.low[part][mine]
        for level, line, high, low in zip(mine.tolist(), lines.tolist(), highs, lows, strict=True):
            scores = tile.singles[line]
            met, perhaps = scores >= high, scores >= low
            sure = np.count_nonzero(met)
            reached[level] = sure
            if np.count_nonzero(perhaps) > sure:
                doubts.append((level, line, np.flatnonzero(perhaps > met)))
        if doubts:
            count = [len(items) for _, _, items in doubts]
            level, line = (np.repeat([doubt[which] for doubt in doubts], count) for which in (0, 1))
            exact = tile.exact(line, np.concatenate([items for _, _, items in doubts]))
            np.add.at(reached, level, exact >= levels.exact[part][level])

    def _best(self, tile: Tile, rows: slice) -> Floats:
        """Exact scores of those that may be the highest of their query."""
        singles, error = tile.singles, self._error[rows]
        tops = singles.max(axis=1)
        best = np.full(len(tops), -np.inf, dtype=np.float32)
        near = np.flatnonzero((tops + error >= self.best[rows]) & (tops >= _LOWEST))
        row, item = places(singles[near] >= (tops - 2 * error).astype(np.float32)[near, None])
        np.maximum.at(best, near[row], tile.exact(near[row], item))
        return best

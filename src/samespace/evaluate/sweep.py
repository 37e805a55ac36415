"""The sweep: how well a gallery is searched while it is re-embedded item by item, merged raw or calibrated.

A stage differs from the next only in which items are new. So the gallery is put in the order of the backfill, the
impostor scores of each group of items that are replaced together are sorted once, and the impostors above a mate are
counted in each group: among old scores in groups that are not replaced yet, among new scores in those that are. A mate
met in the one space is sought in the other at the score of equal log-odds, so one sorting serves raw and calibrated
merges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from samespace.evaluate.calibrations import FoldLines
from samespace.evaluate.group_counts import GroupCounts, Seen
from samespace.evaluate.inputs import AlignedSets
from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import Precisions, places
from samespace.prototypes.outliers import distance_to_centre, turn_in_class
from samespace.scoring.blocks import Blocks, query_blocks
from samespace.scoring.mates import BlockMates
from samespace.scoring.scores import Scores
from samespace.scoring.tail import Codes, Tail
from samespace.scoring.tiles.tile import Tile

_PAIRS = "cross", "new"
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
Order = Literal["random", "distance", "centre"]
Merge = Literal["calibrated", "raw"]


def backfill_turns(aligned: AlignedSets, order: Order, seed: int) -> Ints:
    """The turn of each place of the gallery in a backfill, (G,), 0 first; ties in random order.

    `random`: as drawn from the seed. `distance`: farthest from the old centre of its class first. `centre`: of each
    class the item next to the old centre first, then the second of each.
    """
    count = len(aligned.gallery_order)
    tie = np.random.default_rng(seed).permutation(count)
    key = np.zeros(count, dtype=np.float32)
    if order != "random":
        codes = np.empty(count, dtype=np.int64)
        codes[aligned.gallery_order] = aligned.mates.gallery_codes
        vectors = aligned.gallery.vectors
        by_row = -distance_to_centre(vectors, codes) if order == "distance" else turn_in_class(vectors, codes)
        key = by_row[aligned.gallery_order]
    turn = np.empty(count, dtype=np.int64)
    turn[np.lexsort((tie, key))] = np.arange(count)
    return turn


@dataclass(frozen=True, eq=False)
class _Plan:
    """A gallery in the order of its backfill: `column` lists its places, `ends` where each group ends."""

    column: Ints
    place: Ints
    ends: tuple[int, ...]
    group: Ints


class _Stage:
    """The best matches and the precision of each query at one stage under one merge.

    `width` (Q,) says in how many columns the precision of each query is summed; its last digit hangs on that.
    """

    def __init__(self, width: Ints) -> None:
        self.matches = Matches.unfilled(len(width))
        self.precision = Precisions.unfilled(len(width))
        self._width = width

    def fill(self, rows: Ints, mates: Floats, above: Ints, other: Floats) -> None:
        """Take the scores of the mates of some queries (q, M), the impostors above each, and the best of those."""
        nearest = np.where(np.isfinite(mates), above, np.iinfo(np.int32).max).min(axis=1)
        best = mates.max(axis=1)
        self.matches.rank[rows] = np.where(np.isfinite(best), 1 + nearest, 0)
        self.matches.mate[rows] = best
        self.matches.other[rows] = other
        for width in np.unique(self._width[rows]).tolist():
            some = self._width[rows] == width
            padded = np.full((np.count_nonzero(some), width), -np.inf, dtype=np.float32)
            others = np.zeros(padded.shape, dtype=above.dtype)
            kept = min(width, mates.shape[1])
            padded[:, :kept], others[:, :kept] = mates[some, :kept], above[some, :kept]
            self.precision.fill(rows[some], padded, others)


@dataclass(frozen=True, eq=False)
class _Met:
    """Some queries with their mates.

    Attributes:
        rows: (q,) which queries.
        place: (q, M) places of their mates in the gallery, −1 where there are no more.
        scores: by pair (q, M) float32 scores of mates, else +inf.
        odds: by pair their log-odds.
        levels: by pair (q, 3 M) where others are counted: scores of mates met in it, and for those met in the other the
            equal score, and that of equal log-odds.
    """

    rows: Ints
    place: Ints
    scores: list[Floats]
    odds: list[Floats]
    levels: list[Floats]

    @classmethod
    def of(cls, sweep: Sweep, rows: Ints, block: BlockMates, genuine: Sequence[Floats]) -> _Met:
        """Queries whose mates have `genuine` scores (P,) by pair."""
        lines, identity = sweep.lines, sweep.mates.query_codes[rows]
        kept = block.row[block.keep], block.slot[block.keep]
        place = np.full((len(rows), block.width), -1)
        place[kept] = block.place[block.keep]
        scores = [np.full(place.shape, np.inf, dtype=np.float32) for _ in genuine]
        for table, values in zip(scores, genuine, strict=True):
            table[kept] = values
        odds = [lines.odds(table, identity, pair) for pair, table in enumerate(scores)]
        calibrated = [lines.scores(odds[1 - pair], identity, pair).astype(np.float32) for pair in range(2)]
        levels = [np.concatenate([scores[pair], scores[1 - pair], calibrated[pair]], axis=1) for pair in range(2)]
        return cls(rows, place, scores, odds, levels)

    def some(self, of: Mask) -> _Met:
        """Those of some of the queries (q,)."""
        tables = ([table[of] for table in tables] for tables in (self.scores, self.odds, self.levels))
        return _Met(self.rows[of], self.place[of], *tables)


class Sweep:
    """Scores the stages between none and all of a backfill; watches a scan of `cross` and `new`.

    Of a tile only the scores are looked at that few reach. Queries with a mate below these, and those that such scores
    do not tell the best item of every group, are `left` and taken in whole rows.
    """

    def __init__(self, aligned: AlignedSets, lines: FoldLines, seed: int, block_size: int | None = None) -> None:
        self.mates, self.lines = aligned.mates, lines
        count = len(self.mates.gallery_codes)
        ends = tuple(round(share * count) for share in SHARES[1:])
        self.plans: dict[Order, _Plan] = {}
        for order in get_args(Order):
            turn = backfill_turns(aligned, order, seed)
            group = np.searchsorted(ends, turn, side="right")
            self.plans[order] = _Plan(column=np.argsort(turn), place=turn, ends=ends, group=group)
        width = np.empty(len(self.mates.query_codes), dtype=np.int64)
        for rows in (rows for some in query_blocks(aligned.pairs, block_size) for rows in some):
            width[rows] = self.mates.block(np.arange(rows.start, rows.stop)).width
        self.left: Ints = np.zeros(0, dtype=np.int64)
        self._stages = {
            (order, merge, stage): _Stage(width)
            for order in self.plans
            for merge in get_args(Merge)
            for stage in range(1, len(SHARES) - 1)
        }

    def rows(self, rows: Ints, blocks: Blocks, block: BlockMates) -> None:
        """Take whole rows of some queries."""
        own = block.row[block.keep], block.place[block.keep]
        met = _Met.of(self, rows, block, [blocks[name][own] for name in _PAIRS])
        for order, plan in self.plans.items():
            counted = [_count_by_group(blocks[name], plan, block, met.levels[pair]) for pair, name in enumerate(_PAIRS)]
            self._fill(order, met, counted)

    def begin(
        self,
        rows: slice,
        block: BlockMates,
        genuine: Mapping[str, Floats],
        errors: Mapping[str, Floats],
        few: Mapping[str, float],
    ) -> None:
        """As of `samespace.scoring.tiles.scan.Watch`, like the next three."""
        if rows.start == 0:
            self.left = self.left[:0]
        self._met = _Met.of(self, np.arange(rows.start, rows.stop), block, [genuine[name] for name in _PAIRS])
        levels = dict(zip(_PAIRS, self._met.levels, strict=True))
        high = [np.isfinite(few[name]) & (levels[name].min(axis=1) >= few[name]) for name in _PAIRS]
        groups = [(plan.group, len(plan.ends)) for plan in self.plans.values()]
        self._counts = {
            name: GroupCounts(levels[name], np.where(high[0] & high[1], few[name], np.inf), errors[name], groups)
            for name in _PAIRS
        }

    def read(self, tiles: Mapping[str, Tile], rows: slice, first: int, mates: tuple[Ints, Ints]) -> dict[str, Seen]:
        """What tiles show."""
        return {name: counts.read(tiles[name], rows, first, mates) for name, counts in self._counts.items()}

    def add(self, rows: slice, seen: dict[str, Seen]) -> None:
        """Take it."""
        for name, counts in self._counts.items():
            counts.add(rows, seen[name])

    def end(self) -> None:
        """Take what was counted of the queries it tells everything about."""
        told = self._counts["cross"].told() & self._counts["new"].told()
        self.left = np.concatenate([self.left, self._met.rows[~told]])
        for number, order in enumerate(self.plans):
            self._fill(order, self._met.some(told), [self._counts[name].of(number, told) for name in _PAIRS])

    def _fill(self, order: Order, met: _Met, counted: Sequence[tuple[Ints, Floats]]) -> None:
        """Take what was counted for some queries in one order."""
        identity, width = self.mates.query_codes[met.rows], met.place.shape[1]
        real = met.place >= 0
        group = np.where(real, self.plans[order].group[met.place], 0)
        above, best = [one for one, _ in counted], [one for _, one in counted]
        for merge, offset in (("raw", width), ("calibrated", 2 * width)):
            for stage in range(1, len(SHARES) - 1):
                total = _above(above, stage, offset, width, group < stage)
                scale = met.odds if merge == "calibrated" else met.scores
                mates = np.where(real, np.where(group < stage, scale[1], scale[0]), -np.inf).astype(np.float32)
                tops = [best[0][:, stage:].max(axis=1), best[1][:, :stage].max(axis=1)]
                if merge == "calibrated":
                    tops = [self.lines.odds(top, identity, pair) for pair, top in enumerate(tops)]
                self._stages[order, merge, stage].fill(met.rows, mates, total, np.maximum(*tops))

    def stages(self, cross: Scores, new: Scores) -> dict[tuple[Order, Merge], dict[float, Scores]]:
        """The scores of each share between none and all, by order and merge.

        Genuine scores and the tail are joined from those of `cross` and `new`; the tail goes as deep as both do.
        """
        tails = cross.tail, new.tail
        # with a new gallery tails are kept
        assert isinstance(tails[0], Tail)
        assert isinstance(tails[1], Tail)
        block = self.mates.block(np.arange(len(self.mates.query_codes)))
        place = block.place[block.keep]
        query = self.mates.query_codes[block.row[block.keep]]
        stages: dict[tuple[Order, Merge], dict[float, Scores]] = {}
        for (order, merge, stage), state in self._stages.items():
            replaced = self.plans[order].group < stage
            genuine = [self._scale(merge, pair, one.genuine, query) for pair, one in enumerate((cross, new))]
            stages.setdefault((order, merge), {})[SHARES[stage]] = Scores(
                mates=self.mates,
                matches=state.matches,
                precision=state.precision,
                genuine=np.where(replaced[place], genuine[1], genuine[0]),
                tail=self._tail(merge, (tails[0], tails[1]), replaced),
                sample=np.zeros(0, dtype=np.float32),
            )
        return stages

    def _scale(self, merge: Merge, pair: int, scores: Floats, identity: Codes) -> Floats:
        return self.lines.odds(scores, identity, pair) if merge == "calibrated" else scores

    def _tail(self, merge: Merge, tails: tuple[Tail, Tail], replaced: Mask) -> Tail:
        """The impostor tail of a mixed gallery, down to where the shallower of the two ends."""
        scores, kept = [], []
        floor = -np.inf
        for pair, tail in enumerate(tails):
            scores.append(self._scale(merge, pair, tail.scores, tail.query))
            kept.append(replaced[tail.place] == bool(pair))
            if not tail.complete:
                # halves map differently, so the tail is whole only above the higher image of its end
                last = np.repeat(tail.scores[-1:], 2)
                either = np.array([np.argmin(self.lines.fold), np.argmax(self.lines.fold)])
                floor = max(floor, float(self._scale(merge, pair, last, either).max()))
        kept = [keep & (values > floor) for keep, values in zip(kept, scores, strict=True)]

        def joined(name: str) -> Codes:
            return np.concatenate([getattr(tail, name)[keep] for tail, keep in zip(tails, kept, strict=True)])[order]

        values = np.concatenate([some[keep] for some, keep in zip(scores, kept, strict=True)])
        order = np.argsort(-values, kind="stable")
        complete = all(tail.complete for tail in tails)
        return Tail(values[order], joined("query"), joined("gallery"), joined("place"), complete)


def _count_by_group(scores: Floats, plan: _Plan, block: BlockMates, thresholds: Floats) -> tuple[Ints, Floats]:
    """Impostors at or above each threshold (q, T) among the items of each group, (q, T, groups), and the best of each.

    Counts are cumulative over the groups: [..., g] is of the first g of them.
    """
    ordered = np.take(scores, plan.column, axis=1)
    ordered[block.row, plan.place[block.place]] = -np.inf
    counted = np.zeros((*thresholds.shape, len(plan.ends) + 1), dtype=np.int32)
    best = np.full((len(scores), len(plan.ends)), -np.inf, dtype=np.float32)
    first = 0
    for group, last in enumerate(plan.ends):
        part = np.sort(ordered[:, first:last], axis=1)
        counted[..., group + 1] = counted[..., group]
        if last > first:
            counted[..., group + 1] += (last - first) - places(part, thresholds).astype(np.int32)
            best[:, group] = part[:, -1]
        first = last
    return counted, best


def _above(above: list[Ints], stage: int, offset: int, width: int, replaced: Mask) -> Ints:
    """Impostors at or above each mate at a stage, (q, M): new ones of the groups replaced, old ones of the others."""
    own, sought = slice(0, width), slice(offset, offset + width)
    old, new = above
    as_old = old[:, own, -1] - old[:, own, stage] + new[:, sought, stage]
    as_new = old[:, sought, -1] - old[:, sought, stage] + new[:, own, stage]
    return np.where(replaced, as_new, as_old)

"""The sweep: what a search finds while a gallery is re-embedded item by item, merged raw or calibrated.

A stage differs from the next only in which items are new. So the gallery is put in the order of the backfill, the
impostor scores of each group of items that are replaced together are sorted once, and the impostors above a mate are
counted in each group: among old scores in groups that are not replaced yet, among new scores in those that are. A mate
met in the one space is sought in the other at the score of equal log-odds, so one sorting serves raw and calibrated
merges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from samespace.evaluate.calibrations import FoldLines
from samespace.evaluate.inputs import Trial
from samespace.evaluate.protocol import Blocks, MateIndex, Outcome
from samespace.evaluate.tail import Tail
from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import places
from samespace.prototypes.outliers import distance_to_centre, turn_in_class

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
Order = Literal["random", "distance", "centre"]
Merge = Literal["calibrated", "raw"]


def backfill_turns(trial: Trial, order: Order, seed: int) -> Ints:
    """The turn of each place of the gallery in a backfill, (G,), 0 first; ties in random order.

    `random`: as drawn from the seed. `distance`: farthest from the old centre of its class first. `centre`: of each
    class the item next to the old centre first, then the second of each.
    """
    count = len(trial.gallery_codes)
    tie = np.random.default_rng(seed).permutation(count)
    key = np.zeros(count, dtype=np.float32)
    if order != "random":
        codes = np.empty(count, dtype=np.int64)
        codes[trial.gallery_order] = trial.gallery_codes
        vectors = trial.gallery.vectors
        found = -distance_to_centre(vectors, codes) if order == "distance" else turn_in_class(vectors, codes)
        key = found[trial.gallery_order]
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
    """What the queries find at one stage under one merge."""

    def __init__(self, count: int) -> None:
        self.rank = np.zeros(count, dtype=np.int64)
        self.mate = np.full(count, -np.inf, dtype=np.float32)
        self.other = np.full(count, -np.inf, dtype=np.float32)
        self.precision = np.full(count, np.nan)


class Sweep:
    """Scores the stages between none and all of a backfill; an observer of a scan of `cross` and `new`."""

    def __init__(self, trial: Trial, lines: FoldLines, seed: int) -> None:
        self.trial, self.lines = trial, lines
        count = len(trial.gallery_codes)
        ends = tuple(round(share * count) for share in SHARES[1:])
        self.plans: dict[Order, _Plan] = {}
        for order in get_args(Order):
            turn = backfill_turns(trial, order, seed)
            group = np.searchsorted(ends, turn, side="right")
            self.plans[order] = _Plan(column=np.argsort(turn), place=turn, ends=ends, group=group)
        self._stages = {
            (order, merge, stage): _Stage(len(trial.query_codes))
            for order in self.plans
            for merge in get_args(Merge)
            for stage in range(1, len(SHARES) - 1)
        }

    def __call__(self, start: int, blocks: Blocks, index: MateIndex) -> None:
        """Take one block of every stage of every order."""
        rows = np.arange(start, start + len(blocks["cross"]))
        shape = len(rows), max(1, int(index.slot.max(initial=-1)) + 1)
        kept = index.row[index.keep], index.slot[index.keep]
        own = index.row[index.keep], index.place[index.keep]
        identity = self.trial.query_codes[rows]
        mates: list[Floats] = []
        for name in ("cross", "new"):
            scores = np.full(shape, np.inf, dtype=np.float32)
            scores[kept] = blocks[name][own]
            mates.append(scores)
        odds = [self.lines.odds(scores, identity, pair) for pair, scores in enumerate(mates)]
        # the score of each mate in the space it was not met in: equal, or of equal log-odds
        raw = mates[1], mates[0]
        calibrated = tuple(self.lines.scores(odds[1 - pair], identity, pair).astype(np.float32) for pair in range(2))
        real = np.zeros(shape, dtype=bool)
        real[kept] = True
        for order, plan in self.plans.items():
            group = np.zeros(shape, dtype=np.int64)
            group[kept] = plan.group[index.place[index.keep]]
            above, best = [], []
            for pair, name in enumerate(("cross", "new")):
                counted, highest = _count_by_group(
                    blocks[name], plan, index, np.concatenate([mates[pair], raw[pair], calibrated[pair]], axis=1)
                )
                above.append(counted)
                best.append(highest)
            width = shape[1]
            for merge, offset in (("raw", width), ("calibrated", 2 * width)):
                for stage in range(1, len(SHARES) - 1):
                    total = _above(above, stage, offset, width, group < stage)
                    scale = odds if merge == "calibrated" else mates
                    met = np.where(real, np.where(group < stage, scale[1], scale[0]), -np.inf).astype(np.float32)
                    tops = [best[0][:, stage:].max(axis=1), best[1][:, :stage].max(axis=1)]
                    if merge == "calibrated":
                        tops = [self.lines.odds(top, identity, pair) for pair, top in enumerate(tops)]
                    _fill(self._stages[order, merge, stage], rows, met, total, np.maximum(*tops))

    def outcomes(self, cross: Outcome, new: Outcome) -> dict[tuple[Order, Merge], dict[float, Outcome]]:
        """The outcome of each share between none and all, by order and merge.

        Genuine scores and the tail are joined from those of `cross` and `new`; the tail goes as deep as both do.
        """
        index = MateIndex.of(self.trial, 0, len(self.trial.query_codes))
        place = index.place[index.keep]
        query = self.trial.query_codes[index.row[index.keep]]
        found: dict[tuple[Order, Merge], dict[float, Outcome]] = {}
        for (order, merge, stage), state in self._stages.items():
            replaced = self.plans[order].group < stage
            genuine = [self._scale(merge, pair, one.genuine, query) for pair, one in enumerate((cross, new))]
            found.setdefault((order, merge), {})[SHARES[stage]] = Outcome(
                found=Matches(rank=state.rank, mate=state.mate, other=state.other),
                precision=state.precision,
                genuine=np.where(replaced[place], genuine[1], genuine[0]),
                genuine_identity=cross.genuine_identity,
                tail=self._tail(merge, (cross.tail, new.tail), replaced),
                impostors=cross.impostors,
                sample=np.zeros(0, dtype=np.float32),
            )
        return found

    def _scale(self, merge: Merge, pair: int, scores: Floats, identity: Ints) -> Floats:
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
                last, either = (
                    np.repeat(tail.scores[-1:], 2),
                    np.array([np.argmin(self.lines.fold), np.argmax(self.lines.fold)]),
                )
                floor = max(floor, float(self._scale(merge, pair, last, either).max()))
        kept = [keep & (values > floor) for keep, values in zip(kept, scores, strict=True)]

        def joined(name: str) -> Ints:
            return np.concatenate([getattr(tail, name)[keep] for tail, keep in zip(tails, kept, strict=True)])[order]

        values = np.concatenate([some[keep] for some, keep in zip(scores, kept, strict=True)])
        order = np.argsort(-values, kind="stable")
        complete = all(tail.complete for tail in tails)
        return Tail(values[order], joined("query"), joined("gallery"), joined("place"), complete)


def _count_by_group(scores: Floats, plan: _Plan, index: MateIndex, thresholds: Floats) -> tuple[Ints, Floats]:
    """Impostors at or above each threshold (q, T) among the items of each group, (q, T, groups), and the best of each.

    Counts are cumulative over the groups: [..., g] is of the first g of them.
    """
    ordered = np.take(scores, plan.column, axis=1)
    ordered[index.row, plan.place[index.place]] = -np.inf
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


def _fill(state: _Stage, rows: Ints, mates: Floats, above: Ints, other: Floats) -> None:
    """Rank of the best mate and average precision, ties grouped as in `metrics.retrieval`."""
    real = np.isfinite(mates)
    count = real.sum(axis=1)
    ahead = mates.shape[1] - places(np.sort(mates, axis=1), mates)
    precision = np.where(real, ahead / np.maximum(1, ahead + above), 0.0).sum(axis=1)
    nearest = np.where(real, above, np.iinfo(np.int32).max).min(axis=1)
    state.rank[rows] = np.where(count > 0, 1 + nearest, 0)
    state.mate[rows] = mates.max(axis=1)
    state.other[rows] = other
    state.precision[rows] = precision / np.where(count > 0, count, np.nan)

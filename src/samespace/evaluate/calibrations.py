"""Calibrations of the pairs of a check: those a certificate hands on, and those its own sweep may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.inputs import AlignedSets
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.calibration import Calibration, calibrate
from samespace.scoring.blocks import score_blocks
from samespace.scoring.scores import Scores
from samespace.scoring.tail import Codes

_SAMPLE_PAIRS = 2_000_000
_FEWEST_QUERIES = 512
_KEPT = 200_000


def learn(tests: Mapping[str, Scores | None]) -> tuple[dict[str, Calibration], list[str]]:
    """The calibration of each pair of models from all pairs of items, and a note for each that cannot be calibrated.

    Log-odds rest on all genuine pairs and the impostor sample, levels on the tail and the sample below it.
    """
    calibrations, notes = {}, []
    for name, scores in tests.items():
        if scores is None:
            continue
        sample = scores.sample[:: max(1, len(scores.sample) // (2 * _KEPT))]
        impostors = scores.mates.impostors
        try:
            calibrations[name] = calibrate(scores.genuine, sample, tail=scores.tail, impostors=impostors)
        except InputError as error:
            notes.append(f"No calibration of the {name} pair: {error}.")
    return calibrations, notes


@dataclass(frozen=True, eq=False)
class FoldLines:
    """Log-odds of `cross` and `new` scores by calibrations that saw no item of the identity they are used on.

    Identities are halved at random; scores of one half's queries are mapped by what the pairs of the other half say.

    Attributes:
        fold: (identities,) 0 or 1.
        slope: (2, 2) slope for queries of a fold, of cross and of new.
        intercept: (2, 2) likewise.
    """

    fold: Ints
    slope: Floats
    intercept: Floats

    def odds(self, scores: Floats, identity: Codes, pair: int) -> Floats:
        """Log-odds, float64, of scores of `pair`, 0 for cross and 1 for new; one query identity a row."""
        slope, intercept = self._lines(scores, identity, pair)
        return np.asarray(scores * slope + intercept)

    def scores(self, odds: Floats, identity: Codes, pair: int) -> Floats:
        """The scores of `pair` that have these log-odds, the inverse of `odds`."""
        slope, intercept = self._lines(odds, identity, pair)
        return np.asarray((odds - intercept) / slope)

    def _lines(self, values: Floats, identity: Codes, pair: int) -> tuple[Floats, Floats]:
        fold = self.fold[identity].reshape(-1, *[1] * (values.ndim - 1))
        return self.slope[fold, pair], self.intercept[fold, pair]


def fold_lines(aligned: AlignedSets, *, seed: int, block_size: int | None = None) -> FoldLines:
    """Learn the calibrations of a sweep in a short pass over evenly spaced queries, about two million pairs.

    Raises:
        InputError: a half has too few pairs, or its genuine scores do not lie above its impostors'.
    """
    who = aligned.mates
    fold = np.random.default_rng(seed).permutation(who.identities) % 2
    gallery_fold = fold[who.gallery_codes]
    count = min(len(who.query_codes), max(_FEWEST_QUERIES, _SAMPLE_PAIRS // len(who.gallery_codes)))
    rows = (np.arange(count) * (len(who.query_codes) / count)).astype(np.int64)
    pairs = {name: (aligned.pairs[name][0].subset(rows), aligned.pairs[name][1]) for name in ("cross", "new")}
    kept: dict[tuple[str, int], tuple[list[Floats], list[Floats]]] = {
        (name, side): ([], []) for name in pairs for side in (0, 1)
    }
    thin = max(1, count * len(who.gallery_codes) // (4 * _KEPT))
    for start, blocks in score_blocks(pairs, block_size):
        some = rows[start : start + len(blocks["cross"])]
        block = who.block(some)
        query_fold = fold[who.query_codes[some]]
        for name, scores in blocks.items():
            genuine = scores[block.row, block.place]
            scores[block.row, block.place] = np.nan
            for side in (0, 1):
                mates, others = kept[name, side]
                mates.append(genuine[block.keep & (query_fold[block.row] == side)])
                own = scores[np.ix_(query_fold == side, gallery_fold == side)].ravel()[::thin]
                others.append(own[~np.isnan(own)])
    slope, intercept = np.empty((2, 2)), np.empty((2, 2))
    for (name, side), (mates, others) in kept.items():
        learnt = calibrate(np.concatenate(mates), np.concatenate(others))
        place = 1 - side, ("cross", "new").index(name)
        slope[place], intercept[place] = learnt.slope, learnt.intercept
    return FoldLines(fold=fold.astype(np.int64), slope=slope, intercept=intercept)

"""Calibrations of the pairs of a check: those a certificate hands on, and those its own sweep may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.inputs import Trial
from samespace.evaluate.protocol import MateIndex, Outcome, score_blocks
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.calibration import Calibration, calibrate

_SAMPLE_PAIRS = 2_000_000
_FEWEST_QUERIES = 512
_KEPT = 200_000


def learn(outcomes: Mapping[str, Outcome | None]) -> tuple[dict[str, Calibration], list[str]]:
    """The calibration of each pair of models from all pairs of items, and a note for each that cannot be calibrated.

    Log-odds rest on all genuine pairs and the impostor sample, levels on the tail and the sample below it.
    """
    found, notes = {}, []
    for name, outcome in outcomes.items():
        if outcome is None:
            continue
        sample = outcome.sample[:: max(1, len(outcome.sample) // (2 * _KEPT))]
        try:
            found[name] = calibrate(outcome.genuine, sample, tail=outcome.tail.scores, impostors=outcome.impostors)
        except InputError as error:
            notes.append(f"No calibration of the {name} pair: {error}.")
    return found, notes


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

    def odds(self, scores: Floats, identity: Ints, pair: int) -> Floats:
        """Log-odds, float64, of scores of `pair`, 0 for cross and 1 for new; one query identity a row."""
        slope, intercept = self._lines(scores, identity, pair)
        return np.asarray(scores * slope + intercept)

    def scores(self, odds: Floats, identity: Ints, pair: int) -> Floats:
        """The scores of `pair` that have these log-odds, the inverse of `odds`."""
        slope, intercept = self._lines(odds, identity, pair)
        return np.asarray((odds - intercept) / slope)

    def _lines(self, values: Floats, identity: Ints, pair: int) -> tuple[Floats, Floats]:
        fold = self.fold[identity].reshape(-1, *[1] * (values.ndim - 1))
        return self.slope[fold, pair], self.intercept[fold, pair]


def fold_lines(trial: Trial, *, seed: int, block_size: int | None = None) -> FoldLines:
    """Learn the calibrations of a sweep in a short pass over evenly spaced queries, about two million pairs.

    Raises:
        InputError: a half has too few pairs, or its genuine scores do not lie above its impostors'.
    """
    fold = np.random.default_rng(seed).permutation(trial.identities) % 2
    gallery_fold = fold[trial.gallery_codes]
    count = min(len(trial.query_codes), max(_FEWEST_QUERIES, _SAMPLE_PAIRS // len(trial.gallery_codes)))
    rows = (np.arange(count) * (len(trial.query_codes) / count)).astype(np.int64)
    pairs = {name: (trial.pairs[name][0].subset(rows), trial.pairs[name][1]) for name in ("cross", "new")}
    kept: dict[tuple[str, int], tuple[list[Floats], list[Floats]]] = {
        (name, side): ([], []) for name in pairs for side in (0, 1)
    }
    thin = max(1, count * len(trial.gallery_codes) // (4 * _KEPT))
    for start, blocks in score_blocks(pairs, block_size):
        some = rows[start : start + len(blocks["cross"])]
        index = MateIndex.of_rows(trial, some)
        query_fold = fold[trial.query_codes[some]]
        for name, scores in blocks.items():
            genuine = scores[index.row, index.place]
            scores[index.row, index.place] = np.nan
            for side in (0, 1):
                mates, others = kept[name, side]
                mates.append(genuine[index.keep & (query_fold[index.row] == side)])
                own = scores[np.ix_(query_fold == side, gallery_fold == side)].ravel()[::thin]
                others.append(own[~np.isnan(own)])
    slope, intercept = np.empty((2, 2)), np.empty((2, 2))
    for (name, side), (mates, others) in kept.items():
        learnt = calibrate(np.concatenate(mates), np.concatenate(others))
        place = 1 - side, ("cross", "new").index(name)
        slope[place], intercept[place] = learnt.slope, learnt.intercept
    return FoldLines(fold=fold.astype(np.int64), slope=slope, intercept=intercept)

"""The partial-backfill curve: a gallery re-embedded class by class (BCT, appendix B)."""

from __future__ import annotations

import numpy as np

from samespace.evaluate.inputs import Trial
from samespace.evaluate.protocol import Blocks, Collector, MateIndex, Outcome
from samespace.metrics._arrays import Mask


class Backfill:
    """Scores the stages of a backfill between none and all; an observer of a scan of `cross` and `new`.

    Classes are replaced in an order drawn once from the seed, so that each stage holds the one before it. The new
    queries meet old items as in the cross test and new items as in the self test.
    """

    def __init__(self, trial: Trial, steps: int, tail_size: int, seed: int) -> None:
        self.shares = [step / steps for step in range(steps + 1)]
        classes, place = np.unique(trial.gallery_codes, return_inverse=True)
        turn = np.random.default_rng(seed).permutation(len(classes))[place]
        self._replaced: list[Mask] = [turn < round(share * len(classes)) for share in self.shares[1:-1]]
        self._collectors = [Collector(trial, tail_size) for _ in self._replaced]

    def __call__(self, start: int, blocks: Blocks, index: MateIndex) -> None:
        """Take one block of every stage."""
        for replaced, collector in zip(self._replaced, self._collectors, strict=True):
            collector.add(start, np.where(replaced, blocks["new"], blocks["cross"]), index)

    def outcomes(self, cross: Outcome, new: Outcome) -> list[tuple[float, Outcome]]:
        """(share of classes replaced, outcome) from none, which is the cross test, to all, which is the self test."""
        stages = [cross, *(collector.finish() for collector in self._collectors), new]
        return list(zip(self.shares, stages, strict=True))

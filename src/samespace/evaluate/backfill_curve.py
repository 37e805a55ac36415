"""The partial-backfill curve: a gallery re-embedded class by class (BCT, appendix B)."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Mask
from samespace.scoring.blocks import Blocks
from samespace.scoring.mates import BlockMates, Mates
from samespace.scoring.scores import Collector, Scores


class Backfill:
    """Scores the stages of a backfill between none and all; an observer of a scan of `cross` and `new`.

    Classes are replaced in an order drawn once from the seed, so that each stage holds the one before it. The new
    queries meet old items as in the cross test and new items as in the self test.
    """

    def __init__(self, mates: Mates, steps: int, tail_size: int, seed: int) -> None:
        self.shares = [step / steps for step in range(steps + 1)]
        classes, place = np.unique(mates.gallery_codes, return_inverse=True)
        turn = np.random.default_rng(seed).permutation(len(classes))[place]
        self._replaced: list[Mask] = [turn < round(share * len(classes)) for share in self.shares[1:-1]]
        self._collectors = [Collector(mates, tail_size) for _ in self._replaced]

    def __call__(self, start: int, blocks: Blocks, block: BlockMates) -> None:
        """Take one block of every stage."""
        for replaced, collector in zip(self._replaced, self._collectors, strict=True):
            collector.add(start, np.where(replaced, blocks["new"], blocks["cross"]), block)

    def stages(self, cross: Scores, new: Scores) -> list[tuple[float, Scores]]:
        """(share of classes replaced, scores) from none, which is the cross test, to all, which is the self test."""
        stages = [cross, *(collector.finish() for collector in self._collectors), new]
        return list(zip(self.shares, stages, strict=True))

"""The strict criterion over all pairs of a check, counted block by block."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats
from samespace.metrics.compatibility import StrictShares
from samespace.scoring.blocks import Blocks
from samespace.scoring.mates import BlockMates, Mates


class StrictCounter:
    """Counts the pairs of tests `old` and `cross` that satisfy the strict criterion (BCT Eq. 1)."""

    def __init__(self) -> None:
        self._kept = np.zeros(2, dtype=np.int64)
        self._improved = np.zeros(2, dtype=np.int64)

    def __call__(self, start: int, blocks: Blocks, block: BlockMates) -> None:
        """Count a block of scores; mates are taken out of the totals to leave pairs of unlike identities."""
        old, cross = blocks["old"], blocks["cross"]
        before, after = old[block.row, block.place], cross[block.row, block.place]
        kept, improved = np.count_nonzero(cross <= old), np.count_nonzero(cross < old)
        kept -= np.count_nonzero(after <= before)
        improved -= np.count_nonzero(after < before)
        self.add(before[block.keep], after[block.keep], (int(kept), int(improved)))

    def add(self, before: Floats, after: Floats, negative: tuple[int, int]) -> None:
        """Count scores of mates, old and new, and of others those that an update did not raise and that it lowered."""
        self._kept += np.array([np.count_nonzero(after >= before), negative[0]])
        self._improved += np.array([np.count_nonzero(after > before), negative[1]])

    def shares(self, mates: Mates) -> StrictShares:
        """The counts as shares of the pairs of their kind."""
        totals = int(mates.counts.sum()), mates.impostors
        kept, improved = (
            [int(count) / total if total else None for count, total in zip(counts, totals, strict=True)]
            for counts in (self._kept, self._improved)
        )
        return StrictShares(
            positive_share=kept[0],
            negative_share=kept[1],
            positive_improved=improved[0],
            negative_improved=improved[1],
        )

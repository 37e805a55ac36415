"""The partial-backfill curve: a gallery re-embedded class by class (BCT, appendix B)."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Mask
from samespace.scoring.mates import Mates


class Backfill:
    """The stages of a backfill from none, which is the cross test, to all, which is the self test.

    Classes are replaced in an order drawn once from the seed, so that each stage holds the one before it. The new
    queries meet old items as in the cross test and new items as in the self test.

    Attributes:
        shares: of the classes that are replaced, by stage, from 0 to 1.
        replaced: of each stage between, by a name, which gallery items (G,) are replaced.
    """

    def __init__(self, mates: Mates, steps: int, seed: int) -> None:
        self.shares = [step / steps for step in range(steps + 1)]
        classes, place = np.unique(mates.gallery_codes, return_inverse=True)
        turn = np.random.default_rng(seed).permutation(len(classes))[place]
        self.replaced: dict[str, Mask] = {
            f"{share} replaced": turn < round(share * len(classes)) for share in self.shares[1:-1]
        }

"""What every query finds: its best match, and how its mates stand in its ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import Precisions


@dataclass(frozen=True, eq=False)
class Found:
    """Of each query rank and score of its best mate, its best non-mate, and its precision."""

    matches: Matches
    precision: Precisions

    @classmethod
    def nothing(cls, queries: int) -> Found:
        """Of so many queries, to be filled in."""
        return cls(Matches.unfilled(queries), Precisions.unfilled(queries))

    def fill(self, rows: slice, mates: Floats, others: Ints, highest: Floats) -> None:
        """Take some queries.

        Args:
            rows: which.
            mates: (q, M) scores of their mates, each row ascending, padded in front with −inf.
            others: (q, M) how many non-mates score at least as high as each.
            highest: (q,) the highest score of a non-mate.
        """
        best = mates[:, -1]
        self.matches.rank[rows] = np.where(np.isfinite(best), 1 + others[:, -1], 0)
        self.matches.mate[rows] = best
        self.matches.other[rows] = highest
        self.precision.fill(rows, mates, others)

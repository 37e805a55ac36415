"""Where the impostor scores of a large search lie, by a sample of queries and items."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.blocks import ModelPairs
from samespace.scoring.mates import Mates
from samespace.scoring.score import single_table
from samespace.scoring.tiles.tile import Vectors

_QUERIES, _ITEMS = 512, 16_384
_FEW = 0.06


class Pilot:
    """Float32 impostor scores of evenly spaced queries and items, ascending, by pair of models."""

    def __init__(self, pairs: ModelPairs, mates: Mates) -> None:
        rows, columns = (
            _spread(len(codes), most) for codes, most in ((mates.query_codes, _QUERIES), (mates.gallery_codes, _ITEMS))
        )
        strangers = mates.query_codes[rows][:, None] != mates.gallery_codes[columns]
        self._impostors = mates.impostors
        self._scores: dict[str, Floats] = {}
        for name, (queries, gallery) in pairs.items():
            left, right = (
                Vectors.of(side.subset(some).read(0, len(some))).singles
                for side, some in ((queries, rows), (gallery, columns))
            )
            self._scores[name] = np.sort(single_table(left, right, gallery.score)[strangers])

    def few(self, name: str) -> float:
        """A score that about six of a hundred impostors reach."""
        return self._reached_by(name, _FEW * len(self._scores[name]))

    def floor(self, name: str, size: int, slack: float) -> float:
        """A score that `size` impostors exceed, all but surely; −inf where that may be all of them.

        Queries differ in how high their scores are, so the sample may be off by more than chance has it for single
        pairs: `slack` multiplies how many of the sample are allowed above what is needed.
        """
        needed = len(self._scores[name]) * size / max(1, self._impostors)
        return self._reached_by(name, needed + slack * (0.4 * needed + 8 * needed**0.5 + 40))

    def _reached_by(self, name: str, count: float) -> float:
        scores = self._scores[name]
        return float(scores[len(scores) - int(count)]) if 1 <= count < len(scores) else -np.inf


def _spread(count: int, most: int) -> Ints:
    """At most so many of `count` numbers, evenly spaced."""
    some = min(count, most)
    return (np.arange(some) * (count / some)).astype(np.int64)

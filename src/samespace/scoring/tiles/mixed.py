"""A tile of a gallery that is partly re-embedded: some items' scores by one pair of models, the others' by another."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.scoring.score import Singles
from samespace.scoring.tiles.tile import Tile

MIXED_OF = "cross", "new"


class MixedTile:
    """The scores of `new` at items that are `replaced` (g,), those of `old` elsewhere; else as `Tile`.

    Both tiles are of the same queries and items and still as they were made.
    """

    exactly = False

    def __init__(self, old: Tile, new: Tile, replaced: Mask, out: Singles) -> None:
        self._old, self._new, self._replaced = old, new, replaced
        np.copyto(out, old.singles)
        np.copyto(out, new.singles, where=replaced)
        self.singles = out

    def exact(self, query: Ints, item: Ints) -> Floats:
        """The scores of listed pairs, (P,) float32."""
        new = self._replaced[item]
        scores = np.empty(len(query), dtype=np.float32)
        scores[new] = self._new.exact(query[new], item[new])
        scores[~new] = self._old.exact(query[~new], item[~new])
        return scores

    def exact_rows(self, rows: Ints) -> Floats:
        """All scores of some of the queries, (r, g) float32; the caller's to use up."""
        scores = self._old.exact_rows(rows)
        np.copyto(scores, self._new.exact_rows(rows), where=self._replaced)
        return scores

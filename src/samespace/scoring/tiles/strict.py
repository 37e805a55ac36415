"""The strict criterion over tiles: how many impostor scores an update leaves or lowers."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.tiles.tile import Tile, places

Counts = tuple[int, int]


def lowered(old: Tile, new: Tile, error: Floats, mates: tuple[Ints, Ints]) -> Counts:
    """How many scores off `mates` are in `new` at most as high as in `old`, and how many lower.

    Both tiles are of the same queries and items and still as they were made; `error` (q,) is the sum of both bounds.
    Scores that differ by more are compared as they are, the others exactly.
    """
    gained = new.singles - old.singles
    gained[mates] = np.inf
    bound = (error * (1 + 2.0**-20)).astype(np.float32)[:, None]
    surely, perhaps = gained < -bound, gained <= bound
    sure = int(np.count_nonzero(surely))
    if np.count_nonzero(perhaps) == sure:
        return sure, sure
    query, item = places(perhaps ^ surely)
    before, after = old.exact(query, item), new.exact(query, item)
    return sure + int(np.count_nonzero(after <= before)), sure + int(np.count_nonzero(after < before))

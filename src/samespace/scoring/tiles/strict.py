"""The strict criterion over tiles: how many impostor scores an update leaves or lowers."""

from __future__ import annotations

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.tiles.tile import Tile, row_groups

Counts = tuple[int, int]


def lowered(old: Tile, new: Tile, error: Floats, mates: tuple[Ints, Ints]) -> Counts:
    """How many scores off `mates` are in `new` at most as high as in `old`, and how many lower.

    Both tiles are of the same queries and items and still as they were made; those of `new` at `mates` are overwritten.
    `error` (q,) is the sum of both bounds: scores that differ by more are compared as they are, the others exactly.
    """
    new.singles[mates] = np.inf
    bound = (error * (1 + 2.0**-20)).astype(np.float32)[:, None]
    sure, rows, width = 0, len(bound), new.singles.shape[1]
    doubts = [np.zeros(0, dtype=np.int64)]
    for part in row_groups(rows, width):
        gained = new.singles[part] - old.singles[part]
        surely, perhaps = gained < -bound[part], gained <= bound[part]
        sure += int(np.count_nonzero(surely))
        doubts.append(np.flatnonzero(np.logical_xor(perhaps, surely, out=perhaps)) + part.start * width)
    query, item = np.divmod(np.concatenate(doubts), width)
    before, after = old.exact(query, item), new.exact(query, item)
    return sure + int(np.count_nonzero(after <= before)), sure + int(np.count_nonzero(after < before))

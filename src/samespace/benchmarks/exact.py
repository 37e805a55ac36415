"""Cosines without rounding: the same number however the work is cut, whatever the order of the sums.

The values of unit vectors are rounded to multiples of 2⁻²⁶. Products are then multiples of 2⁻⁵² and, because no partial
sum of a cosine exceeds two, every sum of them is exact in float64. Equal pairs tie, a score looked up alone equals the
one in a block, and the rounding moves a cosine by less than the last digit of the float32 vectors themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samespace.errors import InputError
from samespace.metrics._arrays import Ints

Doubles = npt.NDArray[np.float64]

# adding 1.5 · 2²⁶ leaves a float64 no digit below 2⁻²⁶
_ROUNDER = 1.5 * 2.0**26
_LONGEST = 1.001
_READ_ROWS = 4096
_CACHE_BYTES = 1 << 22


def unit_rows(
    vectors: npt.NDArray[Any], rows: Ints | None = None, ids: npt.NDArray[np.str_] | None = None
) -> npt.NDArray[np.float32]:
    """The rows of `vectors` scaled to length one, read in blocks.

    Args:
        vectors: (n, D) floats, perhaps a memory map.
        rows: (N,) which rows, in which order; all of them by default.
        ids: (N,) names of the rows, for the error.

    Returns:
        (N, D) float32.

    Raises:
        InputError: a vector is zero or not finite, so that it has no direction.
    """
    count = len(vectors) if rows is None else len(rows)
    result = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for start in range(0, count, _READ_ROWS):
        part = slice(start, min(start + _READ_ROWS, count))
        block = np.asarray(vectors[part] if rows is None else vectors[rows[part]], dtype=np.float64)
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        bad = ~(np.isfinite(lengths) & (lengths > 0))[:, 0]
        if bad.any():
            row = start + int(np.argmax(bad))
            raise InputError(
                f"the vector of image '{row if ids is None else ids[row]}' is zero or not finite; "
                "it has no direction to compare"
            )
        result[part] = block / lengths
    return result


def on_grid(vectors: npt.NDArray[Any]) -> torch.Tensor:
    """Unit vectors as float64 multiples of 2⁻²⁶, (N, D); a copy.

    Raises:
        InputError: a vector is longer than one, or not finite.
    """
    values = torch.from_numpy(np.array(vectors, dtype=np.float64))
    lengths = torch.linalg.vector_norm(values, dim=1)
    if not bool((lengths <= _LONGEST).all()):
        raise InputError(f"vectors should be scaled to length one, got one of length {float(lengths.max()):.4g}")
    return values.add_(_ROUNDER).sub_(_ROUNDER)


def pair_scores(
    left: npt.NDArray[Any], right: npt.NDArray[Any], first: Ints, second: Ints, *, memory: int = 1 << 28
) -> Doubles:
    """Cosine of each listed pair of unit vectors.

    Args:
        left: (M, D) unit vectors.
        right: (N, D) unit vectors.
        first: (P,) rows of `left`.
        second: (P,) rows of `right`.
        memory: bytes to work in, about.

    Returns:
        (P,) float64, exact for the vectors on the grid.
    """
    scores = np.empty(len(first))
    step = max(1, min(memory, _CACHE_BYTES) // (32 * max(1, left.shape[1])))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        one, other = (
            torch.from_numpy(side[rows[part]].astype(np.float64)).add_(_ROUNDER).sub_(_ROUNDER)
            for side, rows in ((left, first), (right, second))
        )
        scores[part] = one.mul_(other).sum(dim=1).numpy()
    return scores

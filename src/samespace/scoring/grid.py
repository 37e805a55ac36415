"""Rounding, so that scores which are equal by definition tie, whatever block of a product they fall into.

A cosine that is summed in float64 is rounded to a multiple of 2⁻³⁰, one that is summed in float32 to a multiple of
2⁻²⁰: both coarser than the noise of the sums. Where even that noise must not decide, the vectors themselves are rounded
to multiples of 2⁻²⁶. Their products are then multiples of 2⁻⁵², and because no partial sum of a cosine exceeds two,
every sum of them is exact in float64: a score looked up alone equals the one in a block, in any order of the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Ints

Doubles = npt.NDArray[np.float64]

SCORE_DIGITS, TABLE_DIGITS, VECTOR_DIGITS = 30, 20, 26
_LONGEST = 1.001
_CACHE_BYTES = 1 << 22


def rounded(values: npt.NDArray[Any], digits: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Round to multiples of 2^−digits, in place or as the numbers of `out`: adding 1.5 · 2ᵏ leaves no digit below them.

    Example:
        >>> rounded(np.array([0.3, -0.6]), 2).tolist()
        [0.25, -0.5]
    """
    rounder = values.dtype.type(1.5 * 2.0 ** (np.finfo(values.dtype).nmant - digits))
    values += rounder
    return np.asarray(np.subtract(values, rounder, out=values if out is None else out, casting="same_kind"))


def on_grid(vectors: npt.NDArray[Any]) -> Doubles:
    """Unit vectors as float64 multiples of 2⁻²⁶, (N, D); a copy.

    Raises:
        InputError: a vector is longer than one, or not finite.
    """
    values = np.array(vectors, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1)
    if not (lengths <= _LONGEST).all():
        raise InputError(f"vectors should be scaled to length one, got one of length {float(lengths.max()):.4g}")
    return rounded(values, VECTOR_DIGITS)


def exact_scores(
    left: npt.NDArray[Any], right: npt.NDArray[Any], first: Ints, second: Ints, *, memory: int = 1 << 28
) -> Doubles:
    """Cosine, (P,) float64, of rows `first` (P,) of `left` and `second` of `right`, exact for vectors on the grid."""
    scores = np.empty(len(first))
    step = max(1, min(memory, _CACHE_BYTES) // (32 * max(1, left.shape[1])))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        one, other = (
            rounded(side[rows[part]].astype(np.float64), VECTOR_DIGITS)
            for side, rows in ((left, first), (right, second))
        )
        scores[part] = np.einsum("ij,ij->i", one, other)
    return scores

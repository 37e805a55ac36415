"""What a search ranks by: cosine, inner product, or distance; in blocks, equal scores equal in every block."""

from __future__ import annotations

import numpy as np

from samespace.scoring.grid import SCORE_DIGITS, Doubles, rounded
from samespace.space import Score

SCORE_NAMES: dict[Score, str] = {
    "cosine": "cosine",
    "ip": "inner product",
    "l2": "squared Euclidean distance, negated",
}


def score_table(queries: Doubles, gallery: Doubles, score: Score, *, longest: float | None = None) -> Doubles:
    """The score of each query with each gallery vector; the higher, the nearer.

    `cosine` and `ip` are the inner product, `cosine` of vectors that have length one already; `l2` is minus the squared
    Euclidean distance, so that a distance d is the score −d². Cosines are rounded to multiples of 2⁻³⁰; inner products
    and distances of a query to a power of two near 2⁻³⁰ of the largest that it can have. Both are coarser than the
    noise of float64 sums, so that equal vectors score equally whatever lies beside them.

    Args:
        queries: (Q, D) float64.
        gallery: (G, D) float64.
        score: which.
        longest: length of the longest vector of the whole gallery, where `gallery` is a block of it.

    Returns:
        (Q, G) float64.

    Example:
        >>> score_table(np.array([[3.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 0.0]]), "l2").tolist()
        [[-8.0, 0.0]]
    """
    products = np.asarray(queries @ gallery.T)
    if score == "cosine":
        return rounded(products, SCORE_DIGITS)
    reach = _lengths(queries)
    furthest = float(_lengths(gallery).max(initial=0.0)) if longest is None else longest
    if score == "ip":
        return _rounded_rows(products, reach * furthest)
    products *= 2
    products -= reach[:, None] ** 2
    products -= _lengths(gallery) ** 2
    return np.minimum(_rounded_rows(products, (reach + furthest) ** 2), 0.0)


def _lengths(vectors: Doubles) -> Doubles:
    return np.asarray(np.linalg.norm(vectors, axis=1))


def _rounded_rows(values: Doubles, largest: Doubles) -> Doubles:
    """Round each row in place as `rounded` does, to 2⁻³⁰ of the power of two at or above its `largest`, (rows,)."""
    steps = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))))
    rounder = (1.5 * 2.0 ** (np.finfo(np.float64).nmant - SCORE_DIGITS)) * steps[:, None]
    values += rounder
    values -= rounder
    return values

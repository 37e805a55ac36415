"""What a search ranks by: cosine, inner product, or distance; in blocks, equal scores equal in every block.

The scores are float64 sums. The same in float32 cost half, and an error bound says which of them can decide nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.scoring.grid import SCORE_DIGITS, Doubles, rounded
from samespace.space import Score

Singles = npt.NDArray[np.float32]

SCORE_NAMES: dict[Score, str] = {
    "cosine": "cosine",
    "ip": "inner product",
    "l2": "squared Euclidean distance, negated",
}


def score_table(
    queries: Doubles,
    gallery: Doubles,
    score: Score,
    *,
    longest: float | None = None,
    out: Singles | None = None,
    products: Doubles | None = None,
) -> npt.NDArray[Any]:
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
        out: (Q, G) float32 to write the scores to, at less cost than to convert them afterwards.
        products: (Q, G) their inner products, where these were made elsewhere; used up.

    Returns:
        (Q, G) float64, or `out`.

    Example:
        >>> score_table(np.array([[3.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 0.0]]), "l2").tolist()
        [[-8.0, 0.0]]
    """
    if products is None:
        products = np.asarray(queries @ gallery.T)
    if score == "cosine":
        return rounded(products, SCORE_DIGITS, out)
    reach, lengths = vector_lengths(queries)[:, None], vector_lengths(gallery)
    scores = _from_products(products, reach, lengths, score, longest)
    if out is None:
        return scores
    out[:] = scores
    return out


def score_pairs(queries: Doubles, gallery: Doubles, score: Score, *, longest: float | None = None) -> Doubles:
    """`score_table` of the i-th query (P, D) with the i-th gallery vector (P, D) only: (P,) float64."""
    products = np.einsum("ij,ij->i", queries, gallery)
    if score == "cosine":
        return rounded(products, SCORE_DIGITS)
    return _from_products(products, vector_lengths(queries), vector_lengths(gallery), score, longest)


def single_table(
    queries: Singles,
    gallery: Singles,
    score: Score,
    out: Singles | None = None,
    products: Singles | None = None,
) -> Singles:
    """`score_table` (Q, G) in float32, not rounded: within `single_error` of it.

    It is written to `out`, if given, or made of the inner `products` (Q, G), in place.
    """
    if products is None:
        products = np.matmul(queries, gallery.T, out=out)
    if score == "l2":
        products *= 2
        products -= np.square(vector_lengths(queries))[:, None]
        products -= np.square(vector_lengths(gallery))
    return np.asarray(products)


def single_error(reach: Doubles, furthest: float, dim: int, score: Score) -> Doubles:
    """How far a score of `single_table` may be from that of `score_table` as float32, for each query: (Q,) float64.

    A sum of D products in float32 is within γ = D u / (1 − D u), u = 2⁻²⁴, of Σ|x_i y_i| ≤ |x| |y|, in whatever order
    it is taken (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1). Eight further u hold the
    rounding of both vectors to float32, that of the exact score to 2⁻³⁰ and to float32, and that of a threshold. The
    distance −|x − y|² is twice the product less both squares, so that (|x| + |y|)² stands for |x| |y|.

    Args:
        reach: (Q,) lengths of the queries.
        furthest: length of the longest gallery vector.
        dim: D.
        score: which.
    """
    scale = (reach + furthest) ** 2 if score == "l2" else reach * furthest
    return 1.01 * (dim + 8) * 2.0**-24 * (np.maximum(scale, 1.0) if score == "cosine" else scale)


def vector_lengths(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Euclidean length of each row."""
    return np.asarray(np.linalg.norm(vectors, axis=1))


def _from_products(products: Doubles, reach: Doubles, lengths: Doubles, score: Score, longest: float | None) -> Doubles:
    """Inner products or distances of inner products, in place, given the lengths of both sides."""
    furthest = float(lengths.max(initial=0.0)) if longest is None else longest
    if score == "ip":
        return _rounded_below(products, reach * furthest)
    products *= 2
    products -= reach**2
    products -= lengths**2
    return np.minimum(_rounded_below(products, (reach + furthest) ** 2), 0.0)


def _rounded_below(values: Doubles, largest: Doubles) -> Doubles:
    """Round in place as `rounded` does, to 2⁻³⁰ of the power of two at or above the `largest` that a value can be."""
    steps = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))))
    rounder = (1.5 * 2.0 ** (np.finfo(np.float64).nmant - SCORE_DIGITS)) * steps
    values += rounder
    values -= rounder
    return values

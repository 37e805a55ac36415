"""How far each vector lies from the centre of its class or cluster: orders for a backfill.

A gallery that is re-embedded bit by bit is best served in an order. `distance_to_centre` is the order of the literature
(least certain vectors first); `turn_in_class` lets the vector next to each centre go first, then the second of each,
so that every class soon holds a new vector that its queries can find.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Ints, as_labels, as_numpy, encode
from samespace.prototypes.checks import check_vectors, refuse_unusable

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

BLOCK_BYTES = 32 * 2**20
_ROUNDS = 10
_LEARNT_ON = 64


def distance_to_centre(vectors: Any, labels: Any = None, *, clusters: int | None = None, seed: int = 0) -> Float32s:
    """1 − cosine of each vector to the mean of the other unit vectors of its class, or of its cluster without labels.

    The vector itself is left out of its centre, or the members of small classes would seem closer than they are. A
    vector that is alone gets the mean distance of all that are not, as nothing is known of it; 0 where all are alone.

    Args:
        vectors: (N, D) floating, array or tensor; normalised inside and read in blocks, so a memory map stays on disk.
        labels: (N,) integers or strings; without them clusters of spherical k-means stand in, learnt on at most 64
            vectors for each.
        clusters: how many, without labels; √N by default.
        seed: of the clusters.

    Returns:
        (N,) float32 in [0, 2].

    Raises:
        InputError: no vectors, one that is zero or not finite, labels that are not one per vector, clusters beside
            labels or outside 1..N.

    Example:
        >>> found = distance_to_centre(np.eye(3)[[0, 0, 0, 1]], [7, 7, 7, 7])
        >>> [round(float(distance), 2) for distance in found]
        [0.11, 0.11, 0.11, 1.0]
    """
    check_vectors(vectors, "vectors")
    return _distances(vectors, _classes(vectors, labels, clusters, seed))


def turn_in_class(vectors: Any, labels: Any = None, *, clusters: int | None = None, seed: int = 0) -> Float32s:
    """Which place each vector takes in its class or cluster, the one next to the centre 0, the farthest last.

    Served in ascending order, each class has one new vector before any has two. Equal distances go by row.

    Args:
        vectors: as `distance_to_centre`, and so the other arguments.
        labels: (N,) integers or strings.
        clusters: how many, without labels; √N by default.
        seed: of the clusters.

    Returns:
        (N,) float32, whole numbers from 0.

    Raises:
        InputError: as `distance_to_centre`.

    Example:
        >>> turn_in_class(np.eye(3, dtype=np.float32)[[0, 1, 0, 2]], ["a", "a", "a", "b"]).tolist()
        [0.0, 2.0, 1.0, 0.0]
    """
    check_vectors(vectors, "vectors")
    classes = _classes(vectors, labels, clusters, seed)
    order = np.lexsort((_distances(vectors, classes), classes))
    ordered = classes[order]
    turn = np.empty(len(order), dtype=np.float32)
    turn[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered, side="left")
    return turn


def _distances(vectors: Any, classes: Ints) -> Float32s:
    """1 − x · (S − x) / |S − x|, S the sum of the unit vectors of the class of x."""
    sums = _sums(vectors, classes, int(classes.max()) + 1)
    squares = np.einsum("ij,ij->i", sums, sums)
    distances = np.empty(len(classes), dtype=np.float32)
    for rows in _blocks(len(classes), 12 * vectors.shape[1]):
        inside = np.einsum("ij,ij->i", _unit(vectors, rows), sums[classes[rows]])
        length = np.sqrt(np.maximum(squares[classes[rows]] - 2 * inside + 1, 0))
        # the others of the class may cancel out, which leaves no direction to be near to
        distances[rows] = np.where(length > 1e-3, 1 - (inside - 1) / np.maximum(length, 1e-3), 1.0)
    alone = np.bincount(classes)[classes] == 1
    distances[alone] = 0.0 if alone.all() else distances[~alone].mean()
    return np.clip(distances, 0, 2)


def _sums(vectors: Any, classes: Ints, number: int) -> Float64s:
    """Sum of the unit vectors of each class, (number, D)."""
    sums = np.zeros((number, vectors.shape[1]))
    for rows in _blocks(len(classes), 16 * vectors.shape[1]):
        order = np.argsort(classes[rows], kind="stable")
        present, starts = np.unique(classes[rows][order], return_index=True)
        sums[present] += np.add.reduceat(_unit(vectors, rows)[order], starts, axis=0)
    return sums


def _classes(vectors: Any, labels: Any, clusters: int | None, seed: int) -> Ints:
    if len(vectors) == 0:
        raise InputError("distances to a centre need at least one vector, got none")
    if labels is not None:
        if clusters is not None:
            raise InputError(f"clusters ({clusters}) stand in for labels, and labels were given; leave one out")
        return encode(as_labels(labels, "labels", len(vectors)))[0]
    number = clusters if clusters is not None else max(1, math.isqrt(len(vectors)))
    if not 1 <= number <= len(vectors):
        raise InputError(f"clusters should lie in 1..{len(vectors)} (vectors), got {number}")
    centres = _k_means(vectors, number, np.random.default_rng(seed))
    nearest = np.empty(len(vectors), dtype=np.int64)
    for rows in _blocks(len(vectors), 8 * (number + 2 * vectors.shape[1])):
        nearest[rows] = _nearest(_unit(vectors, rows), centres)
    # a cluster may have lost all its vectors
    return np.unique(nearest, return_inverse=True)[1].astype(np.int64)


def _k_means(vectors: Any, number: int, generator: np.random.Generator) -> Float64s:
    """Unit centres (number, D) of spherical k-means; a centre that loses all its vectors stays where it is."""
    chosen = np.sort(generator.choice(len(vectors), min(len(vectors), _LEARNT_ON * number), replace=False))
    sample = _unit(vectors, chosen)
    centres = sample[generator.choice(len(sample), number, replace=False)]
    for _ in range(_ROUNDS):
        nearest = np.concatenate([_nearest(sample[rows], centres) for rows in _blocks(len(sample), 8 * number)])
        sums = _sums(sample, nearest, number)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
    return centres


def _nearest(unit: Float64s, centres: Float64s) -> Ints:
    """Which centre each vector is nearest to; products in float32, which is enough to choose."""
    return np.asarray((unit.astype(np.float32) @ centres.astype(np.float32).T).argmax(axis=1))


def _unit(vectors: Any, rows: slice | Ints) -> Float64s:
    block = as_numpy(vectors[rows]).astype(np.float64)
    norms = np.linalg.norm(block, axis=1, keepdims=True)
    refuse_unusable(norms[:, 0], rows, "vectors")
    return np.asarray(block / norms)


def _blocks(count: int, row_bytes: int) -> Iterator[slice]:
    """Cut 0..count into slices that fit the work space."""
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))

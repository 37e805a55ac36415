"""How far each vector lies from the centre of its class or cluster: orders for a backfill.

A gallery that is re-embedded bit by bit is best served in an order. `distance_to_centre` is the order of the literature
(least certain vectors first); `turn_in_class` lets the vector next to each centre go first, then the second of each,
so that every class soon holds a new vector that its queries can find.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from samespace.errors import InputError
from samespace.metrics._arrays import as_labels, encode
from samespace.prototypes.rows import (
    Vectors,
    blocks,
    check_vectors,
    class_counts,
    device_of,
    refuse_unusable,
    take,
    weighted_sums,
)

Float32s = npt.NDArray[np.float32]

_ROUNDS = 10
_LEARNT_ON = 64


@torch.no_grad()
def distance_to_centre(vectors: Vectors, labels: Any = None, *, clusters: int | None = None, seed: int = 0) -> Float32s:
    """1 − cosine of each vector to the mean of the other unit vectors of its class, or of its cluster without labels.

    The vector itself is left out of its centre, or the members of small classes would seem closer than they are. A
    vector that is alone gets the mean distance of all that are not, as nothing is known of it; 0 where all are alone.

    Args:
        vectors: (N, D) floating; normalised inside and read in blocks, so a memory map stays on disk.
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


@torch.no_grad()
def turn_in_class(vectors: Vectors, labels: Any = None, *, clusters: int | None = None, seed: int = 0) -> Float32s:
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
    order = np.lexsort((_distances(vectors, classes), classes.cpu().numpy()))
    ordered = classes.cpu().numpy()[order]
    turn = np.empty(len(order), dtype=np.float32)
    turn[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered, side="left")
    return turn


def _distances(vectors: Vectors, classes: Tensor) -> Float32s:
    """1 − x · (S − x) / |S − x|, S the sum of the unit vectors of the class of x."""
    number = int(classes.max()) + 1
    sums = weighted_sums(vectors, classes, number, torch.ones(len(classes)), "vectors")
    squares = torch.linalg.vecdot(sums.double(), sums.double())
    found = torch.empty(len(classes), dtype=torch.float32)
    for rows in blocks(len(classes), 12 * vectors.shape[1]):
        block = functional.normalize(take(vectors, rows).double())
        inside = torch.linalg.vecdot(block, sums[classes[rows]].double())
        length = (squares[classes[rows]] - 2 * inside + 1).clamp(min=0).sqrt()
        # the others of the class may cancel out, which leaves no direction to be near to
        found[rows] = torch.where(length > 1e-3, 1 - (inside - 1) / length.clamp(min=1e-3), 1.0).float().cpu()
    alone = (class_counts(classes, number)[classes] == 1).cpu()
    found[alone] = found[~alone].mean() if not bool(alone.all()) else 0.0
    return np.asarray(found.clamp(0, 2).numpy())


def _classes(vectors: Vectors, labels: Any, clusters: int | None, seed: int) -> Tensor:
    if len(vectors) == 0:
        raise InputError("distances to a centre need at least one vector, got none")
    device = device_of(vectors)
    if labels is not None:
        if clusters is not None:
            raise InputError(f"clusters ({clusters}) stand in for labels, and labels were given; leave one out")
        return torch.from_numpy(encode(as_labels(labels, "labels", len(vectors)))[0]).to(device)
    number = clusters if clusters is not None else max(1, math.isqrt(len(vectors)))
    if not 1 <= number <= len(vectors):
        raise InputError(f"clusters should lie in 1..{len(vectors)} (vectors), got {number}")
    centres = _k_means(vectors, number, np.random.default_rng(seed))
    nearest = torch.empty(len(vectors), dtype=torch.int64, device=device)
    for rows in blocks(len(vectors), 4 * (number + 2 * vectors.shape[1])):
        nearest[rows] = (_unit(vectors, rows) @ centres.T).argmax(1)
    # a cluster may have lost all its vectors
    occupied: Tensor = torch.unique(nearest, return_inverse=True)[1]
    return occupied


def _k_means(vectors: Vectors, number: int, generator: np.random.Generator) -> Tensor:
    """Unit centres (number, D) float32 of spherical k-means; a centre that loses all its vectors stays where it is."""
    chosen = np.sort(generator.choice(len(vectors), min(len(vectors), _LEARNT_ON * number), replace=False))
    sample = _unit(vectors, torch.from_numpy(chosen))
    centres = sample[torch.from_numpy(generator.choice(len(sample), number, replace=False)).to(sample.device)]
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres)
        for rows in blocks(len(sample), 4 * number):
            sums.index_add_(0, (sample[rows] @ centres.T).argmax(1), sample[rows])
        lengths = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
        centres = torch.where(lengths > 0, sums / lengths.clamp(min=1e-12), centres)
    return centres


def _unit(vectors: Vectors, rows: slice | Tensor) -> Tensor:
    block = take(vectors, rows)
    norms = torch.linalg.vector_norm(block, dim=1, keepdim=True)
    refuse_unusable(norms[:, 0], rows, "vectors")
    return torch.div(block, norms)

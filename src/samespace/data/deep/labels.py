"""Labels that a model doubts: images that lie among another class, and images far from their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from samespace.data.deep.neighbours import Ints, nearest_rows
from samespace.progress import Advance, silent
from samespace.prototypes.outliers import distance_to_centre

MOST_NEIGHBOURS = 5
DEVIATIONS = 5.0
_NORMAL = 1.4826
_SMALLEST_CLASS = 3


class Misplaced(NamedTuple):
    """An image all of whose nearest neighbours belong to one other class, that class, and the nearest image of it."""

    row: int
    label: int
    nearest: int


class Outlier(NamedTuple):
    """An image far from the others of its class: 1 − cosine to their mean, and the median of its class."""

    row: int
    distance: float
    usual: float


@dataclass(frozen=True)
class Doubts:
    """What a model says of the labels.

    Attributes:
        neighbours: how many nearest neighbours were asked.
        misplaced: images all of whose nearest neighbours belong to one other class.
        outliers: images that lie far from the others of their class; the farthest first.
    """

    neighbours: int
    misplaced: tuple[Misplaced, ...]
    outliers: tuple[Outlier, ...]


def doubt_labels(vectors: npt.NDArray[Any], labels: Ints, *, advance: Advance = silent) -> Doubts:
    """Find labels to look at again, by a model's vectors of the images.

    An image is misplaced if its nearest neighbours all belong to one other class: five of them, or as many as the
    median class has beside one of its images where that is less, but at least two. It is an outlier if its distance to
    the mean of the others of its class exceeds the class's median by five deviations of the whole set, estimated from
    the median absolute deviation; classes of fewer than three images have none.

    Args:
        vectors: (N, D) floating; normalised inside.
        labels: (N,) their classes, numbered from 0.
        advance: told how many images were compared.

    Raises:
        InputError: a vector that is zero or not finite.
    """
    distance = distance_to_centre(vectors, labels).astype(np.float64)
    unit = np.asarray(vectors, dtype=np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    sizes = np.bincount(labels)
    count = int(np.clip(np.median(sizes) - 1, 2, MOST_NEIGHBOURS))
    nearest = nearest_rows(unit, count, advance=advance).row
    around = np.where(nearest >= 0, labels[nearest], -1)
    one_class = (around == around[:, :1]).all(axis=1) & (around[:, 0] >= 0) & (around[:, 0] != labels)
    misplaced = [
        Misplaced(row, int(around[row, 0]), int(nearest[row, 0])) for row in np.flatnonzero(one_class).tolist()
    ]
    return Doubts(count, tuple(misplaced), _outliers(distance, labels, sizes))


def _outliers(distance: npt.NDArray[np.float64], labels: Ints, sizes: Ints) -> tuple[Outlier, ...]:
    order = np.argsort(labels, kind="stable")
    usual = np.array([np.median(part) for part in np.split(distance[order], np.cumsum(sizes)[:-1]) if len(part)])
    present = np.flatnonzero(sizes)
    middle = np.full(len(sizes), np.nan)
    middle[present] = usual
    excess = distance - middle[labels]
    judged = sizes[labels] >= _SMALLEST_CLASS
    deviation = _NORMAL * float(np.median(np.abs(excess[judged]))) if judged.any() else 0.0
    far = np.flatnonzero(judged & (excess > max(DEVIATIONS * deviation, 1e-6)))
    found = [Outlier(row, float(distance[row]), float(middle[labels[row]])) for row in far.tolist()]
    return tuple(sorted(found, key=lambda one: one.usual - one.distance))

"""Classes kept apart from training, to check models on: whole classes, never only images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data.source import ImageSource
from samespace.errors import InputError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows to train on, and rows of other classes to check with; all sorted int64, none in two parts."""

    train_rows: IntArray
    query_rows: IntArray
    gallery_rows: IntArray


def holdout(
    labels: npt.ArrayLike | ImageSource,
    *,
    fraction: float = 0.2,
    seed: int = 666,
    open_set: float = 0.0,
    queries_per_class: int | float = 0.5,
    check_classes: Sequence[int] | Sequence[str] | npt.NDArray[Any] | None = None,
) -> Holdout:
    """Keep some classes apart and split their images into queries and gallery.

    A class of one image has it in the gallery. Every other check class has at least one image on each side, except
    the open-set ones, all of whose images are queries that have no mate.

    Args:
        labels: a source, or one label per image (whole numbers or strings).
        fraction: share of the classes to check on.
        seed: what the draw depends on, alone.
        open_set: share of the check classes that appear as queries only.
        queries_per_class: images of a class that are queries: a share below 1, or a whole number.
        check_classes: the labels to check on, instead of a random share.

    Raises:
        InputError: a value out of range, too few classes, or a check class that is not there.
    """
    require_share("fraction", fraction)
    require_seed(seed)
    if not 0.0 <= open_set < 1.0:
        raise InputError(f"open_set must be at least 0 and below 1, got {open_set}")
    whole = isinstance(queries_per_class, int)
    if queries_per_class <= 0 or (not whole and queries_per_class >= 1):
        raise InputError(
            f"queries_per_class must be a share between 0 and 1 or a whole number from 1, got {queries_per_class}"
        )
    values = labels_of(labels)
    random = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    checked = _check_classes(np.unique(values), fraction, random, check_classes)
    unmated = checked[: min(round(open_set * len(checked)), len(checked) - 1)]
    order = random.permutation(len(values))
    order = order[np.isin(values[order], checked)]
    order = order[np.argsort(values[order], kind="stable")]
    _, begin, number, size = np.unique(values[order], return_index=True, return_inverse=True, return_counts=True)
    share = np.full(len(size), queries_per_class) if whole else np.rint(size * queries_per_class)
    take = np.minimum(np.maximum(share, 1), size - 1).astype(np.int64)
    asked = np.arange(len(order)) - begin[number] < take[number]
    asked |= np.isin(values[order], unmated)
    train = np.flatnonzero(~np.isin(values, checked)).astype(np.int64)
    return Holdout(train, np.sort(order[asked]), np.sort(order[~asked]))


def _check_classes(
    present: npt.NDArray[Any],
    fraction: float,
    random: np.random.Generator,
    given: Sequence[int] | Sequence[str] | npt.NDArray[Any] | None,
) -> npt.NDArray[Any]:
    """Classes to check on, in random order."""
    if given is None:
        return random.permutation(present)[: count_of(len(present), fraction, "classes")]
    wanted = np.unique(np.asarray(given))
    absent = ~np.isin(wanted, present)
    if absent.any() or not len(wanted):
        what = f"{wanted[absent][0]!s} is not a label" if absent.any() else "there is none"
        raise InputError(f"check_classes must be labels of the set; {what}")
    return random.permutation(wanted)


def labels_of(labels: npt.ArrayLike | ImageSource) -> npt.NDArray[Any]:
    """One label per image, from a source or an array. Raises InputError: not one list of whole numbers or strings."""
    array = labels.labels if isinstance(labels, ImageSource) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise InputError(f"labels must be one list of whole numbers or strings, got {array.dtype} {array.shape}")
    return array


def count_of(total: int, share: float, what: str) -> int:
    """Whole number nearest to a share of `total`, leaving at least one on either side.

    Raises:
        InputError: fewer than two to split.
    """
    if total < 2:
        raise InputError(f"cannot split {total} {what}; at least 2 are needed")
    return min(max(round(share * total), 1), total - 1)


def require_share(what: str, value: float) -> None:
    """Refuse a share that is not between 0 and 1, by an InputError."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{what} must lie between 0 and 1, both excluded, got {value}")


def require_seed(seed: int) -> None:
    """Refuse a negative seed, by an InputError."""
    if seed < 0:
        raise InputError(f"seed must be 0 or more, got {seed}")

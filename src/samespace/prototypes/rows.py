"""Reading feature rows in blocks, checking them, and summing their unit vectors per class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from samespace.errors import InputError
from samespace.prototypes.checks import check_vectors as check_vectors
from samespace.prototypes.checks import refuse_unusable as refuse_unusable

Vectors = Tensor | np.ndarray[Any, Any]
"""Feature rows (N, D), any floating type; numpy arrays may be memory maps."""

BLOCK_BYTES = 32 * 2**20
"""Work space of one step: less costs more calls, more leaves the caches and the allocator's reusable blocks."""


def check_labels(labels: Vectors, num_classes: int, count: int) -> Tensor:
    """Return `labels` as an int64 tensor (N,) after checking type, count and range.

    Raises:
        InputError: labels are not whole numbers, not `count` many, or outside 0..num_classes - 1.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise InputError(f"num_classes is {num_classes!r}; expected a whole number of at least 1")
    checked = whole_numbers(labels, "labels")
    if len(checked) != count:
        raise InputError(f"{len(checked)} labels for {count} samples; expected one label per sample")
    outside = (checked < 0) | (checked >= num_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InputError(f"label {int(checked[row])} in row {row} is outside 0..{num_classes - 1} (num_classes)")
    return checked


def whole_numbers(values: Vectors, name: str) -> Tensor:
    """Return a one-dimensional int64 tensor; floats are refused, because they merge ids above 2^24.

    Raises:
        InputError: not one-dimensional, or not of an integer type.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if tensor.ndim != 1:
        raise InputError(f"{name} have shape {tuple(tensor.shape)}; expected one dimension")
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise InputError(f"{name} have type {tensor.dtype}; expected whole numbers (int64)")
    return tensor.to(torch.int64)


def check_class_map(class_map: Vectors, num_old_classes: int) -> Tensor:
    """Return a class map as int64 after checking that it points into `num_old_classes` rows or is -1.

    Raises:
        InputError: it does not.
    """
    checked = whole_numbers(class_map, "class_map entries")
    outside = (checked < -1) | (checked >= num_old_classes)
    if bool(outside.any()):
        label = int(outside.nonzero()[0])
        raise InputError(
            f"class_map sends class {label} to {int(checked[label])}; "
            f"expected 0..{num_old_classes - 1}, or -1 for a class without an old one"
        )
    return checked


def device_of(vectors: Vectors) -> torch.device:
    """Where work on these rows happens."""
    return vectors.device if isinstance(vectors, Tensor) else torch.device("cpu")


def take(vectors: Vectors, rows: slice | Tensor) -> Tensor:
    """Return rows as float32; a view where the source allows it, else a copy of these rows only."""
    if isinstance(vectors, Tensor):
        return (vectors[rows] if isinstance(rows, slice) else vectors.index_select(0, rows)).float()
    block = vectors[rows if isinstance(rows, slice) else rows.numpy()]
    return torch.from_numpy(np.require(block, dtype=np.float32, requirements=["C", "W"]))


def fitting(item_bytes: int) -> int:
    """How many items of this size fit the work space; at least one."""
    return max(1, BLOCK_BYTES // item_bytes)


def blocks(count: int, row_bytes: int) -> Iterator[slice]:
    """Cut 0..count into slices that fit the work space."""
    step = fitting(row_bytes)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Samples per class, (num_classes,) int64."""
    return torch.bincount(labels, minlength=num_classes)


def uniform_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weight 1/m for each of the m samples of a class, (N,) float32."""
    return class_counts(labels, num_classes)[labels].float().reciprocal()


def weighted_sums(vectors: Vectors, labels: Tensor, num_classes: int, weights: Tensor, name: str) -> Tensor:
    """Sum weights_i * vectors_i / |vectors_i| per class: (num_classes, D) float32, NaN where a class is empty.

    Rows are read in the order they are stored; neither the unit vectors nor an ordered copy is ever made.
    """
    count, dim = vectors.shape
    device = device_of(vectors)
    labels, weights = labels.to(device), weights.to(device, torch.float32)
    sums = torch.zeros(num_classes, dim, device=device)
    in_place = isinstance(vectors, Tensor) and vectors.dtype == torch.float32
    for rows in [slice(0, count)] if in_place else blocks(count, 4 * dim):
        block = take(vectors, rows)
        norms = torch.linalg.vector_norm(block, dim=1)
        refuse_unusable(norms, rows, name)
        ordered, order = labels[rows].sort(stable=True)
        classes, sizes = torch.unique_consecutive(ordered, return_counts=True)
        share = (weights[rows] / norms)[order]
        starts = sizes.cumsum(0) - sizes
        sums[classes] += functional.embedding_bag(order, block, starts, mode="sum", per_sample_weights=share)
    sums[class_counts(labels, num_classes) == 0] = torch.nan
    return sums

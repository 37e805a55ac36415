"""Structural prototype refinement (UniBCT Eq. 6-10): class means that trust samples which resemble the others.

A refined prototype is a weighted mean of its class; `propagation` gives the weights. Classes of one size go through
similarities, solve and weighted sum together, a few at a time (`buckets`), so that each feature is read once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.prototypes.buckets import Bucket, each_bucket
from samespace.prototypes.propagation import Settings, sample_weights
from samespace.prototypes.rows import (
    Vectors,
    check_labels,
    check_vectors,
    device_of,
    refuse_unusable,
)


@torch.no_grad()
def refined(
    features: Vectors,
    labels: Vectors,
    num_classes: int,
    *,
    guide: Vectors,
    damping: float = 0.9,
    temperature: float = 0.05,
    similarity_cap: float | None = None,
) -> Tensor:
    """Refine class means by propagation over a similarity graph (UniBCT Eq. 6-10, normalised by rows).

    Samples that resemble many others of their class by the *new* model weigh more, outliers less. A class of one
    sample gives that sample, a class of two their mean.

    Near duplicates capture a prototype: two copies visit only each other and take up to half of the weight. Where the
    data may hold duplicates, look at `effective_sample_size` and cap the similarities. A cap helps only if it lies near
    the usual cosine of two images of a class: 0.9 does little where most lie at 0.5, and 0.6 cures it.

    Args:
        features: (N, D) old features, floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.
        guide: (N, any dimension) new features of the same images; normalised inside.
        damping: λ of Eq. 8, 0 <= damping < 1; 0 is the plain mean.
        temperature: τ of Eq. 6, above 0; lower is sharper.
        similarity_cap: guide cosines above it count as this much, in (-1, 1]; None leaves them.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: a parameter out of range; labels out of range or not one per row;
            a row that is zero, NaN or infinite.
    """
    check_vectors(features, "features")
    check_vectors(guide, "guide")
    if len(features) != len(guide):
        raise InputError(f"{len(features)} features and {len(guide)} guide rows; expected the same samples in both")
    settings = Settings(damping, temperature, similarity_cap)
    checked = check_labels(labels, num_classes, len(features)).to(device_of(guide))
    centres = _Centres(features, num_classes)
    lengths = torch.empty(len(guide), device=checked.device)

    def work(bucket: Bucket) -> None:
        weights, of_rows = sample_weights(bucket.take(guide), settings)
        lengths[bucket.rows] = of_rows.flatten()
        centres.add(bucket, weights)

    each_bucket(work, checked, num_classes, guide.shape[1])
    refuse_unusable(lengths, slice(0, len(guide)), "guide")
    return centres.result()


@torch.no_grad()
def weighted(features: Vectors, labels: Vectors, num_classes: int, *, weights: Tensor) -> Tensor:
    """Class centres from a weight for each sample, such as `refined_weights` gives: `refined` in two steps.

    Args:
        features: (N, D) old features, floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.
        weights: (N,) floating, summing to one in each class.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: as `refined`, or not one weight per sample.
    """
    check_vectors(features, "features")
    if tuple(weights.shape) != (len(features),):
        raise InputError(
            f"weights have shape {tuple(weights.shape)}; expected one for each of {len(features)} features"
        )
    checked = check_labels(labels, num_classes, len(features)).to(weights.device)
    centres = _Centres(features, num_classes)

    def work(bucket: Bucket) -> None:
        centres.add(bucket, weights[bucket.rows].view(-1, bucket.size).float())

    each_bucket(work, checked, num_classes, features.shape[1])
    return centres.result()


@torch.no_grad()
def refined_weights(
    labels: Vectors,
    num_classes: int,
    *,
    guide: Vectors,
    damping: float = 0.9,
    temperature: float = 0.05,
    similarity_cap: float | None = None,
) -> Tensor:
    """Weight of each sample in its class's refined prototype; the weights of a class sum to one.

    Args:
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of classes.
        guide: (N, any dimension) new features; normalised inside.
        damping: see `refined`.
        temperature: see `refined`.
        similarity_cap: see `refined`.

    Returns:
        (N,) float32, positive, on the device of `guide`.

    Raises:
        InputError: as `refined`.
    """
    settings = Settings(damping, temperature, similarity_cap)
    check_vectors(guide, "guide")
    checked = check_labels(labels, num_classes, len(guide)).to(device_of(guide))
    weights, lengths = (torch.empty(len(guide), device=checked.device) for _ in range(2))

    def work(bucket: Bucket) -> None:
        found = sample_weights(bucket.take(guide), settings)
        weights[bucket.rows], lengths[bucket.rows] = (each.flatten() for each in found)

    each_bucket(work, checked, num_classes, guide.shape[1])
    refuse_unusable(lengths, slice(0, len(guide)), "guide")
    return weights


@torch.no_grad()
def effective_sample_size(weights: Tensor, labels: Vectors, num_classes: int) -> Tensor:
    """Effective number of samples behind each prototype: 1 / Σ w², between 1 and the class's size.

    A value far below the class's size says that few samples make the prototype, near duplicates most likely.

    Args:
        weights: (N,) weights that sum to one per class, as `refined_weights` returns.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of classes.

    Returns:
        (num_classes,) float32; 0 for a class without samples.

    Raises:
        InputError: weights are not one per label, or labels are out of range.
    """
    if weights.ndim != 1:
        raise InputError(f"weights have shape {tuple(weights.shape)}; expected (N,), one weight per sample")
    checked = check_labels(labels, num_classes, len(weights)).to(weights.device)
    squares = torch.zeros(num_classes, dtype=torch.float64, device=weights.device)
    squares.index_add_(0, checked, weights.double().square())
    return torch.where(squares > 0, squares.reciprocal(), 0).float()


class _Centres:
    """Weighted means of unit features (N, D) by class, (num_classes, D) float32; NaN until a class is added."""

    def __init__(self, features: Vectors, num_classes: int) -> None:
        device = device_of(features)
        self.features = features
        self.rows = torch.full((num_classes, features.shape[1]), torch.nan, device=device)
        self.lengths = torch.empty(len(features), device=device)

    def add(self, bucket: Bucket, weights: Tensor) -> None:
        """Take in the classes of a bucket, whose samples have these weights (n, m)."""
        bucket, weights = bucket.on(self.rows.device), weights.to(self.rows.device)
        block = bucket.take(self.features)
        lengths = torch.linalg.vector_norm(block, dim=2)
        self.lengths[bucket.rows] = lengths.flatten()
        self.rows[bucket.classes] = ((weights / lengths)[:, None] @ block)[:, 0]

    def result(self) -> Tensor:
        """All of them.

        Raises:
            InputError: a row that is zero, NaN or infinite.
        """
        refuse_unusable(self.lengths, slice(0, len(self.lengths)), "features")
        return self.rows

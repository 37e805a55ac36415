"""Plain and trimmed class means, and an old classifier extended by class means."""

from __future__ import annotations

import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.prototypes.rows import (
    Vectors,
    blocks,
    check_class_map,
    check_labels,
    check_vectors,
    class_counts,
    device_of,
    refuse_unusable,
    take,
    uniform_weights,
    weighted_sums,
)


@torch.no_grad()
def mean(features: Vectors, labels: Vectors, num_classes: int) -> Tensor:
    """Average the unit feature vectors of each class (UniBCT section 3.2, the "vanilla average").

    Args:
        features: (N, D) floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: labels out of range or not one per row; a row that is zero, NaN or infinite.

    Example:
        >>> mean(torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]])
    """
    check_vectors(features, "features")
    checked = check_labels(labels, num_classes, len(features))
    weights = uniform_weights(checked, num_classes)
    return weighted_sums(features, checked, num_classes, weights, "features")


@torch.no_grad()
def trimmed(features: Vectors, labels: Vectors, num_classes: int, *, drop: float = 0.1) -> Tensor:
    """Average each class without the samples farthest from its mean (UniBCT section 4.2, the "drop average").

    Of m samples the floor(drop * m) with the lowest cosine to the class mean are left out, never all of them;
    of equally far samples the later rows go first.

    Args:
        features: (N, D) floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.
        drop: share of each class to leave out, 0 <= drop < 1.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: as `mean`; or `drop` outside [0, 1).
    """
    if not 0 <= drop < 1:
        raise InputError(f"drop is {drop}; expected a share of at least 0 and below 1")
    check_vectors(features, "features")
    checked = check_labels(labels, num_classes, len(features)).to(device_of(features))
    centres = weighted_sums(features, checked, num_classes, uniform_weights(checked, num_classes), "features")
    closeness = torch.empty(len(features), device=checked.device)
    for rows in blocks(len(features), 8 * features.shape[1]):
        block = take(features, rows)
        dots = torch.linalg.vecdot(block, centres[checked[rows]])
        closeness[rows] = dots / torch.linalg.vector_norm(block, dim=1)
    keep = _closest(closeness, checked, num_classes, drop)
    kept = class_counts(checked[keep], num_classes)
    weights = keep / kept[checked]
    return weighted_sums(features, checked, num_classes, weights, "features")


def _closest(closeness: Tensor, labels: Tensor, num_classes: int, drop: float) -> Tensor:
    """Mark the samples that stay: all but the floor(drop * m) least close of each class, and at least one."""
    by_closeness = closeness.sort(descending=True, stable=True).indices
    order = by_closeness[labels[by_closeness].sort(stable=True).indices]
    counts = class_counts(labels, num_classes)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    # 0.29 * 100 is 28.999999999999996 in floating point, and 29 on paper.
    dropped = torch.floor(counts.double() * drop + 1e-9).long().minimum((counts - 1).clamp(min=0))
    return rank < (counts - dropped)[labels]


@torch.no_grad()
def extend_classifier(
    old_weight: Vectors, class_map: Vectors, features: Vectors, labels: Vectors
) -> tuple[Tensor, Tensor]:
    """Append a row for every new class that the old classifier does not know (BCT section 2.5).

    These are the paper's "synthesized classifier weights", concatenated to the existing ones: all old rows stay, in
    their order, and an old class that is absent from the new training set goes on as a negative. A synthesised row is
    the mean of the class's unit old features, rescaled to the mean length of all old rows: cosine heads ignore
    lengths, and a plain linear head sees new classes on the same footing as old ones.

    Args:
        old_weight: (num_old_classes, D) weight of the old classifier.
        class_map: (num_new_classes,) row of `old_weight` for each new class; -1 where the old classifier has none.
        features: (N, D) old features of the new training set; those of known classes may be left out.
        labels: (N,) new labels of `features`.

    Returns:
        weight: (num_old_classes + number of -1 in `class_map`, D) float32, the old rows and then the synthesised ones
            in the order of their labels; a new class with neither an old row nor a sample is a row of NaN.
        rows: (num_new_classes,) int64, the row of each new label: `InfluenceLoss(weight, class_map=rows)`.

    Raises:
        InputError: shapes differ; an entry of `class_map` is no row of `old_weight` or is used twice; as `mean`.

    Example:
        >>> old, known = torch.eye(2), torch.tensor([1, -1])
        >>> weight, rows = extend_classifier(old, known, torch.tensor([[-3.0, 0.0]]), torch.tensor([1]))
        >>> weight
        tensor([[ 1.,  0.],
                [ 0.,  1.],
                [-1.,  0.]])
        >>> rows
        tensor([1, 2])
    """
    check_vectors(old_weight, "old_weight")
    check_vectors(features, "features")
    if old_weight.shape[1] != features.shape[1]:
        raise InputError(
            f"old_weight has {old_weight.shape[1]} columns and features have {features.shape[1]}; "
            "expected old features, of the dimension the old classifier takes"
        )
    weight = take(old_weight, slice(None)).to(device_of(features))
    lengths = torch.linalg.vector_norm(weight, dim=1)
    refuse_unusable(lengths, slice(0, len(weight)), "old_weight")
    known = check_class_map(class_map, len(weight)).to(weight.device)
    used = known[known >= 0]
    if len(torch.unique(used)) < len(used):
        raise InputError("class_map sends two new classes to the same old row; expected each old row at most once")
    checked = check_labels(labels, len(known), len(features)).to(weight.device)
    means = weighted_sums(features, checked, len(known), uniform_weights(checked, len(known)), "features")
    norms = torch.linalg.vector_norm(means, dim=1, keepdim=True)
    synthesised = means * (lengths.mean() / norms.clamp(min=1e-12))
    unknown = known < 0
    rows = torch.where(unknown, len(weight) + unknown.cumsum(0) - 1, known)
    return torch.cat([weight, synthesised[unknown]]), rows

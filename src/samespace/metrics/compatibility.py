"""Compatibility: the criterion, the gains, and the strict criterion as shares of pairs (BCT, CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy, as_scores


def criterion(cross: float, old: float) -> bool:
    """Whether the cross test beats the old model, strictly (BCT Eq. 2: M(φ_new, φ_old) > M(φ_old, φ_old)).

    Example:
        >>> criterion(80.25, 77.86), criterion(77.86, 77.86)
        (True, False)
    """
    return bool(cross > old)


def absolute_gain(cross: float, old: float) -> float:
    """What the update gains without backfill: M(φ_new, φ_old) − M(φ_old, φ_old)."""
    return float(cross - old)


def update_gain(cross: float, old: float, paragon: float) -> float | None:
    """The gain as a share of what a full backfill with the paragon would gain (BCT Eq. 9).

    Args:
        cross: M(φ_new, φ_old), new queries on the old gallery.
        old: M(φ_old, φ_old).
        paragon: M(φ*_new, φ*_new), the new model trained without compatibility, both sides.

    Returns:
        (cross − old) / (paragon − old); None where the criterion fails or the paragon does not beat the old model.

    Example:
        >>> round(100 * update_gain(80.25, 77.86, 86.96), 2)
        26.26
    """
    if not criterion(cross, old) or paragon <= old:
        return None
    return float((cross - old) / (paragon - old))


@dataclass(frozen=True)
class StrictShares:
    """How far the strict criterion (BCT Eq. 1) holds, pair by pair; None where there is no such pair.

    Attributes:
        positive_share: share of pairs of one identity that come no farther apart.
        negative_share: share of pairs of unlike identities that come no closer.
        positive_improved: share of pairs of one identity that come strictly closer.
        negative_improved: share of pairs of unlike identities that come strictly farther apart.
    """

    positive_share: float | None
    negative_share: float | None
    positive_improved: float | None
    negative_improved: float | None


def strict_criterion(cross: Any, old: Any, mates: Any, *, exclude: Any = None) -> StrictShares:
    """Shares of pairs that satisfy the strict criterion (BCT Eq. 1), in similarities.

    The old model itself satisfies every pair and improves none.

    Args:
        cross: (Q, G) similarity of new queries to the old gallery.
        old: (Q, G) similarity of old queries to the old gallery.
        mates: (Q, G) bool, true where both are of one identity.
        exclude: (Q, G) bool, true for pairs to leave out.

    Raises:
        InputError: shapes that differ.

    Example:
        >>> strict_criterion([[0.9, 0.2]], [[0.8, 0.1]], [[True, False]]).negative_share
        0.0
    """
    after, before = as_scores(cross, "cross scores", 2), as_scores(old, "old scores", 2)
    positive = as_numpy(mates)
    out = np.zeros_like(positive) if exclude is None else as_numpy(exclude)
    if not after.shape == before.shape == positive.shape == out.shape:
        shapes = f"{after.shape}, {before.shape}, {positive.shape}, {out.shape}"
        raise InputError(f"cross, old, mates and exclude should share one shape, got {shapes}")
    same, unlike = positive & ~out, ~positive & ~out
    return StrictShares(
        positive_share=_share(after[same] >= before[same]),
        negative_share=_share(after[unlike] <= before[unlike]),
        positive_improved=_share(after[same] > before[same]),
        negative_improved=_share(after[unlike] < before[unlike]),
    )


def _share(flags: Any) -> float | None:
    return float(np.mean(flags)) if flags.size else None

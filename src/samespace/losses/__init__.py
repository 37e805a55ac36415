"""Losses: classification heads with margins, and the terms that tie new embeddings to an old space.

Every loss is an `nn.Module` called as `loss(embeddings, labels)`, or as `loss(embeddings, labels, old_embeddings)`
where it needs old vectors of the same images. Embeddings come as the model makes them and are normalised inside; the
maths is float32 even under autocast, and float64 for float64 input.
"""

from __future__ import annotations

from samespace.losses.contrast import ContrastiveLoss
from samespace.losses.distillation import DistillationLoss, LwFLoss
from samespace.losses.heads import MarginHead
from samespace.losses.influence import InfluenceLoss
from samespace.losses.margins import DEFAULT_MARGINS, Margin, apply_margin
from samespace.losses.regression import RegressionLoss

__all__ = [
    "DEFAULT_MARGINS",
    "ContrastiveLoss",
    "DistillationLoss",
    "InfluenceLoss",
    "LwFLoss",
    "Margin",
    "MarginHead",
    "RegressionLoss",
    "apply_margin",
]

"""Losses: classification heads with margins, and the terms that keep new embeddings comparable with an old space.

Every loss is an `nn.Module` called as `loss(embeddings, labels)`. One that needs more says so by class attributes:
`needs_old_embeddings = True` is called with `old_embeddings=` (B, old_dim), the old model's vectors of the same images,
and `needs_old_views = True` with `old_views=` (B, old_dim), its embeddings of the same augmented views. Embeddings come
as the model makes them and are normalised inside; the maths is float32 even under autocast, and float64 for float64
input.
"""

from __future__ import annotations

from samespace.losses.class_share import ClassShare
from samespace.losses.contrast import ContrastiveLoss
from samespace.losses.distillation import BctDistillationLoss, DistillationLoss, LwFLoss
from samespace.losses.every_gallery import EveryGalleryLoss
from samespace.losses.heads import MarginHead
from samespace.losses.influence import InfluenceLoss
from samespace.losses.margins import MARGINS, Margin, apply_margin
from samespace.losses.matched import MatchedLoss
from samespace.losses.matching import MatchingLoss
from samespace.losses.memory import OldMemory
from samespace.losses.memory_contrast import MemoryContrastLoss
from samespace.losses.pairs import PairsLoss
from samespace.losses.regression import RegressionLoss
from samespace.losses.tail import TailLoss

__all__ = [
    "MARGINS",
    "BctDistillationLoss",
    "ClassShare",
    "ContrastiveLoss",
    "DistillationLoss",
    "EveryGalleryLoss",
    "InfluenceLoss",
    "LwFLoss",
    "Margin",
    "MarginHead",
    "MatchedLoss",
    "MatchingLoss",
    "MemoryContrastLoss",
    "OldMemory",
    "PairsLoss",
    "RegressionLoss",
    "TailLoss",
    "apply_margin",
]

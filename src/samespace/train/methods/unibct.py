"""UniBCT (Eq. 5): prototypes of every new class from old vectors, by mean, trimmed or refined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samespace import prototypes
from samespace.data import ImageSource
from samespace.losses import InfluenceLoss
from samespace.train.methods.method import MARGIN_OPTIONS, Method, OldSide, Term, margin_options
from samespace.train.sections import CompatibilitySection, HeadSection
from samespace.vectors import VectorSet


def _mean(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    centres = prototypes.mean(_vectors(old).vectors, torch.from_numpy(source.labels), len(source.classes))
    return Term(InfluenceLoss(centres, **margin_options(section, head)))


def _trimmed(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    features, labels, count = _vectors(old).vectors, torch.from_numpy(source.labels), len(source.classes)
    centres = prototypes.trimmed(features, labels, count, drop=section.drop)
    return Term(InfluenceLoss(centres, **margin_options(section, head)))


def _refined(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    """Means at first; the refined prototypes need the new model as their guide."""
    return Term(_mean(section, head, source, old).loss, Refinement(_vectors(old), source, section))


def _vectors(old: OldSide) -> VectorSet:
    assert old.vectors is not None
    return old.vectors


class Refinement:
    """Rebuilds refined prototypes (UniBCT Eq. 6-10) from the new model's present vectors.

    Attributes:
        report: of the last call, how many samples a prototype rests on in effect, as a share of its class: the median
            and the smallest over classes. A small share says that a few near duplicates have captured a prototype.
    """

    def __init__(self, vectors: VectorSet, source: ImageSource, section: CompatibilitySection) -> None:
        self._features = vectors.vectors
        self._labels = torch.from_numpy(source.labels)
        self._count = len(source.classes)
        self._options: dict[str, Any] = {
            "damping": section.damping,
            "temperature": section.refine_temperature,
            "similarity_cap": section.similarity_cap,
        }
        self.report: dict[str, float] = {}

    def __call__(self, guide: Tensor) -> Tensor:
        """Prototypes (C, D) float32 for a guide (N, D) in the images' order."""
        weights = prototypes.refined_weights(self._labels, self._count, guide=guide, **self._options)
        effective = prototypes.effective_sample_size(weights, self._labels, self._count)
        share = effective / torch.bincount(self._labels, minlength=self._count)
        self.report = {"effective_share_median": float(share.median()), "effective_share_min": float(share.min())}
        return prototypes.weighted(self._features, self._labels, self._count, weights=weights.cpu())


MEAN = Method(_mean, needs=("vectors",), options=MARGIN_OPTIONS)
TRIMMED = Method(_trimmed, needs=("vectors",), options=MARGIN_OPTIONS)
REFINED = Method(_refined, needs=("vectors",), options=(*MARGIN_OPTIONS, "similarity_cap", "refresh_epochs"))

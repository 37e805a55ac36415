"""The baselines of both papers that need only old vectors: regression and contrast."""

from __future__ import annotations

from samespace.data import ImageSource
from samespace.losses import ContrastiveLoss, RegressionLoss
from samespace.train.methods.method import Method, OldSide, Term
from samespace.train.sections import CompatibilitySection, HeadSection


def _l2(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    return Term(RegressionLoss(prefix=section.prefix))


def _contrastive(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    return Term(ContrastiveLoss(temperature=section.temperature or 0.05, prefix=section.prefix))


L2 = Method(_l2, needs=("vectors",))
CONTRASTIVE = Method(_contrastive, needs=("vectors",), options=("temperature",))

"""The baselines of both papers that need only old vectors: regression and contrast."""

from __future__ import annotations

from samespace.losses import ContrastiveLoss, RegressionLoss
from samespace.train.methods.method import Method, Term

L2 = Method(lambda section, *_: Term(RegressionLoss(prefix=section.prefix)), needs=("vectors",))
CONTRASTIVE = Method(
    lambda section, *_: Term(ContrastiveLoss(temperature=section.temperature or 0.05, prefix=section.prefix)),
    needs=("vectors",),
    options=("temperature",),
)

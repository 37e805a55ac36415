"""BCT (Eq. 8) and its variants: the old classifier, alone, extended or distilled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samespace import prototypes
from samespace.data import ImageSource
from samespace.errors import InputError
from samespace.losses import BctDistillationLoss, DistillationLoss, InfluenceLoss, LwFLoss
from samespace.models import Classifier
from samespace.train.methods.method import MARGIN_OPTIONS, Method, OldSide, Term, margin_options, shared_classes
from samespace.train.sections import CompatibilitySection, HeadSection


def _bct(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    classifier, class_map = _classifier(source, old)
    return Term(_influence(section, classifier, class_map))


def _bct_synth(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    """Rows for the new classes are synthesised from old vectors (BCT section 3.3)."""
    classifier, class_map = _classifier(source, old)
    assert old.vectors is not None
    options = margin_options(section, classifier)
    labels = torch.from_numpy(source.labels)
    weight, rows = prototypes.extend_classifier(classifier.weight, class_map, old.vectors.vectors, labels)
    bias = classifier.bias if options["margin"] == "softmax" else None
    if bias is not None:  # a synthesised class is as likely beforehand as an average old one
        bias = torch.cat([bias, bias.mean().expand(len(weight) - len(bias))])
    return Term(InfluenceLoss(weight, class_map=rows, bias=bias, **options))


def _bct_kd(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    """Known classes by the influence loss, the others by distillation (BCT 2.5)."""
    classifier, class_map = _classifier(source, old)
    shared = int((class_map >= 0).sum())
    if shared == len(class_map):
        return Term(_influence(section, classifier, class_map))
    distillation = DistillationLoss(classifier.weight, **_distillation(section, class_map))
    if shared == 0:
        return Term(distillation)
    return Term(BctDistillationLoss(_influence(section, classifier, class_map), distillation, class_map))


def _lwf(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    classifier, class_map = _classifier(source, old)
    return Term(LwFLoss(classifier.weight, **_distillation(section, class_map)))


def _classifier(source: ImageSource, old: OldSide) -> tuple[Classifier, Tensor]:
    assert old.classifier is not None
    return old.classifier, shared_classes(source, old.classifier)


def _influence(section: CompatibilitySection, classifier: Classifier, class_map: Tensor) -> InfluenceLoss:
    options = margin_options(section, classifier)
    return InfluenceLoss(classifier.weight, class_map=class_map, bias=classifier.bias, **options)


def _distillation(section: CompatibilitySection, class_map: Tensor) -> dict[str, Any]:
    return {"class_map": class_map, "temperature": section.temperature, "prefix": section.prefix}


def _check_bct(class_map: Tensor) -> None:
    if not bool((class_map >= 0).any()):
        raise InputError(
            f"none of the {len(class_map)} training classes is known to the old classifier, so "
            "compatibility.method=bct would do nothing; choose bct-synth, bct-kd or a unibct method"
        )


def _check_lwf(class_map: Tensor) -> None:
    if bool((class_map >= 0).all()):
        raise InputError("compatibility.method=lwf distils new classes only, and the old classifier knows them all")


BCT = Method(_bct, needs=("classifier",), options=MARGIN_OPTIONS, check_classes=_check_bct)
BCT_SYNTH = Method(_bct_synth, needs=("classifier", "vectors"), options=MARGIN_OPTIONS)
BCT_KD = Method(_bct_kd, needs=("classifier", "vectors"), options=(*MARGIN_OPTIONS, "temperature"))
LWF = Method(_lwf, needs=("classifier", "vectors"), options=("temperature",), check_classes=_check_lwf)

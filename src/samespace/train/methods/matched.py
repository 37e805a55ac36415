"""`matched`, the default method, and each of its three terms alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from samespace import prototypes
from samespace.data import ImageSource
from samespace.losses import MatchedLoss, MatchingLoss, MemoryContrastLoss, TailLoss
from samespace.train.methods.method import Method, OldSide, Term
from samespace.train.sections import CompatibilitySection, HeadSection

_IN_MEMORY = 2 << 30


def _matched(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    given: dict[str, Any] = {name: getattr(section, name) for name in ("beta", "far", "temperature", *_WEIGHTS)}
    if section.matching_weight is None:
        given["matching_weight"] = _matching_weight(head)
    if old.model is not None:
        given["mixed_share"] = section.mixed
    return Term(MatchedLoss(*_stored(old, source), len(source.classes), **_options(section, **given)))


def _matching_weight(head: HeadSection) -> float:
    """10 beside a head of scale 32, in proportion to the scale, as the head's gradient is."""
    return 10.0 if head.margin == "softmax" else 10.0 * head.scale / 32


def _matching(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    vectors, labels = _stored(old, source)
    centres = prototypes.mean(vectors, labels, len(source.classes))
    return Term(MatchingLoss(centres, beta=0.2 if section.beta is None else section.beta, prefix=section.prefix))


def _memory_contrast(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    return Term(MemoryContrastLoss(*_stored(old, source), **_options(section, temperature=section.temperature)))


def _tail(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    return Term(TailLoss(*_stored(old, source), **_options(section, far=section.far)))


def _options(section: CompatibilitySection, **given: Any) -> dict[str, Any]:
    """Arguments of a loss with a memory, as far as the recipe names them."""
    options = {"size": section.memory, "prefix": section.prefix, **given}
    return {name: value for name, value in options.items() if value is not None}


def _stored(old: OldSide, source: ImageSource) -> tuple[Tensor | np.ndarray[Any, Any], Tensor]:
    """The stored vectors, on the training's device where they are small enough, and their classes."""
    assert old.vectors is not None
    values = old.vectors.vectors
    small = values.nbytes <= _IN_MEMORY
    return torch.from_numpy(np.array(values)) if small else values, torch.from_numpy(source.labels)


_WEIGHTS = ("matching_weight", "contrast_weight", "tail_weight")
# from the start: held back for a fifth it gains less (docs/results/short-trainings.md)
_FIRST, _RISE = 0.0, 0.05
MATCHED = Method(
    _matched,
    needs=("vectors", "views"),
    options=("views", "old_views", "earlier", "beta", "far", "mixed", "memory", "temperature", *_WEIGHTS),
    warmup=_FIRST,
    ramp=_RISE,
)
MATCHING = Method(
    _matching, needs=("vectors", "views"), options=("views", "old_views", "beta"), warmup=_FIRST, ramp=_RISE
)
MEMORY_CONTRAST = Method(
    _memory_contrast,
    needs=("vectors", "views"),
    options=("views", "old_views", "memory", "temperature"),
    warmup=_FIRST,
    ramp=_RISE,
)
TAIL = Method(_tail, needs=("vectors",), options=("far", "memory"), warmup=_FIRST, ramp=_RISE)

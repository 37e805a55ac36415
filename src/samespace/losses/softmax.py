"""`Softmax`: which margin softmax a head takes and how it is computed; `Gradients` of one; margins on target logits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from samespace.losses.class_share import ClassShare
from samespace.losses.margins import MARGINS, Margin

Kernel = Literal["float32", "bf16", "triton"]
"""How a head of many classes is computed: `float32` in the type of its vectors, `bf16` with bf16 products summed in
float32, `triton` so too with the softmax of a row in two kernels of its own."""

EPSILON = 1e-12
"""Least length of a row that is normalised, as in `torch.nn.functional.normalize`."""

BLOCK = 2**18
"""Values that a CPU takes through all elementwise steps while they are in its cache."""

DEVICE_BLOCK = 2**24
"""Values in a temporary of a GPU."""


class Softmax(NamedTuple):
    """What kind of margin softmax it is.

    Attributes:
        margin: its form.
        scale: what the vectors were multiplied by.
        value: margin value.
        normalized: whether the rows of the weight are taken at unit length.
        share: the part of the classes that this process holds, where several hold them together.
        kernel: how it is computed.
    """

    margin: Margin
    scale: float
    value: float
    normalized: bool
    share: ClassShare | None = None
    kernel: Kernel = "float32"


class Gradients(NamedTuple):
    """Of the mean loss, each of its tensor's shape; None where it is not wanted."""

    vectors: Tensor | None
    weight: Tensor | None
    offset: Tensor | None

    @classmethod
    def zeros(cls, of: tuple[Tensor, Tensor, Tensor | None], wanted: tuple[bool, ...]) -> Gradients:
        """Those of vectors, weight and offset that are wanted, to add to."""
        pairs = zip(of, wanted, strict=True)
        return cls(*(torch.zeros_like(tensor) if tensor is not None and want else None for tensor, want in pairs))


def lowered(target: Tensor, kind: Softmax) -> tuple[Tensor, Tensor]:
    """Logits of the samples' own classes with the margin, and their slope by those without."""
    form = MARGINS[kind.margin]
    lower = form.lower
    if lower is None:
        return target, torch.ones_like(target)
    if form.slope is not None:
        cosine = target / kind.scale
        return kind.scale * lower(cosine, kind.value), form.slope(cosine, kind.value)
    with torch.enable_grad():
        cosine = (target / kind.scale).requires_grad_()
        result = lower(cosine, kind.value)
        (slope,) = torch.autograd.grad(result.sum(), cosine)
    return kind.scale * result.detach(), slope


def inverse_lengths(weight: Tensor) -> Tensor:
    """1 / |row| of a weight (C, D), (C,), bounded as `EPSILON` says."""
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1)
    return lengths.clamp_(min=EPSILON).reciprocal_()


def project(gradient: Tensor, weight: Tensor, inverse: Tensor) -> None:
    """Take from the weight's gradient (C, D), in place, its part along each row, whose length plays no role.

    Rows of the weight have the `inverse` lengths (C,); some are taken at once, which bounds the memory.
    """
    along = torch.where(inverse < 1 / EPSILON, inverse, 0).square_()[:, None]
    step = max(1, (BLOCK if weight.device.type == "cpu" else DEVICE_BLOCK) // weight.shape[1])
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        mine, theirs = gradient[rows], weight[rows]
        mine.addcmul_(theirs, (mine * theirs).sum(dim=1, keepdim=True).mul_(along[rows]), value=-1)

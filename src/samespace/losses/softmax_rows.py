"""The softmax of rows of logits and its gradient, in PyTorch; `triton_rows` has the same two steps as kernels."""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min
"""Stands for the highest logit of a row that has none but -inf."""


def statistics(
    logits: Tensor, classes: int, columns: Tensor, own: Tensor, offset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Highest logit of each row (b,), and the sum over its classes of exp(logit - highest) (b,).

    Args:
        logits: (b, W) float32, W > classes; columns from `classes` on are not used. Overwritten by what `gradients`
            takes.
        classes: of each row.
        columns: (b,) int64, the row's own class; `classes` = it has none here.
        own: (b,) float32, the logit that stands in its place.
        offset: (classes,) float32, added to the others; None = zero.
    """
    if offset is not None:
        logits[:, :classes].add_(offset)
    logits.scatter_(1, columns[:, None], own[:, None])
    logits[:, classes:].fill_(-torch.inf)
    top = logits.amax(dim=1).clamp_(min=LOWEST)
    return top, logits.sub_(top[:, None]).exp_().sum(dim=1)


def gradients(
    logits: Tensor,
    classes: int,
    columns: Tensor,
    own: Tensor,
    offset: Tensor | None,
    top: Tensor,
    factor: Tensor,
    out: Tensor,
) -> None:
    """Fill `out` with exp(logit - top) · factor, and with `own` (b,) in the columns of the rows' own classes.

    Args:
        logits: what `statistics` left.
        classes: as there.
        columns: as there.
        own: (b,) of the type of `out`.
        offset: as there.
        top: (b,) highest logits, from there.
        factor: (b,) float32.
        out: (b, W) bf16; columns from `classes` on may hold anything afterwards.
    """
    torch.mul(logits, factor[:, None], out=out)
    out.scatter_(1, columns[:, None], own[:, None])

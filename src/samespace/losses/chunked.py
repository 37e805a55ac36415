"""Margin softmax over many classes with its gradients in closed form, a few rows of the batch at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from samespace.losses import chunked_bf16
from samespace.losses.checks import full_precision
from samespace.losses.margins import margin_loss
from samespace.losses.softmax import BLOCK, Gradients, inverse_lengths, lowered, project
from samespace.losses.softmax import Softmax as Softmax

LEAST: float = 2**17
"""Logits from which on the loss is computed in chunks."""
ROWS = 128
"""Samples in a chunk."""
_MOST_SCALE = 64.0


def classification_loss(
    vectors: Tensor, weight: Tensor, offset: Tensor | None, targets: Tensor, kind: Softmax
) -> Tensor:
    """`margin_loss` of `vectors @ weight.T + offset`, from `LEAST` logits on in chunks, which is then faster.

    Below that, and within `torch.compile`, the whole matrix of logits is made and PyTorch differentiates it, unless
    several processes share the classes. Arguments as of `chunked_margin_loss`.
    """
    many = len(vectors) * len(weight) >= LEAST and not torch.compiler.is_compiling()
    if many or kind.share is not None:
        return chunked_margin_loss(vectors, weight, offset, targets, kind)
    logits = functional.linear(vectors, functional.normalize(weight) if kind.normalized else weight, offset)
    return margin_loss(logits, targets, margin=kind.margin, scale=kind.scale, value=kind.value)


def chunked_margin_loss(
    vectors: Tensor, weight: Tensor, offset: Tensor | None, targets: Tensor, kind: Softmax
) -> Tensor:
    """`margin_loss` of `vectors @ weight.T + offset` for many classes, to the rounding of its type.

    The forward pass computes the gradients too, `ROWS` samples at a time, so that the largest temporary has
    `ROWS` × C values and no normalised copy of the weight is made: three products in all, where keeping only the
    log-sum-exp would need a fourth. It can be differentiated once; a second backward pass computes anew.

    Args:
        vectors: (B, D) float32 or float64; scaled unit vectors where the kind is normalised.
        weight: (C, D) of the same type, rows of any length.
        offset: (C,), None = zero; -inf takes a class out.
        targets: (B,) int64; -1 = no target, the sample contributes nothing. Where processes share the classes, rows of
            this process's part of the weight, -1 = the target is another's.
        kind: of softmax.

    Where processes share the classes, all call it with the same vectors: the loss is that over all classes, the
    gradient of the weight that of the part at hand, and that of the vectors what this part adds to it.
    """
    loss: Tensor = _Chunked.apply(vectors, weight, offset, targets, kind)  # type: ignore[no-untyped-call]
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, weight: Tensor, offset: Tensor | None, targets: Tensor, kind: Softmax
    ) -> Tensor:
        loss, ctx.gradients = computed(vectors, weight, offset, targets, kind, ctx.needs_input_grad[:3])
        ctx.save_for_backward(vectors, weight, offset, targets)
        ctx.kind = kind
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in place and handed over: the weight's gradient is as large as the weight.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            vectors, weight, offset, targets = ctx.saved_tensors
            _, gradients = computed(vectors, weight, offset, targets, ctx.kind, ctx.needs_input_grad[:3])
        return (*(None if one is None else one.mul_(of_loss) for one in gradients), None, None)


def computed(
    vectors: Tensor, weight: Tensor, offset: Tensor | None, targets: Tensor, kind: Softmax, wanted: tuple[bool, ...]
) -> tuple[Tensor, Gradients]:
    """Loss and wanted gradients by the kernel that the kind names."""
    how = _loss_and_gradients if kind.kernel == "float32" else chunked_bf16.loss_and_gradients
    return how(vectors, weight, offset, targets, kind, wanted)


def _loss_and_gradients(
    vectors: Tensor,
    weight: Tensor,
    offset: Tensor | None,
    targets: Tensor,
    kind: Softmax,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, Gradients]:
    inverse = inverse_lengths(weight) if kind.normalized else None
    gradients = by_vectors, by_weight, by_offset = Gradients.zeros((vectors, weight, offset), wanted)
    total = vectors.new_zeros(())
    counted = targets >= 0 if kind.share is None else torch.ones_like(targets, dtype=torch.bool)
    each = 1 / counted.sum().clamp(min=1).to(vectors.dtype)
    classes = len(weight) if kind.share is None else kind.share.most
    rows_at_once = ROWS if vectors.device.type == "cpu" else chunked_bf16.rows_in_chunk(len(vectors), classes)
    buffer = vectors.new_empty(min(rows_at_once, len(vectors)), len(weight))
    with full_precision(vectors):
        for start in range(0, len(vectors), rows_at_once):
            rows = slice(start, start + rows_at_once)
            some, own = vectors[rows], targets[rows]
            logits = torch.mm(some, weight.T, out=buffer[: len(some)])
            losses, normalizer = _to_gradient(logits, own, inverse, offset, kind)
            total += (losses * counted[rows]).sum()
            factor = (counted[rows] * each / normalizer)[:, None]
            if by_vectors is not None:
                torch.mm(logits, weight, out=by_vectors[rows]).mul_(factor)
            if by_weight is not None:
                by_weight.addmm_(logits.T, some * factor)
            if by_offset is not None:
                by_offset.addmv_(logits.T, factor[:, 0])
    if by_weight is not None and inverse is not None:
        project(by_weight, weight, inverse)
    if by_offset is not None and inverse is not None:
        by_offset.div_(inverse)
    return total * each, gradients


def _to_gradient(
    logits: Tensor, targets: Tensor, inverse: Tensor | None, offset: Tensor | None, kind: Softmax
) -> tuple[Tensor, Tensor]:
    """Losses (b,) of some rows; turns their products (b, C) into gradients but for the divisors (b,), given too.

    The gradients are by the products of vectors and weight, so they hold the inverse lengths of the weight's rows. A
    row whose target is not here has no margin.
    """
    here, columns = targets >= 0, targets.clamp(min=0)
    plain = logits.gather(1, columns[:, None])[:, 0]
    for value, change in ((inverse, plain.mul_), (offset, plain.add_)):
        if value is not None:
            change(value[columns])
    with_margin, slope = lowered(plain.masked_fill(~here, 0), kind)
    own, target = torch.where(here, with_margin, plain), with_margin.masked_fill(~here, 0)
    top, normalizer = torch.zeros_like(own), torch.empty_like(own)
    small = offset is None and _fit_exp(kind, logits.shape[1])
    width = logits.shape[1] if kind.share is None else kind.share.most
    step = max(1, BLOCK // width) if logits.device.type == "cpu" else len(logits)
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        block = logits[rows]
        if inverse is not None:
            block.mul_(inverse)
        if offset is not None:
            block.add_(offset)
        block.scatter_(1, columns[rows, None], own[rows, None])
        if not small:
            torch.amax(block, dim=1, out=top[rows])
            if kind.share is not None:
                kind.share.maximum(top[rows])
            block.sub_(top[rows, None])
        torch.sum(block.exp_(), dim=1, out=normalizer[rows])
        if inverse is not None:
            block.mul_(inverse)
    likely = (own - top).exp_()
    likely_own = likely.masked_fill(~here, 0)
    if kind.share is not None:
        kind.share.sum(normalizer, target, likely_own)
    by_own = torch.where(here, (likely - normalizer) * slope, likely)
    logits.scatter_(1, columns[:, None], (by_own if inverse is None else by_own * inverse[columns])[:, None])
    # where the own class is likely the loss is a small difference of large logits, but not of what exp made of them
    sure = normalizer < 2 * likely_own
    losses = torch.where(sure, normalizer / likely_own, normalizer).log_() + (top - target).masked_fill_(sure, 0)
    return losses, normalizer


def _fit_exp(kind: Softmax, classes: int) -> bool:
    """Whether exp of the logits neither overflows nor vanishes, so that the highest of a row need not be found.

    Scaled cosines lie in ± the scale, but for the sample's own, which a margin may lower to where exp vanishes.
    """
    count = classes if kind.share is None else kind.share.classes
    return kind.margin != "softmax" and kind.scale <= _MOST_SCALE and count > 1

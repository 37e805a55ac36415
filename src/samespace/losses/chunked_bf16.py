"""Margin softmax over many classes with bf16 products for a GPU: nothing in it waits for the device.

As `losses.chunked` it takes some rows of the batch at a time and computes gradients in the forward pass. Vectors and
rows of the weight are rounded to bf16; products are summed in float32, and so are logits, softmax and the weight's
gradient; gradients of logits are rounded once more. Logits of the samples' own classes are not rounded at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from samespace.losses import softmax_rows
from samespace.losses.checks import full_precision
from samespace.losses.softmax import Gradients, Softmax, inverse_lengths, lowered, project

CHUNK_BYTES = 144 * 2**20
"""Memory of a chunk's logits and their gradients."""
LEAST_ROWS = 128
"""A chunk has as many samples, whatever its memory: with fewer, a product mostly waits for the weight."""
LOGIT_BYTES = 4 + 2
ALIGNED = 16
ROUNDED = torch.bfloat16
"""What vectors and gradients of logits are rounded to."""


class Own(NamedTuple):
    """The samples' own classes, each (B,).

    Attributes:
        columns: rows of the weight, int64; the number of rows = none here.
        logits: with the margin, float32; 0 where there is none.
        slopes: of these by those without the margin.
    """

    columns: Tensor
    logits: Tensor
    slopes: Tensor

    def rows(self, part: slice) -> Own:
        """Those of some samples."""
        return Own(*(values[part] for values in self))


def rows_in_chunk(batch: int, classes: int) -> int:
    """Samples in a chunk: about the same in each, as many as `CHUNK_BYTES` hold, and `LEAST_ROWS` at least."""
    chunks = -(-batch // max(LEAST_ROWS, CHUNK_BYTES // (LOGIT_BYTES * classes)))
    return -(-batch // max(1, chunks))


def loss_and_gradients(
    vectors: Tensor, weight: Tensor, offset: Tensor | None, targets: Tensor, kind: Softmax, wanted: tuple[bool, ...]
) -> tuple[Tensor, Gradients]:
    """The loss and its gradients by those of vectors (B, D), weight (C, D) and offset (C,) that are wanted.

    All are float32, targets int64; see `chunked.chunked_margin_loss`.
    """
    inverse = inverse_lengths(weight) if kind.normalized else None
    gradients = by_vectors, by_weight, by_offset = Gradients.zeros((vectors, weight, offset), wanted)
    with full_precision(vectors):
        own = _own(vectors, weight, inverse, offset, targets, kind)
        counted = targets >= 0 if kind.share is None else torch.ones_like(targets, dtype=torch.bool)
        each = counted.to(vectors.dtype) / counted.sum().clamp(min=1)
        losses = torch.empty_like(each)
        samples, classes = vectors.to(ROUNDED), torch.empty_like(weight, dtype=ROUNDED)
        torch.mul(weight, 1.0 if inverse is None else inverse[:, None], out=classes)
        for part, logits, gradient in _chunks(vectors, weight, kind):
            some, by_logits = samples[part], gradient[:, : len(weight)]
            _product(some, classes.T, logits[:, : len(weight)])
            losses[part] = _to_gradient(logits, gradient, len(weight), own.rows(part), each[part], offset, kind)
            if by_vectors is not None:
                _product(by_logits, classes, by_vectors[part])
            if by_weight is not None:
                _product(by_logits.T, some, by_weight, onto=True)
            if by_offset is not None:
                by_offset += by_logits.sum(dim=0, dtype=by_offset.dtype)
        if by_weight is not None and inverse is not None:
            del samples, classes
            project(by_weight.mul_(inverse[:, None]), weight, inverse)
    return losses @ each, gradients


def _chunks(vectors: Tensor, weight: Tensor, kind: Softmax) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows of the batch, with memory for their logits and for the gradients of these, each (b, W).

    W is more than the classes and of whole `ALIGNED`, which products on a GPU are fastest with.
    """
    rows = rows_in_chunk(len(vectors), len(weight) if kind.share is None else kind.share.most)
    width = (len(weight) // ALIGNED + 1) * ALIGNED
    logits, gradient = (vectors.new_empty(rows, width, dtype=dtype) for dtype in (vectors.dtype, ROUNDED))
    for start in range(0, len(vectors), rows):
        count = min(rows, len(vectors) - start)
        yield slice(start, start + count), logits[:count], gradient[:count]


def _own(
    vectors: Tensor, weight: Tensor, inverse: Tensor | None, offset: Tensor | None, targets: Tensor, kind: Softmax
) -> Own:
    rows, none = targets.clamp(min=0), targets < 0
    plain = torch.linalg.vecdot(vectors, weight[rows])
    if inverse is not None:
        plain *= inverse[rows]
    if offset is not None:
        plain += offset[rows]
    logits, slopes = lowered(plain.masked_fill_(none, 0), kind)
    return Own(rows.masked_fill_(none, len(weight)), logits.masked_fill_(none, 0), slopes)


def _to_gradient(
    logits: Tensor, gradient: Tensor, classes: int, own: Own, each: Tensor, offset: Tensor | None, kind: Softmax
) -> Tensor:
    """Losses (b,) of some rows from their products, which are overwritten; fills in the gradients of these.

    `each` (b,) is the part that a row has in the loss.
    """
    steps = triton_steps() if kind.kernel == "triton" else softmax_rows
    top, total = steps.statistics(logits, classes, own.columns, own.logits, offset)
    highest, target = top, own.logits
    if kind.share is not None:
        highest, target = top.clone(), target.clone()
        kind.share.maximum(highest)
        total *= (top - highest).exp()
        kind.share.sum(total, target)
    factor = each / total
    by_own = ((own.logits - highest).exp() * factor - each) * own.slopes
    if kind.share is not None:
        factor *= (top - highest).exp()
    steps.gradients(logits, classes, own.columns, by_own.to(gradient.dtype), offset, top, factor, gradient)
    losses: Tensor = total.log() + highest - target
    return losses


def _product(a: Tensor, b: Tensor, out: Tensor, *, onto: bool = False) -> None:
    """The product of bf16 matrices in float32 sums, into a float32 matrix or `onto` what it holds.

    On a CPU, which has no such product, the rounded values are multiplied in float32.
    """
    if a.device.type == "cpu":
        out.addmm_(a.to(out.dtype), b.to(out.dtype), beta=int(onto))
    elif onto:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
    else:
        torch.mm(a, b, out_dtype=torch.float32, out=out)


def triton_steps() -> ModuleType:
    """The two steps of a row's softmax as kernels of Triton, which is imported for them."""
    from samespace.losses import triton_rows

    return triton_rows

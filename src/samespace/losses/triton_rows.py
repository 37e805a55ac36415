"""The softmax of rows of logits and its gradient as two Triton kernels, a program for each row.

They do what `softmax_rows` describes, reading the logits once for each step and writing only gradients.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samespace.losses.softmax_rows import LOWEST

BLOCK = 4096
"""Classes that a program takes at a time."""
WARPS = 8


def statistics(
    logits: Tensor, classes: int, columns: Tensor, own: Tensor, offset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `softmax_rows.statistics`, but logits stay as they are."""
    top, total = torch.empty_like(own), torch.empty_like(own)
    # Triton runs on the current device, whatever that of its tensors
    with torch.cuda.device_of(logits):
        _statistics[(len(logits),)](
            logits, classes, logits.shape[1], columns, own, _or(offset, own), top, total,
            HAS_OFFSET=offset is not None, LOWEST=LOWEST, BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return top, total


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
    """As `softmax_rows.gradients`."""
    with torch.cuda.device_of(logits):
        _gradients[(len(logits),)](
            logits, classes, logits.shape[1], columns, own, _or(offset, own), top, factor, out,
            HAS_OFFSET=offset is not None, BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip


def _or(offset: Tensor | None, other: Tensor) -> Tensor:
    """The offset, or in its place a tensor that no kernel reads."""
    return other if offset is None else offset


@triton.jit
def _statistics(
    logits, classes, width, columns, own, offset, top, total,
    HAS_OFFSET: tl.constexpr, LOWEST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.load(columns + row)
    mine = tl.load(own + row)
    highest = tl.full([BLOCK], LOWEST, tl.float32)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(logits + row * width + at, mask=at < width, other=0.0)
        if HAS_OFFSET:
            z += tl.load(offset + at, mask=at < classes, other=0.0)
        z = tl.where(at < classes, tl.where(at == column, mine, z), float("-inf"))
        risen = tl.maximum(highest, z)
        sums = sums * tl.exp(highest - risen) + tl.exp(z - risen)
        highest = risen
    most = tl.max(highest, axis=0)
    tl.store(top + row, most)
    tl.store(total + row, tl.sum(sums * tl.exp(highest - most), axis=0))


@triton.jit
def _gradients(
    logits, classes, width, columns, own, offset, top, factor, out,
    HAS_OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.load(columns + row)
    mine = tl.load(own + row)
    most = tl.load(top + row)
    scale = tl.load(factor + row)
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(logits + row * width + at, mask=at < width, other=0.0)
        if HAS_OFFSET:
            z += tl.load(offset + at, mask=at < classes, other=0.0)
        others = tl.where((at < classes) & (at != column), z, float("-inf"))
        value = tl.where(at == column, mine, tl.exp(others - most) * scale)
        tl.store(out + row * width + at, value.to(out.dtype.element_ty), mask=at < width)

"""Contrast and tail of a batch from one matrix product, with their gradients in closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from samespace.losses.memory import Draw, compare
from samespace.losses.memory_contrast import contrast
from samespace.losses.tail import BLOCK, largest, tail


def contrast_and_tail(
    new: Tensor,
    labels: Tensor,
    views: Tensor,
    stored: Tensor,
    draw: Draw,
    *,
    temperature: float,
    far: float,
    sharpness: float,
) -> tuple[Tensor, Tensor]:
    """What `contrast` and `tail` give for these vectors, both scalars.

    On a CPU one (B, K) buffer serves scores, softmax and gradients, and the tail, whose gradient is zero for all but
    some thousandths of the pairs, takes a sparse product; there it can be differentiated once. Elsewhere, where
    picking pairs would make the host wait for the device, it is `contrast` and `tail` themselves.

    Args:
        new: (B, old_dim) unit vectors, float32 or float64; so are all the others.
        labels: (B,) whole numbers.
        views: (B, old_dim) old vectors of the same views, the contrast's positives.
        stored: (B, old_dim) stored old vectors of the same images, the tail's own genuine pairs.
        draw: stored old vectors to compare with.
        temperature: of the contrast.
        far: false accept rate that the tail aims at.
        sharpness: of the tail.
    """
    if len(new) and new.device.type == "cpu" and not torch.compiler.is_compiling():
        vectors = draw.vectors.to(new.dtype)
        given = (new, labels, views, stored, vectors, draw.labels, temperature, far, sharpness)
        both: tuple[Tensor, Tensor] = _ContrastAndTail.apply(*given)  # type: ignore[no-untyped-call]
        return both
    against = compare(new, labels, draw)
    return (
        contrast((new * views).sum(dim=1), against.impostor, temperature),
        tail((new * stored).sum(dim=1), against, far=far, sharpness=sharpness),
    )


class _ContrastAndTail(torch.autograd.Function):
    """The forward pass computes the gradients (B, old_dim) too, so that nothing of size (B, K) outlives it."""

    @staticmethod
    def forward(
        ctx: Any,
        new: Tensor,
        labels: Tensor,
        views: Tensor,
        stored: Tensor,
        vectors: Tensor,
        classes: Tensor,
        temperature: float,
        far: float,
        sharpness: float,
    ) -> tuple[Tensor, Tensor]:
        logits = (new / temperature) @ vectors.T
        genuine = _of_one_class(labels, classes)
        genuine_scores = temperature * logits.view(-1)[genuine]
        logits.view(-1)[genuine] = -torch.inf
        # where no block of `largest` goes over two rows, a row's highest score is the highest of its blocks
        maxima = logits.view(-1, BLOCK).amax(dim=1) if logits.shape[1] % BLOCK == 0 else None
        top = (logits if maxima is None else maxima.view(len(logits), -1)).amax(dim=1)
        chosen = largest(logits.view(-1), max(1, int(far * logits.numel())), maxima)
        highest = temperature * logits.view(-1)[chosen]
        pairs = _Pairs(genuine, genuine_scores, chosen, highest)
        tail_value, by_tail = _tail(new, stored, vectors, pairs, sharpness)
        contrast_value, by_contrast = _contrast(new, views, vectors, logits, top, temperature)
        ctx.save_for_backward(by_contrast, by_tail)
        return contrast_value, tail_value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_contrast: Tensor, of_tail: Tensor) -> tuple[Tensor | None, ...]:
        by_contrast, by_tail = ctx.saved_tensors
        return (of_contrast * by_contrast + of_tail * by_tail, *[None] * 8)


class _Pairs(NamedTuple):
    """The pairs that the tail is about, as positions in the flattened scores (B · K,), and their scores."""

    genuine: Tensor
    genuine_scores: Tensor
    highest: Tensor
    highest_scores: Tensor


def _of_one_class(labels: Tensor, classes: Tensor) -> Tensor:
    """Positions in the flattened (B, K) of the pairs whose labels (B,) and classes (K,) are equal."""
    order = np.argsort(classes.numpy(), kind="stable")
    ordered = classes.numpy()[order]
    first, last = (np.searchsorted(ordered, labels.numpy(), side) for side in ("left", "right"))
    counts = last - first
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    columns = order[np.repeat(first, counts) + within]
    return torch.from_numpy(np.repeat(np.arange(len(labels)) * len(order), counts) + columns)


def _contrast(
    new: Tensor, views: Tensor, vectors: Tensor, impostor: Tensor, highest: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The value of `contrast` and its gradient (B, old_dim).

    Overwrites `impostor` (B, K), scores / temperature; the highest of each row are (B,).
    """
    own = (new * views).sum(dim=1) / temperature
    top = torch.maximum(highest, own)
    likely = impostor.sub_(top[:, None]).exp_()
    own_likely = (own - top).exp()
    total = likely.sum(dim=1) + own_likely
    scale = 1 / (temperature * len(new))
    value = (top - own + total.log()).sum() / len(new)
    gradient = (likely @ vectors).mul_((scale / total)[:, None])
    return value, gradient.addcmul_((own_likely / total - 1)[:, None], views, value=scale)


def _tail(new: Tensor, stored: Tensor, vectors: Tensor, pairs: _Pairs, sharpness: float) -> tuple[Tensor, Tensor]:
    """The value of `tail` and its gradient (B, old_dim)."""
    chosen, highest = pairs.highest, pairs.highest_scores
    if float(highest.amin()) == -torch.inf:
        chosen, highest = chosen[highest > -torch.inf], highest[highest > -torch.inf]
        if not len(chosen):
            return new.new_zeros(()), torch.zeros_like(new)
    own = (new * stored).sum(dim=1)
    threshold = highest.amin()
    excess = sharpness * (highest - threshold)
    lack = sharpness * (threshold - torch.cat([own, pairs.genuine_scores]))
    value = (functional.softplus(excess).mean() + functional.softplus(lack).mean()) / sharpness
    slope = lack.sigmoid() / -len(lack)
    positions = torch.cat([chosen, pairs.genuine])
    slopes = torch.cat([excess.sigmoid() / len(excess), slope[len(own) :]])
    where = torch.stack([positions // len(vectors), positions % len(vectors)])
    sparse = torch.sparse_coo_tensor(where, slopes, (len(new), len(vectors)), check_invariants=False)
    return value, torch.sparse.mm(sparse, vectors).addcmul_(slope[: len(own), None], stored)

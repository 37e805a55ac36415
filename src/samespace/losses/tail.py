"""The tail loss: genuine and impostor scores pushed apart at one false accept rate."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import full_precision
from samespace.losses.memory import Comparison, OldMemory, against_memory
from samespace.prototypes.rows import Vectors

BLOCK = 64
"""Values whose highest `largest` looks at first."""


class TailLoss(nn.Module):
    """Genuine scores above, impostor scores below the threshold of an operating point; samespace's own.

    All B · K scores of a batch against K stored old vectors give the threshold t, the impostor score at rank
    far · B · K, without gradient. The loss is `mean softplus(s (t - s⁺))/s` over the genuine scores s⁺ (own stored
    vector and members of the class in the draw) plus `mean softplus(s (s⁻ - t))/s` over the impostor scores from t
    up, with sharpness s. Only what decides TAR@FAR=far has a gradient; the bulk of impostors has none.

    Cost: as `MemoryContrastLoss`, with a selection of the highest far · B · K scores in place of the softmax. Fails
    alone (it says nothing of where a vector lies below the threshold; rank@1 falls by a third): it goes with
    `MatchingLoss`. It needs many pairs at the tail: with far · B · K of a handful, a few pairs carry the whole
    impostor part and jerk the vectors about; below 1, t is the highest impostor score, for a batch resolves no lower
    rate than 1 / (B · K). Where no impostor is drawn the loss is zero.

    Args:
        vectors: (N, old_dim) stored old vectors, see `OldMemory`.
        labels: (N,) their classes.
        far: the false accept rate aimed at, 0 < far < 1.
        sharpness: s, how sharply the loss bends at t.
        size: K, vectors in a draw.
        seed: of the draws, see `OldMemory`.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: `far` outside (0, 1), a sharpness not above zero, or an unusable memory.

    Example:
        >>> loss = TailLoss(torch.eye(3), torch.arange(3), far=0.2)
        >>> far_apart = loss(torch.eye(3), torch.arange(3), torch.eye(3))
        >>> swapped = loss(torch.eye(3).roll(1, 0), torch.arange(3), torch.eye(3))
        >>> float(far_apart) < 0.1 < float(swapped)
        True
    """

    needs_old_embeddings = True

    def __init__(
        self,
        vectors: Vectors,
        labels: Vectors,
        *,
        far: float = 1e-3,
        sharpness: float = 16.0,
        size: int = 4096,
        seed: int = 0,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        self.far, self.sharpness = check_operating_point(far, sharpness)
        self.prefix = prefix
        self.memory = OldMemory(vectors, labels, size=size, seed=seed)

    def forward(self, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers, numbered as the memory's.
            old_embeddings: (B, old_dim), the stored old vectors of the same images; no gradient goes there.

        Raises:
            InputError: shapes do not fit, or dimensions differ without `prefix`.
        """
        own, against = against_memory(self.memory, embeddings, labels, old_embeddings, self.prefix)
        with full_precision(embeddings):
            return tail(own, against, far=self.far, sharpness=self.sharpness)


def tail(own: Tensor, comparison: Comparison, *, far: float, sharpness: float) -> Tensor:
    """The loss from scores: `own` (B,) to the own stored vectors, and those to the draw; zero without impostors."""
    pairs = comparison.impostor.numel()
    if pairs == 0:
        return own.sum() * 0
    impostor = comparison.impostor.flatten()
    highest = impostor[largest(impostor.detach(), max(1, int(far * pairs)))]
    absent = highest == -torch.inf
    none = absent.all()
    threshold = highest.masked_fill(absent, torch.inf).amin().masked_fill(none, 0).detach()
    above = functional.softplus(sharpness * (highest - threshold)).masked_fill(absent, 0).sum()
    above = above / (~absent).sum().clamp(min=1)
    if own.device.type == "cpu":
        missing = functional.softplus(sharpness * (threshold - comparison.scores[comparison.genuine])).sum()
    else:  # the same over all pairs: picking some makes the host wait for the device
        missing = (functional.softplus(sharpness * (threshold - comparison.scores)) * comparison.genuine).sum()
    missed = functional.softplus(sharpness * (threshold - own)).sum() + missing
    below = missed / (len(own) + comparison.genuine.sum())
    return (above + below).masked_fill(none, 0) / sharpness


def largest(values: Tensor, count: int, maxima: Tensor | None = None) -> Tensor:
    """Positions of the `count` largest of many values (N,), in no order; equal ones are interchangeable.

    On a CPU values are taken in blocks; the `count` largest of the blocks' own maxima bound the result from below, so
    that one pass leaves a few candidates to sort. `maxima` are those of the blocks of `BLOCK`, where they are known.
    """
    blocks = len(values) // BLOCK
    if values.device.type != "cpu" or torch.compiler.is_compiling() or 4 * count > blocks:
        return values.topk(count, sorted=False).indices
    whole = values[: blocks * BLOCK].view(blocks, BLOCK)
    highest = (whole.amax(dim=1) if maxima is None else maxima).numpy()
    chosen = np.argpartition(highest, blocks - count)[blocks - count :]
    bound = highest[chosen].min()
    above = np.flatnonzero(whole.numpy()[chosen] >= bound)
    rest = blocks * BLOCK + np.flatnonzero(values[blocks * BLOCK :].numpy() >= bound)
    candidates = np.concatenate([chosen[above // BLOCK] * BLOCK + above % BLOCK, rest])
    best = np.argpartition(values.numpy()[candidates], len(candidates) - count)[len(candidates) - count :]
    return torch.from_numpy(candidates[best])


def check_operating_point(far: float, sharpness: float) -> tuple[float, float]:
    """Return both.

    Raises:
        InputError: a rate outside (0, 1), or a sharpness not above zero.
    """
    if not 0 < far < 1:
        raise InputError(f"far is {far}; expected a false accept rate above 0 and below 1, such as 1e-3")
    if not (sharpness > 0 and math.isfinite(sharpness)):
        raise InputError(f"sharpness is {sharpness}; expected a finite number above 0")
    return far, sharpness

"""Instance contrast of new embeddings against a memory of stored old vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import full_precision
from samespace.losses.memory import OldMemory, against_memory
from samespace.prototypes.rows import Vectors


class MemoryContrastLoss(nn.Module):
    """New embedding against the old one of the same view, among stored old vectors of other classes: UniBCT Eq. 12.

    `mean -log(e^{f(x')·o(x')/τ} / Σ_k e^{f(x')·o_k/τ})`, k over x' itself and the negatives. The paper takes the
    negatives from the batch and blames that for the loss's weakness ("only considers the classes in the current
    mini-batch"); here they are K old vectors drawn anew each step from all that are stored, those of the own class
    left out. `ContrastiveLoss` is the paper's form.

    Cost: one product (B, old_dim) × (old_dim, K) and its gradient, and the softmax over it; the memory is N · old_dim
    values. Fails alone: it ranks well but lets genuine scores sink at low false accept rates, so it goes with
    `MatchingLoss` and `TailLoss` (as in `MatchedLoss`). Where no negative is drawn the loss is zero.

    Args:
        vectors: (N, old_dim) stored old vectors, see `OldMemory`.
        labels: (N,) their classes.
        temperature: τ, divides the cosines.
        size: K, vectors in a draw; those of a sample's own class do not count as negatives.
        seed: of the draws, see `OldMemory`.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: a temperature not above zero, or an unusable memory.

    Example:
        >>> loss = MemoryContrastLoss(torch.eye(3), torch.arange(3))
        >>> float(loss(torch.eye(3), torch.arange(3), torch.eye(3))) < 1e-6
        True
    """

    needs_old_views = True

    def __init__(
        self,
        vectors: Vectors,
        labels: Vectors,
        *,
        temperature: float = 0.05,
        size: int = 4096,
        seed: int = 0,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.prefix = prefix
        self.memory = OldMemory(vectors, labels, size=size, seed=seed)

    def forward(self, embeddings: Tensor, labels: Tensor, old_views: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers, numbered as the memory's.
            old_views: (B, old_dim) of the same views; no gradient goes there.

        Raises:
            InputError: shapes do not fit, or dimensions differ without `prefix`.
        """
        own, against = against_memory(self.memory, embeddings, labels, old_views, self.prefix)
        with full_precision(embeddings):
            return contrast(own, against.impostor, self.temperature)


def contrast(own: Tensor, impostor: Tensor, temperature: float) -> Tensor:
    """UniBCT Eq. 12 from scores: `own` (B,) of the positives, `impostor` (B, K) of the negatives, -inf = none."""
    logits = torch.cat([own[:, None], impostor], dim=1) / temperature
    positives = torch.zeros(len(own), dtype=torch.int64, device=own.device)
    return functional.cross_entropy(logits, positives, reduction="sum") / max(1, len(own))


def check_temperature(temperature: float) -> float:
    """Return the temperature.

    Raises:
        InputError: not a finite number above zero.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature is {temperature}; expected a finite number above 0")
    return temperature

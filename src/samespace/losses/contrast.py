"""Contrast of new embeddings against the old embeddings of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_old, full_precision, old_part, widen


class ContrastiveLoss(nn.Module):
    """New embedding against the old one of the same image, among old ones of other classes: UniBCT Eq. 12.

    Old embeddings of *other images of the same class* are neither positive nor negative. Only classes of the batch
    serve as negatives, so large batches of many classes help; a batch of one class has loss zero. In UniBCT's Table 2
    (extended-data) it has the best cross-model rank-1 and fails the criterion at verification.

    Args:
        temperature: τ, divides the cosines; the paper gives none.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: a temperature not above zero.

    Example:
        >>> loss = ContrastiveLoss(temperature=0.05)
        >>> float(loss(torch.eye(3), torch.tensor([0, 1, 2]), torch.eye(3))) < 1e-6
        True
    """

    needs_old_embeddings = True

    def __init__(self, *, temperature: float = 0.05, prefix: bool = False) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise InputError(f"temperature is {temperature}; expected a finite number above 0")
        self.temperature = temperature
        self.prefix = prefix

    def forward(self, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers.
            old_embeddings: (B, old_dim) of the same images; no gradient goes there.

        Raises:
            InputError: shapes do not fit, or dimensions differ without `prefix`.
        """
        check_batch(embeddings, labels)
        check_old(embeddings, old_embeddings)
        with full_precision(embeddings):
            new = widen(old_part(embeddings, old_embeddings.shape[1], self.prefix))
            old = widen(old_embeddings.detach()).to(new.dtype)
            logits = functional.linear(functional.normalize(new) / self.temperature, functional.normalize(old))
            same_class = labels[:, None] == labels[None, :]
            others = same_class.fill_diagonal_(False)
            positives = torch.arange(len(labels), device=logits.device)
            total = functional.cross_entropy(logits.masked_fill(others, -torch.inf), positives, reduction="sum")
            return total / max(1, len(labels))

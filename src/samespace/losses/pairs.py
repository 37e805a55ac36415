"""The tie of the default method without labels: matching and contrast where pairs say what belongs together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.losses.contrast import ContrastiveLoss
from samespace.losses.matching import MatchingLoss


class PairsLoss(nn.Module):
    """Matching and contrast of `MatchedLoss` for pairs, such as a query and the document that answers it.

    matching_weight · `MatchingLoss` (β = 0), the mean over all columns, + contrast_weight · `ContrastiveLoss` of the
    new query against the old documents of the batch: its own is the positive, the others are negatives, and documents
    of one old vector are neither. It stands beside the new model's own loss on the same batch.

    There is no tail: without labels nobody knows which of the stored old vectors are impostors. Fails, that is gains
    little, where the old model is weak, since its function is then mostly noise; a smaller `matching_weight` leaves the
    new model more room of its own.

    Args:
        matching_weight: how close each new vector is kept to the old one of the same text.
        contrast_weight: 0 leaves the contrast out, and must where there is one column.
        temperature: of the contrast.
        prefix: compare the leading old_dim entries of wider embeddings.

    Raises:
        InputError: a weight below zero or none above it, or a temperature not above zero.

    Example:
        >>> old = torch.eye(3)[:, None].repeat(1, 2, 1)
        >>> round(float(PairsLoss()([torch.eye(3), torch.eye(3)], old)), 4)
        0.0
    """

    def __init__(
        self,
        *,
        matching_weight: float = 10.0,
        contrast_weight: float = 0.5,
        temperature: float = 0.05,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        weights = matching_weight, contrast_weight
        if not all(weight >= 0 and math.isfinite(weight) for weight in weights) or not any(weights):
            raise InputError(
                f"matching_weight and contrast_weight are {matching_weight} and {contrast_weight}; expected finite "
                "numbers of at least 0, one of them above"
            )
        self.matching_weight, self.contrast_weight = weights
        self.matching = MatchingLoss(beta=0.0, prefix=prefix)
        self.contrast = ContrastiveLoss(temperature=temperature, prefix=prefix)

    def forward(self, embeddings: Sequence[Tensor], old_embeddings: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: N columns of (B, new_dim); the first holds queries, the second the documents that answer them,
                further ones whatever else is embedded, such as hard negatives.
            old_embeddings: (B, N, old_dim) old vectors of the same texts; no gradient goes there.

        Raises:
            InputError: shapes do not fit, or dimensions differ without `prefix`.
        """
        if old_embeddings.dim() != 3 or old_embeddings.shape[1] != len(embeddings):
            raise InputError(
                f"old vectors are (batch, {len(embeddings)}, dims), one for each of the {len(embeddings)} columns, "
                f"got {tuple(old_embeddings.shape)}"
            )
        if self.contrast_weight and len(embeddings) < 2:
            raise InputError("contrast needs pairs, and there is one column; set contrast_weight to 0")
        old = old_embeddings.detach().unbind(1)
        loss = embeddings[0].new_zeros(())
        if self.matching_weight:
            columns = [self.matching(new, None, vectors) for new, vectors in zip(embeddings, old, strict=True)]
            loss = loss + self.matching_weight * torch.stack(columns).mean()
        if self.contrast_weight:
            _, same = torch.unique(old[1], dim=0, return_inverse=True)
            loss = loss + self.contrast_weight * self.contrast(embeddings[0], same, old[1])
        return loss
